//! The injection of each fault.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use test_support::api_front::ApiFault;
use test_support::manifests::OPERATOR;
use test_support::proxy::Network;
use test_support::{Operator, eventually};

use super::{
    APART, EndpointFault, Fault, Fleet, INTEGRATIONS, SHORT_TIMEOUT, TAKEOVER, environment, is_apart, replica,
};

impl Fleet {
    pub(super) async fn inject(&mut self, fault: Fault, lasts: Duration) {
        match fault {
            Fault::CrashAt(failpoint) => self.crash_at(failpoint).await,
            Fault::KilledAlone => {
                self.standby.terminate(SHORT_TIMEOUT);
                self.leader.kill();
                self.both().await;
            }
            Fault::KilledWithStandby => {
                self.leader.kill();
                self.restore_standby().await;
            }
            Fault::TerminatedAlone => {
                self.standby.terminate(SHORT_TIMEOUT);
                self.leader.terminate(SHORT_TIMEOUT);
                self.both().await;
            }
            Fault::TerminatedWithStandby => {
                self.leader.terminate(SHORT_TIMEOUT);
                self.restore_standby().await;
            }
            Fault::StandbyKilled => {
                self.standby.kill();
                self.standby = self.start_replica(&self.direct, "").await;
            }
            Fault::RollingUpdate => {
                let new = self.start_replica(&self.direct, "").await;
                std::mem::replace(&mut self.standby, new).terminate(SHORT_TIMEOUT);
                let new = self.start_replica(&self.through_network, "").await;
                std::mem::replace(&mut self.leader, new).terminate(SHORT_TIMEOUT);
                let (one, other) = (&self.leader, &self.standby);
                let leads = async || if one.leads() || other.leads() { Ok(()) } else { Err(one.get("/readyz").1) };
                eventually("one of the new ones leads", TAKEOVER, leads).await;
                // The suite continues with the one behind the network.
                if self.standby.leads() {
                    self.swap().await;
                }
            }
            Fault::FrozenBriefly => {
                self.leader.signal("STOP");
                tokio::time::sleep(lasts).await;
                self.leader.signal("CONT");
            }
            Fault::FrozenUntilAnotherLeads => {
                self.leader.signal("STOP");
                self.standby_leads().await;
                self.leader.signal("CONT");
                self.swap().await;
            }
            Fault::Api(network) => {
                self.api_network.set(network);
                tokio::time::sleep(lasts).await;
                self.api_network.set(Network::Up);
            }
            Fault::ApiCutUntilLeaseExpires => {
                self.api_network.set(Network::Cut);
                self.standby_leads().await;
                self.api_network.set(Network::Up);
                self.swap().await;
            }
            Fault::Endpoint(network) => {
                self.endpoint_network.set(network);
                tokio::time::sleep(lasts).await;
                self.endpoint_network.set(Network::Up);
            }
            Fault::ApiResponds(fault) => {
                self.api_front.set(fault);
                tokio::time::sleep(lasts).await;
                self.api_front.set(ApiFault::None);
            }
            Fault::CertificateExpired => {
                self.identity.set_expired(true);
                self.reset_endpoint();
                tokio::time::sleep(lasts).await;
                self.identity.set_expired(false);
            }
            Fault::NameUnresolvable => {
                self.names.set_known(false);
                self.reset_endpoint();
                tokio::time::sleep(lasts).await;
                self.names.set_known(true);
            }
            Fault::BothCut => {
                self.endpoint_network.set(Network::Cut);
                self.api_network.set(Network::Cut);
                tokio::time::sleep(lasts).await;
                self.endpoint_network.set(Network::Up);
                self.api_network.set(Network::Up);
            }
            Fault::Responses(fault) => {
                *self.endpoint_fault.lock().expect("no panic") = fault;
                tokio::time::sleep(lasts).await;
                *self.endpoint_fault.lock().expect("no panic") = EndpointFault::None;
            }
            Fault::ApiServerRestarts => self.control_plane.restart_apiserver(),
            Fault::EtcdRestarts => self.control_plane.restart_etcd(),
            Fault::PermissionsRemoved => self.permissions_removed(lasts).await,
            Fault::SecretsEdited => self.edit_secrets().await,
            Fault::CredentialsTouched => self.touch_credentials().await,
            Fault::CrdTouched => test_support::manifests::install_crd(&self.control_plane),
        }
    }

