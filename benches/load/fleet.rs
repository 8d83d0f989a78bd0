//! Integrations on a separate control plane, the operator, and the baseline.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use oauth_operator::api::spec::OAuthIntegration;
use oauth_operator::controller::memory::DEFAULT_LIMIT;
use serde_json::json;
use test_support::control_plane::Calls;
use test_support::operator::kubeconfig;
use test_support::world::client_credentials;
use test_support::{ControlPlane, Operator, eventually};

/// Concurrent calls of the baseline.
pub const AT_ONCE: usize = 64;

/// The memory limit for each integration, in bytes, so that all have room below the bound.
const LIMIT_EACH: usize = 20 << 10;
/// How long it may take at most until the integrations have tokens, and are ready, in milliseconds for each.
const READY_EACH: u64 = 30;

/// Integrations on a separate control plane.
pub struct Fleet {
    pub control_plane: ControlPlane,
    pub client: Client,
    pub namespace: String,
    pub size: usize,
}

/// The cost of the same writes without the operator.
pub struct Baseline {
    pub took: Duration,
    /// CPU time of this process, in seconds.
    pub cpu: f64,
}

impl Fleet {
    /// A fleet whose integrations use these endpoints in rotation. No operator watches it yet.
    pub async fn new(size: usize, endpoints: &[String]) -> Self {
        let control_plane = ControlPlane::start();
        test_support::manifests::install_crd(&control_plane);
        test_support::manifests::install_permissions(&control_plane);
        let client = control_plane.client().await;
        let namespace = control_plane.namespace("fleet").await;
        let fleet = Self { control_plane, client, namespace, size };
        fleet.make(&fleet.namespace, endpoints).await;
        fleet
    }

    pub async fn operator(&self) -> Operator {
        self.operator_with(&[]).await
    }

    /// An operator with further flags. It has room for the fleet, and no write budget: the baseline has none either.
    pub async fn operator_with(&self, flags: &[&str]) -> Operator {
        let config = kubeconfig(&self.control_plane).await;
        let limit = format!("--memory-limit={}", DEFAULT_LIMIT.max(self.size * LIMIT_EACH));
        let own = ["--namespace", &self.namespace, "--log", "warn,oauth_operator::controller::server=info"];
        let unlimited = ["--max-writes-per-namespace=0", "--max-writes=0", &limit];
        Operator::start_with(&config, &[&own[..], &unlimited, flags].concat()).await
    }

    async fn make(&self, namespace: &str, endpoints: &[String]) {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let values = json!({"client_id": "c", "client_secret": "s"});
        let credentials = json!({"metadata": {"name": "credentials"}, "stringData": values});
        let credentials = serde_json::from_value(credentials).expect("a Secret");
        secrets.create(&PostParams::default(), &credentials).await.expect("the credentials");
        let integrations = Api::<OAuthIntegration>::namespaced(self.client.clone(), namespace);
        self.each(|number| {
            let integrations = integrations.clone();
            let spec = client_credentials(&endpoints[number % endpoints.len()]);
            async move {
                let spec = serde_json::from_value(spec).expect("a spec");
                let integration = OAuthIntegration::new(&format!("it-{number}"), spec);
                integrations.create(&PostParams::default(), &integration).await.expect("an integration");
            }
        })
        .await;
    }

    async fn each<F: Future<Output = ()>>(&self, work: impl Fn(usize) -> F) {
        futures::stream::iter(0..self.size).for_each_concurrent(AT_ONCE, work).await;
    }

    /// Waits until the endpoints have issued a token for each integration, and then until all are ready.
    pub async fn all_ready(&self, requests: impl Fn() -> usize) {
        let timeout = Duration::from_mins(1) + Duration::from_millis(READY_EACH * self.size as u64);
        // Checks the endpoints' counters first, which is cheap: repeated lists of all objects would dominate the load.
        eventually("all tokens are requested", timeout, async || match requests() {
            all if all >= self.size => Ok(()),
            some => Err(format!("{some} are")),
        })
        .await;
        eventually("all integrations are ready", timeout, async || match self.ready().await {
            all if all == self.size => Ok(()),
            some => Err(format!("{some} are")),
        })
        .await;
    }

    /// The number of integrations that are ready.
    pub async fn ready(&self) -> usize {
        let integrations = Api::<OAuthIntegration>::namespaced(self.client.clone(), &self.namespace);
        let all = integrations.list(&ListParams::default()).await.expect("a list").items;
        let statuses = all.iter().filter_map(|one| one.status.as_ref());
        statuses.filter(|status| oauth_operator::decision::status::is_ready(status)).count()
    }

    /// Writes the Secrets and statuses of the operator again under other names, as fast as a loop can.
    pub async fn baseline(&self) -> Baseline {
        let namespace = self.control_plane.namespace("baseline").await;
        self.make(&namespace, &["https://login.example.com/token".to_owned()]).await;
        let from = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let model = from.get("it-0").await.expect("a Secret of the operator's");
        let integrations = Api::<OAuthIntegration>::namespaced(self.client.clone(), &self.namespace);
        let status = integrations.get("it-0").await.expect("one").status;
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &namespace);
        let integrations = Api::<OAuthIntegration>::namespaced(self.client.clone(), &namespace);
        let (started, cpu) = (Instant::now(), cpu_seconds());
        self.each(|number| {
            let (secrets, integrations, status) = (secrets.clone(), integrations.clone(), status.clone());
            let name = format!("it-{number}");
            let mut secret = Secret { data: model.data.clone(), ..Secret::default() };
            secret.metadata.annotations = Some(model.annotations().clone());
            secret.metadata.labels = Some(model.labels().clone());
            secret.metadata.name = Some(name.clone());
            async move {
                let params = PatchParams::apply("baseline").force();
                secrets.patch(&name, &params, &Patch::Apply(&secret)).await.expect("a Secret");
                let patch =
                    json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "status": status});
                integrations.patch_status(&name, &params, &Patch::Apply(&patch)).await.expect("a status");
            }
        })
        .await;
        Baseline { took: started.elapsed(), cpu: cpu_seconds() - cpu }
    }
}

/// The calls between two readings of the counters.
pub fn difference(after: &Calls, before: &Calls) -> Calls {
    let more = |(call, count): (&_, &u64)| (Clone::clone(call), count - before.get(call).copied().unwrap_or_default());
    after.iter().map(more).filter(|(_, count)| *count > 0).collect()
}

/// Prints the number of calls of each kind, divided by `all`.
pub fn print_calls(calls: &Calls, all: usize) {
    let ours = |resource: &str| ["secrets", "oauthintegrations", "events"].contains(&resource);
    let named: Vec<_> = calls.iter().filter(|((verb, resource, _), _)| ours(resource) && verb != "WATCH").collect();
    let sum: u64 = named.iter().map(|(_, count)| **count).sum();
    println!("  API calls     {:.2} for each", sum as f64 / all as f64);
    for ((verb, resource, subresource), count) in named.into_iter().filter(|(_, count)| **count * 100 > all as u64) {
        let slash = if subresource.is_empty() { "" } else { "/" };
        println!("    {verb:<6} {resource}{slash}{subresource}  {:.2}", *count as f64 / all as f64);
    }
}

/// CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
