//! Time, calls and memory until 1,000 integrations have their Secrets, beside the floor: the same Secrets and statuses
//! written bare by a plain loop, on the same fresh control plane in the same run. Figures are compared as ratios; none is
//! asserted.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::control_plane::Calls;
use common::endpoint::{Endpoint, Reply};
use common::operator::kubeconfig;
use common::world::client_credentials;
use common::{ControlPlane, Operator, eventually};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use oauth_operator::api::OAuthIntegration;
use serde_json::{Value, json};

const INTEGRATIONS: usize = 1_000;
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() {
    println!("booting a control plane of its own");
    let control_plane = ControlPlane::start();
    common::manifests::install_crd(&control_plane);
    common::manifests::install_rights(&control_plane);
    let client = control_plane.client().await;
    let endpoint = Endpoint::start(|_| Reply::token(3600));

    let namespace = control_plane.namespace("operator").await;
    make(&client, &namespace, &endpoint.url()).await;
    println!("{INTEGRATIONS} integrations and one credentials Secret are there; starting the operator");
    let config = kubeconfig(&control_plane).await;
    let calls_before = control_plane.calls().await;
    let started = Instant::now();
    let operator =
        Operator::start_with(&config, &["--namespace", &namespace, "--log", "warn,oauth_operator::server=info"]).await;
    all_ready(&endpoint, &client, &namespace).await;
    let took = started.elapsed();
    let (memory, cpu) = (operator.memory(), operator.cpu_seconds());
    let calls = difference(&control_plane.calls().await, &calls_before);
    drop(operator);

    let floor = floor(&control_plane, &client, &namespace).await;
    report(took, floor, memory, cpu, &calls, endpoint.connections());
}

async fn make(client: &Client, namespace: &str, endpoint: &str) {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let credentials =
        json!({"metadata": {"name": "credentials"}, "stringData": {"client_id": "c", "client_secret": "s"}});
    let credentials = serde_json::from_value(credentials).expect("a Secret");
    secrets.create(&PostParams::default(), &credentials).await.expect("the credentials");
    let integrations = Api::<OAuthIntegration>::namespaced(client.clone(), namespace);
    let spec: Value = client_credentials(endpoint);
    each(|number| {
        let (integrations, spec) = (integrations.clone(), spec.clone());
        async move {
            let spec = serde_json::from_value(spec).expect("a spec");
            let integration = OAuthIntegration::new(&format!("it-{number}"), spec);
            integrations.create(&PostParams::default(), &integration).await.expect("an integration");
        }
    })
    .await;
}

async fn each<F: Future<Output = ()>>(work: impl Fn(usize) -> F) {
    futures::stream::iter(0..INTEGRATIONS).for_each_concurrent(AT_ONCE, work).await;
}

async fn all_ready(endpoint: &Endpoint, client: &Client, namespace: &str) {
    // The endpoint's count first, which costs nothing: lists of everything, again and again, would be the largest load.
    eventually("all tokens are asked for", Duration::from_secs(300), async || match endpoint.count() {
        all if all >= INTEGRATIONS => Ok(()),
        some => Err(format!("{some} are")),
    })
    .await;
    let integrations = Api::<OAuthIntegration>::namespaced(client.clone(), namespace);
    eventually("all integrations are ready", Duration::from_secs(60), async || {
        let all = integrations.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let ready =
            all.iter().filter_map(|one| one.status.as_ref()).filter(|status| oauth_operator::status::is_ready(status));
        match ready.count() {
            INTEGRATIONS => Ok(()),
            some => Err(format!("{some} are")),
        }
    })
    .await;
}

/// The Secrets and statuses that the operator has made, written again under other names, as fast as a loop can.
async fn floor(control_plane: &ControlPlane, client: &Client, made_in: &str) -> Duration {
    let namespace = control_plane.namespace("floor").await;
    make(client, &namespace, "https://login.example.com/token").await;
    let from = Api::<Secret>::namespaced(client.clone(), made_in);
    let model = from.get("it-0").await.expect("a Secret of the operator's");
    let status = Api::<OAuthIntegration>::namespaced(client.clone(), made_in).get("it-0").await.expect("one").status;
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let integrations = Api::<OAuthIntegration>::namespaced(client.clone(), &namespace);
    let started = Instant::now();
    each(|number| {
        let (secrets, integrations, status) = (secrets.clone(), integrations.clone(), status.clone());
        let mut secret = Secret { data: model.data.clone(), ..Secret::default() };
        secret.metadata.annotations = Some(model.annotations().clone());
        secret.metadata.labels = Some(model.labels().clone());
        secret.metadata.name = Some(format!("it-{number}"));
        async move {
            let name = format!("it-{number}");
            let params = PatchParams::apply("floor").force();
            secrets.patch(&name, &params, &Patch::Apply(&secret)).await.expect("a Secret");
            let patch =
                json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "status": status});
            integrations.patch_status(&name, &params, &Patch::Apply(&patch)).await.expect("a status");
        }
    })
    .await;
    started.elapsed()
}

fn difference(after: &Calls, before: &Calls) -> Calls {
    let more = |(call, count): (&_, &u64)| (Clone::clone(call), count - before.get(call).copied().unwrap_or_default());
    after.iter().map(more).filter(|(_, count)| *count > 0).collect()
}

fn report(took: Duration, floor: Duration, memory: u64, cpu: f64, calls: &Calls, connections: u64) {
    println!("\n{INTEGRATIONS} integrations, from the start of the process until all are ready");
    println!("  time          {:.2} s", took.as_secs_f64());
    println!(
        "  floor         {:.2} s  (the same Secrets and statuses, bare, {AT_ONCE} at a time)",
        floor.as_secs_f64()
    );
    println!("  ratio         {:.2}", took.as_secs_f64() / floor.as_secs_f64());
    println!("  memory        {:.1} MB resident at the end", memory as f64 / 1e6);
    println!("  processor     {:.2} ms for each", cpu * 1000.0 / INTEGRATIONS as f64);
    println!("  connections   {connections} to the endpoint");
    println!("  API calls for each:");
    for ((verb, resource, subresource), count) in calls {
        if ["secrets", "oauthintegrations", "events"].contains(&resource.as_str()) && *count >= INTEGRATIONS as u64 / 2
        {
            println!(
                "    {:<6} {resource}{}{subresource}  {:.2}",
                verb,
                if subresource.is_empty() { "" } else { "/" },
                *count as f64 / INTEGRATIONS as f64
            );
        }
    }
}