    /// Closes the existing connections, so that new ones must be opened.
    fn reset_endpoint(&self) {
        self.endpoint_network.set(Network::Cut);
        self.endpoint_network.set(Network::Up);
    }

    /// A replica that connects with this kubeconfig: through the interruptible network if it should lead, or directly.
    async fn start_replica(&self, kubeconfig: &std::path::Path, failpoint: &str) -> Operator {
        replica(kubeconfig, &self.namespace, &environment(&self.names, &self.identity, failpoint)).await
    }

    /// A replica with a failpoint becomes the leader and crashes there; then two new replicas are started.
    async fn crash_at(&mut self, failpoint: &str) {
        self.standby.terminate(SHORT_TIMEOUT);
        self.standby = self.start_replica(&self.through_network, failpoint).await;
        self.leader.terminate(SHORT_TIMEOUT);
        self.standby.wait_for_exit(SHORT_TIMEOUT);
        self.both().await;
    }

    /// Starts two replicas; the first one leads.
    async fn both(&mut self) {
        self.leader = self.start_replica(&self.through_network, "").await;
        let leader = &self.leader;
        eventually("it leads", TAKEOVER, async || if leader.leads() { Ok(()) } else { Err(leader.get("/readyz").1) })
            .await;
        self.standby = self.start_replica(&self.direct, "").await;
    }

    async fn standby_leads(&self) {
        let standby = &self.standby;
        eventually(
            "the standby leads",
            TAKEOVER,
            async || {
                if standby.leads() { Ok(()) } else { Err(standby.get("/readyz").1) }
            },
        )
        .await;
    }

    /// After the loss of the leader: the standby leads, then a new replica behind the interruptible network.
    async fn restore_standby(&mut self) {
        self.standby_leads().await;
        self.leader = self.start_replica(&self.through_network, "").await;
        self.swap().await;
    }

    /// The standby releases the lease, the leader acquires it, and a new standby is started.
    async fn swap(&mut self) {
        self.standby.terminate(SHORT_TIMEOUT);
        let leader = &self.leader;
        eventually(
            "it leads again",
            TAKEOVER,
            async || if leader.leads() { Ok(()) } else { Err(leader.get("/readyz").1) },
        )
        .await;
        self.standby = self.start_replica(&self.direct, "").await;
    }

    async fn permissions_removed(&self, lasts: Duration) {
        let roles = Api::<Role>::namespaced(self.client.clone(), &self.namespace);
        let role = roles.get(OPERATOR).await.expect("the role");
        let mut less = role.clone();
        less.metadata.managed_fields = None;
        for rule in less.rules.iter_mut().flatten() {
            if rule.resources.as_ref().is_some_and(|resources| resources.contains(&"secrets".to_owned())) {
                rule.verbs.retain(|verb| !["create", "patch"].contains(&verb.as_str()));
            }
        }
        let written = roles.replace(OPERATOR, &PostParams::default(), &less).await.expect("fewer permissions");
        tokio::time::sleep(lasts).await;
        let mut back = role;
        back.metadata.resource_version = written.metadata.resource_version;
        roles.replace(OPERATOR, &PostParams::default(), &back).await.expect("all permissions");
    }

    /// Another actor removes an annotation of the operator from every tenth Secret, and replaces the access token in others,
    /// and removes one from some of the Secrets for refresh tokens.
    async fn edit_secrets(&self) {
        for number in (0..INTEGRATIONS).step_by(10) {
            let annotations = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-at": null}}});
            let data = json!({"data": {"access_token": "a2FuYXJpZS1vdGhlcg=="}});
            for (offset, patch) in [(0, annotations), (1, data)] {
                let name = format!("it-{}", number + offset);
                self.secrets().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("an edit");
            }
        }
        let annotations = json!({"metadata": {"annotations": {"oauth.evolutionx.io/issued-at": null}}});
        for number in (0..INTEGRATIONS).filter(|number| is_apart(*number)).step_by(5) {
            let name = format!("it-{number}{APART}");
            self.secrets().patch(&name, &PatchParams::default(), &Patch::Merge(&annotations)).await.expect("an edit");
        }
    }

    async fn touch_credentials(&self) {
        for number in 0..INTEGRATIONS {
            let patch = json!({"metadata": {"annotations": {"touched": Timestamp::now().to_string()}}});
            let name = format!("it-{number}-credentials");
            self.secrets()
                .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .expect("the Secret is annotated");
        }
    }
}
