//! The environment of tests with cluster-scoped providers.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use oauth_operator::api::provider::{ClusterOAuthProvider, OAuthProvider, ProviderStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use test_support::world::SHORT_TIMEOUT;
use test_support::{ControlPlane, World, eventually};
use tokio::sync::{Mutex, MutexGuard};

/// Every operator that uses cluster-scoped providers writes the status of all of them, so there is only one at a time.
static CLUSTER_PROVIDERS: Mutex<()> = Mutex::const_new(());

/// Waits until no other test uses cluster-scoped providers in the shared control plane.
pub async fn exclusive() -> MutexGuard<'static, ()> {
    CLUSTER_PROVIDERS.lock().await
}

/// A world whose operator uses cluster-scoped providers, whose Secrets are in a namespace of their own.
pub struct Platform {
    pub world: World,
    /// The namespace of the platform team, which stands for that of the operator.
    pub namespace: String,
    /// Dropped after the operator.
    _exclusive: MutexGuard<'static, ()>,
}

impl Platform {
    pub async fn new(name: &str) -> Self {
        let exclusive = exclusive().await;
        let namespace = ControlPlane::shared().namespace(&format!("{name}-platform")).await;
        let flag = format!("--cluster-provider-namespace={namespace}");
        let world = World::with(name, &["--cluster-providers", &flag]).await;
        Self { world, namespace, _exclusive: exclusive }
    }

    pub fn providers(&self) -> Api<ClusterOAuthProvider> {
        Api::all(self.world.client.clone())
    }

    /// The name of the provider: it is unique in the cluster.
    pub fn name(&self) -> String {
        self.world.namespace.clone()
    }

    pub async fn provider(&self, spec: &Value) {
        let object = json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "ClusterOAuthProvider",
            "metadata": {"name": self.name()}, "spec": spec,
        });
        let (providers, params) = (self.providers(), PatchParams::apply("platform").force());
        let written = providers.patch(&self.name(), &params, &Patch::Apply(&object)).await;
        written.unwrap_or_else(|error| panic!("the provider cannot be written: {error}"));
    }

    /// Waits until the condition `Ready` of the provider has a status and a reason.
    pub async fn provider_is(&self, status: &str, reason: &str) {
        provider_is(&self.providers(), &self.name(), status, reason).await;
    }

    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = values.iter().copied().collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let secrets = Api::<Secret>::namespaced(self.world.client.clone(), &self.namespace);
        secrets.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&secret)).await.expect("a Secret");
    }

    /// Writes an object into the namespace of the platform team.
    pub async fn object<K>(&self, object: &Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let objects = Api::<K>::namespaced(self.world.client.clone(), &self.namespace);
        let name = object["metadata"]["name"].as_str().expect("a name");
        let written = objects.patch(name, &PatchParams::apply("platform").force(), &Patch::Apply(object)).await;
        written.unwrap_or_else(|error| panic!("{name} cannot be written: {error}"));
    }

    pub async fn integration(&self, name: &str, own: &Value) {
        let mut spec = json!({
            "grantType": "client_credentials", "providerRef": {"kind": "ClusterOAuthProvider", "name": self.name()},
        });
        spec.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
        self.world.integration(name, &spec).await;
    }
}

/// Waits until the condition `Ready` of a provider has a status and a reason.
pub async fn provider_is<K>(api: &Api<K>, name: &str, status: &str, reason: &str) -> ProviderStatus
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + HasStatus,
{
    eventually(&format!("provider {name} Ready={status} {reason}"), SHORT_TIMEOUT, async || {
        let found = api.get(name).await.map_err(|error| error.to_string())?.status().clone().unwrap_or_default();
        let is_found =
            found.conditions.iter().any(|condition| condition.status == status && condition.reason == reason);
        if is_found { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

pub trait HasStatus {
    fn status(&self) -> &Option<ProviderStatus>;
}

impl HasStatus for ClusterOAuthProvider {
    fn status(&self) -> &Option<ProviderStatus> {
        &self.status
    }
}

impl HasStatus for OAuthProvider {
    fn status(&self) -> &Option<ProviderStatus> {
        &self.status
    }
}
