//! The environment of one test: its own namespace on the shared control plane, and an operator that watches it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::{Value, json};

use crate::manifests::OPERATOR;
use crate::messages::without_page;
use crate::{ControlPlane, Operator, eventually};

/// The timeout for everything that should happen immediately, even on a busy machine.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(20);

/// A namespace, a cluster-admin client, and an operator that watches the namespace.
pub struct World {
    /// The name of the namespace.
    pub namespace: String,
    /// A cluster-admin client.
    pub client: Client,
    /// The operator, with the permissions of the chart.
    pub operator: Operator,
    /// The kubeconfig of the operator and of further replicas.
    pub kubeconfig: PathBuf,
}

/// A spec for client credentials, with the names that the other helpers use.
pub fn client_credentials(endpoint: &str) -> Value {
    json!({"tokenEndpoint": endpoint, "grantType": "client_credentials", "credentials": {"secretName": "credentials"}})
}

impl World {
    /// A new namespace with an operator.
    pub async fn new(name: &str) -> Self {
        Self::with(name, &[]).await
    }

    /// A new namespace with an operator that gets additional flags.
    pub async fn with(name: &str, flags: &[&str]) -> Self {
        let control_plane = ControlPlane::shared();
        let namespace = control_plane.namespace(name).await;
        let kubeconfig = crate::operator::kubeconfig(control_plane).await;
        let arguments = [&["--namespace", namespace.as_str()], flags].concat();
        let operator = Operator::start_with(&kubeconfig, &arguments).await;
        Self { operator, client: control_plane.client().await, namespace, kubeconfig }
    }

    /// A new namespace with a replica that takes part in leader election and connects to the API server through this
    /// port.
    pub async fn elected(name: &str, port: Option<u16>) -> Self {
        let control_plane = ControlPlane::shared();
        let namespace = control_plane.namespace(name).await;
        crate::manifests::install_permissions_in(control_plane, &namespace);
        let port = port.unwrap_or(control_plane.address().port());
        let first = control_plane.kubeconfig_through(&namespace, OPERATOR, port).await;
        let kubeconfig = control_plane.kubeconfig_for(&namespace, OPERATOR).await;
        let operator = replica(&first, &namespace).await;
        Self { operator, client: control_plane.client().await, namespace, kubeconfig }
    }

    /// A new namespace with an operator that restarts workloads, and has the permissions for it.
    pub async fn restarting(control_plane: &ControlPlane, name: &str, flags: &[&str]) -> Self {
        let namespace = control_plane.namespace(name).await;
        crate::manifests::install_permissions_with_restarts_in(control_plane, &namespace);
        let kubeconfig = control_plane.kubeconfig_for(&namespace, OPERATOR).await;
        let own = ["--namespace", namespace.as_str(), "--lease-namespace", namespace.as_str(), "--restarts"];
        let arguments = [&own[..], flags].concat();
        let operator = Operator::start_with(&kubeconfig, &arguments).await;
        Self { operator, client: control_plane.client().await, namespace, kubeconfig }
    }

    /// Requests a renewal, as a user does.
    pub async fn request_renewal(&self, name: &str, request: &str) {
        let annotation = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": request}}});
        self.change(name, &annotation).await;
    }

    /// Requests a renewal, and waits until it is done.
    pub async fn renew(&self, name: &str, request: &str) {
        self.request_renewal(name, request).await;
        eventually(&format!("{name} is renewed"), SHORT_TIMEOUT, async || {
            let handled = self.get(name).await.status.and_then(|status| status.last_handled_renew_request);
            if handled.as_deref() == Some(request) { Ok(()) } else { Err(format!("{handled:?}\n{}", self.tail())) }
        })
        .await;
    }

    /// Starts another replica.
    pub async fn replica(&self) -> Operator {
        replica(&self.kubeconfig, &self.namespace).await
    }

