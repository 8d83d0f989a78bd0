//! 2,000 integrations in 50 namespaces at one server, with one provider and, in the same run, without: the client secret is
//! rotated, and the endpoint moves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use oauth_operator::api::provider::ClusterOAuthProvider;
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::OPERATOR;
use test_support::{ControlPlane, Operator, eventually};

use crate::fleet::{AT_ONCE, difference, print_calls};
use crate::renewals::peak;

const NAMESPACES: usize = 50;
const INTEGRATIONS: usize = 2_000;

/// What the two runs have to tell.
struct Figures {
    /// The memory for all integrations, in bytes.
    memory: u64,
    /// CPU time of the operator for one renewal, in seconds.
    cpu: f64,
}

pub async fn run() {
    println!("\nprovider: {INTEGRATIONS} integrations in {NAMESPACES} namespaces, with one provider and without");
    let without = Scenario::new(false).await.run().await;
    let with = Scenario::new(true).await.run().await;
    println!("  with / without");
    println!("    memory      {:.2}", with.memory as f64 / without.memory as f64);
    println!("    CPU         {:.2} for a renewal", with.cpu / without.cpu);
}

struct Scenario {
    has_provider: bool,
    control_plane: ControlPlane,
    client: Client,
    namespaces: Vec<String>,
    servers: [Endpoint; 2],
}

/// How a server is reached, and as whom: what a provider has in common for all integrations.
fn common(url: &str) -> Value {
    json!({
        "tokenEndpoint": url,
        "clientAuthentication": {"method": "client_secret_basic"},
        "credentials": {"secretName": "erp-client"},
        "request": {
            "format": "form", "timeout": "20s", "headers": {"User-Agent": "billing/1.0", "X-Tenant": "example"},
            "parameters": {"tenant": "example", "environment": "production"},
        },
        "response": {"accessToken": "data.token", "expiresIn": "data.expires_in"},
        "resource": {"key": "audience", "value": "https://api.example.com/erp"},
        "tokenLife": "1h",
    })
}

fn server() -> Endpoint {
    let number = AtomicUsize::new(0);
    Endpoint::start(move |_| {
        let token = format!("token-{}", number.fetch_add(1, Ordering::Relaxed));
        Reply::json(200, &json!({"data": {"token": token, "expires_in": 3600}}))
    })
}

impl Scenario {
    async fn new(has_provider: bool) -> Self {
        let control_plane = ControlPlane::start();
        test_support::manifests::install_crd(&control_plane);
        test_support::manifests::install_permissions(&control_plane);
        let client = control_plane.client().await;
        let mut namespaces = Vec::new();
        for _ in 0..NAMESPACES {
            namespaces.push(control_plane.namespace("tenant").await);
        }
        let scenario = Self { has_provider, control_plane, client, namespaces, servers: [server(), server()] };
        scenario.set_secret("secret-1").await;
        if has_provider {
            scenario.set_provider(0).await;
        }
        scenario
    }