    /// The API of the integrations of the namespace.
    pub fn integrations(&self) -> Api<OAuthIntegration> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The API of the Secrets of the namespace.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates or updates a Secret with these values.
    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = values.iter().copied().collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let params = PatchParams::apply("test").force();
        let written = self.secrets().patch(name, &params, &Patch::Apply(&secret)).await;
        written.unwrap_or_else(|error| panic!("Secret {name} cannot be written: {error}"));
    }

    /// Creates or updates a Secret with values that may be binary.
    pub async fn binary_secret(&self, name: &str, values: &[(&str, &[u8])]) {
        let data: BTreeMap<_, _> = values.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        let params = PatchParams::apply("test").force();
        let written = self.secrets().patch(name, &params, &Patch::Apply(&secret)).await;
        written.unwrap_or_else(|error| panic!("Secret {name} cannot be written: {error}"));
    }

    /// Sets the allowed endpoints of a Secret.
    pub async fn pin(&self, secret: &str, endpoints: &str) {
        let patch = json!({"metadata": {"annotations": {"oauth.evolutionx.io/allowed-endpoints": endpoints}}});
        let pinned = self.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&patch)).await;
        pinned.unwrap_or_else(|error| panic!("Secret {secret} cannot be pinned: {error}"));
    }

    /// Allows integrations to use a custom CA bundle with a Secret.
    pub async fn allow_ca_bundle(&self, secret: &str) {
        let patch = json!({"metadata": {"annotations": {"oauth.evolutionx.io/allow-ca-bundle": "true"}}});
        let allowed = self.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&patch)).await;
        allowed.unwrap_or_else(|error| panic!("Secret {secret} cannot be changed: {error}"));
    }

    /// Creates a ConfigMap with one value.
    pub async fn config_map(&self, name: &str, key: &str, value: &str) {
        let config_map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: value},
        });
        let api = Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let written = api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&config_map)).await;
        written.unwrap_or_else(|error| panic!("ConfigMap {name} cannot be written: {error}"));
    }

    /// Deletes an integration, and waits until it is deleted.
    pub async fn delete(&self, name: &str) {
        let deleted = self.integrations().delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{name} cannot be deleted: {error}"));
        eventually(&format!("{name} is deleted"), Duration::from_secs(40), async || {
            match self.integrations().get_opt(name).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}\n{}", self.tail())),
            }
        })
        .await;
    }

    /// The credentials that [`client_credentials`] names.
    pub async fn credentials(&self) {
        self.secret("credentials", &[("client_id", "the-client"), ("client_secret", "the-client-secret")]).await;
    }

    /// Creates an integration.
    pub async fn integration(&self, name: &str, spec: &Value) -> OAuthIntegration {
        self.try_integration(name, spec).await.unwrap_or_else(|error| panic!("{name} cannot be created: {error}"))
    }

    /// Creates an integration, or returns the error of the API server.
    pub async fn try_integration(&self, name: &str, spec: &Value) -> Result<OAuthIntegration, kube::Error> {
        let object = json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "metadata": {"name": name}, "spec": spec});
        let api = Api::<kube::api::DynamicObject>::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &kube::api::ApiResource::erase::<OAuthIntegration>(&()),
        );
        let object = serde_json::from_value(object).expect("an object");
        let made = api.create(&PostParams::default(), &object).await?;
        Ok(serde_json::from_value(serde_json::to_value(made).expect("JSON")).expect("an integration"))
    }

    /// Changes an integration by a merge patch.
    pub async fn change(&self, name: &str, patch: &Value) -> OAuthIntegration {
        let changed = self.integrations().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        changed.unwrap_or_else(|error| panic!("{name} cannot be changed: {error}"))
    }

    /// Deletes a Secret; panics if that fails.
    pub async fn delete_secret(&self, name: &str) {
        let deleted = self.secrets().delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("Secret {name} cannot be deleted: {error}"));
    }

    /// Reads an integration; panics if it does not exist.
    pub async fn get(&self, name: &str) -> OAuthIntegration {
        self.integrations().get(name).await.unwrap_or_else(|error| panic!("{name} cannot be read: {error}"))
    }

    /// The values of a Secret, as text; `None` if it does not exist.
    pub async fn values(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let secret = self.secrets().get_opt(name).await.expect("a read of a Secret")?;
        let data = secret.data.unwrap_or_default();
        Some(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    /// One value of a Secret; empty if it does not exist.
    pub async fn value(&self, name: &str, key: &str) -> String {
        self.values(name).await.and_then(|mut values| values.remove(key)).unwrap_or_default()
    }

    /// Waits until a condition of an integration has a status and a reason.
    pub async fn condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> Condition {
        eventually(&format!("{name} {type_}={status} {reason}"), SHORT_TIMEOUT, async || {
            let integration = self.get(name).await;
            let generation = integration.metadata.generation;
            let found = condition(&integration, type_).filter(|found| {
                found.status == status && found.reason == reason && found.observed_generation == generation
            });
            found.ok_or_else(|| format!("{:?}\n{}", integration.status, self.tail()))
        })
        .await
    }

    /// Waits until an integration is ready for its current spec.
    pub async fn ready(&self, name: &str) -> OAuthIntegration {
        self.condition(name, "Ready", "True", "TokenValid").await;
        self.get(name).await
    }

    /// Waits until a value of a Secret differs from `old`, and returns it.
    pub async fn wait_for_change(&self, secret: &str, key: &str, old: &str) -> String {
        eventually(&format!("another {key} in {secret}"), Duration::from_secs(60), async || {
            let value = self.value(secret, key).await;
            if value.is_empty() || value == old { Err(format!("{value:?}\n{}", self.tail())) } else { Ok(value) }
        })
        .await
    }

    /// Waits until a label of a Secret has a value, or is absent.
    pub async fn label(&self, secret: &str, label: &str, value: Option<&str>) {
        eventually(&format!("label {label} of {secret} is {value:?}"), SHORT_TIMEOUT, async || {
            let found = self.secrets().get(secret).await.map_err(|error| error.to_string())?;
            let found = found.labels().get(label).map(String::as_str);
            if found == value { Ok(()) } else { Err(format!("{found:?}\n{}", self.tail())) }
        })
        .await;
    }

    /// Waits until there is an event with this reason about an integration.
    pub async fn event(&self, name: &str, reason: &str) -> Event {
        eventually(&format!("event {reason} for {name}"), SHORT_TIMEOUT, async || {
            let events = self.events(name).await;
            let found = events.iter().find(|event| event.reason.as_deref() == Some(reason)).cloned();
            found.ok_or_else(|| format!("{:?}", events.iter().map(|event| event.reason.clone()).collect::<Vec<_>>()))
        })
        .await
    }

    /// The events about an integration.
    pub async fn events(&self, name: &str) -> Vec<Event> {
        let all = Api::<Event>::namespaced(self.client.clone(), &self.namespace).list(&ListParams::default()).await;
        let all = all.expect("a list of events").items;
        all.into_iter()
            .filter(|event| event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some(name)))
            .collect()
    }

    /// Everything that can be read without the permission to read Secrets, to be searched for secret values.
    pub async fn observable_output(&self) -> String {
        let integrations =
            self.integrations().list(&ListParams::default()).await.expect("a list of integrations").items;
        let events = Api::<Event>::namespaced(self.client.clone(), &self.namespace).list(&ListParams::default()).await;
        let events = events.expect("a list of events").items;
        format!(
            "{}\n{}\n{}\n{}",
            serde_json::to_string(&integrations).expect("JSON"),
            serde_json::to_string(&events).expect("JSON"),
            self.operator.logs(),
            self.operator.metrics(),
        )
    }

    /// The end of the operator's log, for a message.
    fn tail(&self) -> String {
        let log = self.operator.logs();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

async fn replica(kubeconfig: &Path, namespace: &str) -> Operator {
    let arguments = ["--namespace", namespace, "--leader-elect", "--lease-namespace", namespace];
    Operator::start_with(kubeconfig, &arguments).await
}

/// A spec for rotating refresh tokens, with its own credentials.
pub fn rotating(endpoint: &str, credentials: &str) -> Value {
    json!({
        "tokenEndpoint": endpoint,
        "grantType": "refresh_token",
        "credentials": {"secretName": credentials},
    })
}

/// A condition of an integration, without the address of the page about its reason.
pub fn condition(integration: &OAuthIntegration, type_: &str) -> Option<Condition> {
    let mut found = integration.status.as_ref()?.conditions.iter().find(|found| found.type_ == type_).cloned()?;
    found.message = without_page(&found.message).to_owned();
    Some(found)
}

/// The UID of an object, for checks of owner references.
pub fn uid(object: &impl ResourceExt) -> String {
    object.uid().unwrap_or_default()
}