    /// The operator's own namespace, or that of each tenant.
    async fn set_secret(&self, value: &str) {
        let own = [OPERATOR.to_owned()];
        let namespaces = if self.has_provider { &own[..] } else { &self.namespaces[..] };
        for namespace in namespaces {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "erp-client"},
                "stringData": {"client_id": "platform", "client_secret": value},
            });
            let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
            secrets.patch("erp-client", &PatchParams::apply("bench"), &Patch::Apply(&secret)).await.expect("a Secret");
        }
    }

    async fn set_provider(&self, server: usize) {
        let mut spec = common(&self.servers[server].url());
        spec["allow"] = json!([{"namespaces": {}, "scopes": ["orders.read"]}]);
        let provider = json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "ClusterOAuthProvider", "metadata": {"name": "erp"},
            "spec": spec,
        });
        let providers = Api::<ClusterOAuthProvider>::all(self.client.clone());
        providers.patch("erp", &PatchParams::apply("bench"), &Patch::Apply(&provider)).await.expect("a provider");
    }

    fn spec(&self) -> Value {
        let mut spec = if self.has_provider {
            json!({"providerRef": {"kind": "ClusterOAuthProvider", "name": "erp"}})
        } else {
            common(&self.servers[0].url())
        };
        spec["grantType"] = json!("client_credentials");
        spec["scope"] = json!("orders.read");
        spec
    }

    async fn each<F: Future<Output = ()>>(&self, work: impl Fn(Api<OAuthIntegration>, String) -> F) {
        let all = (0..INTEGRATIONS).map(|number| {
            let namespace = &self.namespaces[number % NAMESPACES];
            (Api::namespaced(self.client.clone(), namespace), format!("it-{number}"))
        });
        futures::stream::iter(all).for_each_concurrent(AT_ONCE, |(api, name)| work(api, name)).await;
    }

    async fn create(&self) {
        let spec = self.spec();
        self.each(|api, name| {
            let spec = serde_json::from_value(spec.clone()).expect("a spec");
            async move {
                api.create(&PostParams::default(), &OAuthIntegration::new(&name, spec)).await.expect("an integration");
            }
        })
        .await;
    }

    async fn move_endpoint(&self) {
        if self.has_provider {
            return self.set_provider(1).await;
        }
        let patch = json!({"spec": {"tokenEndpoint": self.servers[1].url()}});
        self.each(|api, name| {
            let patch = patch.clone();
            async move {
                api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("it is changed");
            }
        })
        .await;
    }

    fn requests(&self) -> usize {
        self.servers.iter().map(Endpoint::count).sum()
    }

    async fn run(self) -> Figures {
        let config = test_support::operator::kubeconfig(&self.control_plane).await;
        let namespace = format!("--cluster-provider-namespace={OPERATOR}");
        let flags = ["--log=info", "--cluster-providers", &namespace, "--max-writes-per-namespace=0", "--max-writes=0"];
        let operator = Operator::start_with(&config, &flags).await;
        let empty = operator.memory();
        self.create().await;
        self.all_written(1).await;
        let title = if self.has_provider { "with the provider" } else { "without a provider" };
        println!("  {title}");
        let memory = operator.memory() - empty;
        println!("    memory      {:.2} KB for each, while idle", memory as f64 / 1e3 / INTEGRATIONS as f64);
        let cpu = operator.cpu_seconds();
        self.measure("rotated secret", 2, self.set_secret("secret-2")).await;
        self.measure("moved endpoint", 3, self.move_endpoint()).await;
        let cpu = (operator.cpu_seconds() - cpu) / (2 * INTEGRATIONS) as f64;
        println!("    CPU         {:.2} ms for a renewal", cpu * 1e3);
        Figures { memory, cpu }
    }

    async fn measure(&self, what: &str, round: usize, change: impl Future<Output = ()>) {
        let (began, started, calls) = (SystemTime::now(), Instant::now(), self.control_plane.calls().await);
        change.await;
        self.all_written(round).await;
        let took = started.elapsed();
        let calls = difference(&self.control_plane.calls().await, &calls);
        let times: Vec<SystemTime> =
            self.servers.iter().flat_map(Endpoint::requests).map(|request| request.at).collect();
        println!(
            "    {what}: all renewed after {:.1} s; peak per second {:.2} times the mean",
            took.as_secs_f64(),
            peak(&times, began)
        );
        print_calls(&calls, INTEGRATIONS);
    }

    /// Waits until each integration has as many tokens as this.
    async fn all_written(&self, round: usize) {
        let wanted = round * INTEGRATIONS;
        eventually("all tokens are requested", Duration::from_secs(600), async || match self.requests() {
            all if all >= wanted => Ok(()),
            some => Err(format!("{some} of {wanted}")),
        })
        .await;
        eventually("all statuses are written", Duration::from_secs(60), async || match self.statuses().await {
            all if all >= wanted => Ok(()),
            some => Err(format!("{some} of {wanted}")),
        })
        .await;
    }

    /// How many statuses were written.
    async fn statuses(&self) -> usize {
        let calls = self.control_plane.calls().await;
        let written = calls.iter().filter(|((verb, resource, subresource), _)| {
            ["PATCH", "APPLY"].contains(&verb.as_str()) && resource == "oauthintegrations" && subresource == "status"
        });
        usize::try_from(written.map(|(_, count)| *count).sum::<u64>()).unwrap_or(usize::MAX)
    }
}
