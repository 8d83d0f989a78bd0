//! Guarantee: each alert of the chart fires by its real cause, in a real Prometheus that scrapes the real operator, and resolves
//! with its cause; each query of the dashboard has data.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use oauth_operator::api::reason::Reason;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::manifests::{apply, helm_template, temporary_file};
use test_support::operator::kubeconfig;
use test_support::prometheus::Prometheus;
use test_support::proxy::{Network, Proxy};
use test_support::world::client_credentials;
use test_support::{ControlPlane, Operator, World, eventually, tools};

use crate::failures::denied_writes::{policy, rejected_by_the_api_server};

/// Includes a lease that expires, tokens that expire, and a busy machine.
const SOON: Duration = Duration::from_mins(4);
/// Where the chart's default says that the documentation is.
const DOCUMENTATION: &str = ".github.io/oauth-operator/";

/// The groups of rules that the chart renders for a job, with changes of `metrics.prometheusRule`.
fn rules(job: &str, per_object: bool, changes: &Value) -> String {
    let mut rule = json!({"enabled": true, "job": job});
    for (name, value) in changes.as_object().into_iter().flatten() {
        rule[name] = value.clone();
    }
    let values = temporary_file(&json!({"metrics": {"perObject": per_object, "prometheusRule": rule}}).to_string());
    let file = values.path().display().to_string();
    let rendered = helm_template(&["--values", &file, "--show-only", "templates/prometheusrule.yaml"]);
    let rendered: Value = serde_saphyr::from_str(&rendered).expect("YAML");
    rendered["spec"].to_string()
}

/// The same with alerts that fire after one second.
fn quick_rules(job: &str, per_object: bool) -> String {
    let rendered: Value = serde_json::from_str(&rules(job, per_object, &Value::Null)).expect("JSON");
    let alerts = rendered["groups"][0]["rules"].as_array().expect("rules").iter();
    let quick: BTreeMap<_, _> = alerts
        .map(|rule| (rule["alert"].as_str().expect("a name"), json!({"for": "1s", "keepFiringFor": "1s"})))
        .collect();
    rules(job, per_object, &json!({"alerts": quick, "thresholds": {"pendingWriteSeconds": 2}}))
}

/// The responses of a token endpoint, by scope. Until it is repaired, the first request of a scope gets a short token, others fail.
#[derive(Default)]
struct Server {
    is_repaired: AtomicBool,
    seen: Mutex<BTreeSet<String>>,
}

impl Server {
    fn reply(&self, request: &Request) -> Reply {
        let scope = request.parameter("scope");
        let is_first = self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(scope.clone());
        let is_repaired = self.is_repaired.load(Ordering::Relaxed);
        let lifetime = if is_repaired { 40 * 86_400 } else { 7_200 };
        match scope.split('-').next().unwrap_or_default() {
            "busy" => Reply::token(20),
            "short" | "suspended" if is_repaired => Reply::token(3_600),
            "short" | "suspended" if is_first => Reply::token(15),
            "short" | "suspended" => Reply::rejected(400, "invalid_scope", "not now"),
            "session" => {
                let token = test_support::endpoint::canary();
                Reply::json(
                    200,
                    &json!({"access_token": format!("access-{token}"), "refresh_token": format!("refresh-{token}"),
                        "expires_in": 3_600, "refresh_expires_in": lifetime}),
                )
            }
            _ => Reply::token(3_600),
        }
    }
}

/// An integration of this scope, which is unique in both namespaces.
fn scoped(endpoint: &Endpoint, world: &World, name: &str) -> Value {
    let mut spec = client_credentials(&endpoint.url());
    spec["scope"] = json!(format!("{name}-{}", world.namespace));
    spec
}

async fn annotate(world: &World, secret: &str, expires: SignedDuration) {
    let at = (Timestamp::now() + expires).to_string();
    let patch = json!({"metadata": {"annotations": {"oauth.evolutionx.io/credentials-expire-at": at}}});
    world.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("an annotation");
}

/// The causes of all alerts about integrations, in one namespace.
async fn break_everything(world: &World, endpoint: &Endpoint, down: &Endpoint) {
    let client = [("client_id", "the-client"), ("client_secret", "the-client-secret")];
    world.credentials().await;
    for name in ["short", "suspended", "session", "busy", "busy-2"] {
        world.integration(name, &scoped(endpoint, world, name)).await;
        world.ready(name).await;
    }
    world.change("suspended", &json!({"spec": {"suspend": true}})).await;
    let mut missing = client_credentials(&endpoint.url());
    missing["credentials"]["secretName"] = json!("later");
    world.integration("missing", &missing).await;
    world.secret("expiring-client", &client).await;
    annotate(world, "expiring-client", SignedDuration::from_hours(24)).await;
    let mut expiring = client_credentials(&endpoint.url());
    expiring["credentials"]["secretName"] = json!("expiring-client");
    world.integration("expiring", &expiring).await;
    let provider = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthProvider", "metadata": {"name": "login"},
        "spec": {"tokenEndpoint": endpoint.url(), "credentials": {"secretName": "provider-client"}},
    });
    apply(ControlPlane::shared(), &world.namespace, &provider.to_string());
    world.integration("provided", &json!({"grantType": "client_credentials", "providerRef": {"name": "login"}})).await;
    // It can still be used for some days.
    world.secret("expiring-provider-client", &client).await;
    annotate(world, "expiring-provider-client", SignedDuration::from_hours(24 * 5)).await;
    let expiring = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthProvider", "metadata": {"name": "expiring"},
        "spec": {"tokenEndpoint": endpoint.url(), "credentials": {"secretName": "expiring-provider-client"}},
    });
    apply(ControlPlane::shared(), &world.namespace, &expiring.to_string());
    for name in ["down-1", "down-2", "down-3"] {
        world.integration(name, &client_credentials(&down.url())).await;
    }
    apply(ControlPlane::shared(), &world.namespace, &policy(&world.namespace, "Forbidden"));
    rejected_by_the_api_server(world, "it", "it is frozen").await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
}

/// Removes these causes, as a user would do it.
async fn repair_everything(world: &World) {
    let client = [("client_id", "the-client"), ("client_secret", "the-client-secret")];
    for name in ["later", "provider-client"] {
        world.secret(name, &client).await;
    }
    for name in ["expiring-client", "expiring-provider-client"] {
        annotate(world, name, SignedDuration::from_hours(24 * 60)).await;
    }
    world.change("suspended", &json!({"spec": {"suspend": false}})).await;
    for name in ["short", "session", "down-1", "down-2", "down-3"] {
        world.request_renewal(name, "repaired").await;
    }
    let kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding";
    ControlPlane::shared().kubectl(&["delete", kinds, &world.namespace]);
}

/// The alerts that fire, by job.
fn firing(prometheus: &Prometheus) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = prometheus.alerts().into_iter().filter(|alert| alert["state"] == "firing");
    alerts.map(|alert| (text(&alert["labels"]["job"]), text(&alert["labels"]["alertname"]))).collect()
}

async fn fire(prometheus: &Prometheus, expected: &BTreeSet<(String, String)>) {
    eventually("the alerts fire", SOON, async || {
        let missing: Vec<_> = expected.difference(&firing(prometheus)).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} do not fire")) }
    })
    .await;
}

async fn resolve(prometheus: &Prometheus, expected: &BTreeSet<(String, String)>) {
    eventually("the alerts resolve", SOON, async || {
        let left: Vec<_> = expected.intersection(&firing(prometheus)).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} still fire")) }
    })
    .await;
}

/// The link of each alert leads to the page of a reason, or to a heading of docs/monitoring.md.
fn check_annotations(prometheus: &Prometheus) {
    let page = fs::read_to_string(tools::root().join("docs/monitoring.md")).expect("the page about monitoring");
    for alert in prometheus.alerts() {
        for (name, value) in alert["annotations"].as_object().expect("annotations") {
            let text = value.as_str().unwrap_or_default();
            assert!(!text.is_empty() && !text.contains("<error") && !text.contains("{{"), "{name}: {text}");
        }
        let link = alert["annotations"]["runbook_url"].as_str().unwrap_or_default();
        let (_, path) = link.split_once(DOCUMENTATION).unwrap_or_else(|| panic!("{link}"));
        let reason = path.strip_prefix("reasons/").and_then(|rest| rest.strip_suffix(".html"));
        let is_reason = reason.is_some_and(|reason| Reason::parse(reason).is_some());
        let anchor = path.strip_prefix("monitoring.html#");
        let is_heading = anchor.is_some_and(|anchor| page.to_lowercase().contains(&format!("\n### {anchor}\n")));
        assert!(is_reason || is_heading, "{link}");
    }
}

/// The queries of the dashboard: the title of the panel and the expression, with the variables of Grafana replaced.
fn dashboard_queries() -> Vec<(String, String)> {
    let file = tools::root().join("charts/oauth-operator/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).expect("the dashboard")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").clone();
    let queries = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(|target| (panel["title"].to_string(), target["expr"].as_str().unwrap_or_default().to_owned()))
    });
    let replace = |text: &str| text.replace("$job", ".*").replace("$namespace", ".*").replace("$__rate_interval", "1m");
    queries.map(|(title, expression)| (title, replace(&expression))).collect()
}

fn check_dashboard(prometheus: &Prometheus) {
    let queries = dashboard_queries();
    assert!(queries.len() > 30, "{queries:?}");
    for (title, expression) in queries {
        let series = prometheus.query(&expression).unwrap_or_else(|error| panic!("{title}: {expression}: {error}"));
        // Only an operator that watches all namespaces has slots to share: see `it/oauth_providers.rs`.
        let is_served = !expression.contains("reconciles_queued");
        assert_eq!(!series.is_empty(), is_served, "{title}: {expression}");
    }
}

/// `DASHBOARD_PICTURE=docs/images/dashboard.png` draws the dashboard from the data of this test.
fn picture() -> Option<PathBuf> {
    std::env::var_os("DASHBOARD_PICTURE").map(|file| tools::root().join(file))
}

/// For the picture: some renewals while nothing is broken yet.
async fn renew_for_the_picture(world: &World, endpoint: &Endpoint) {
    world.credentials().await;
    for number in 0..20 {
        let name = format!("erp-{number}");
        world.integration(&name, &scoped(endpoint, world, &format!("busy-{name}"))).await;
    }
    eventually("renewals for the picture", SOON, async || {
        if endpoint.count() >= 150 { Ok(()) } else { Err(endpoint.count().to_string()) }
    })
    .await;
}

fn draw(prometheus: &Prometheus, file: &Path) {
    let script = tools::root().join("hack/dashboard-picture");
    let drawn = Command::new(script).arg(prometheus.address()).arg(file).status().expect("the script");
    assert!(drawn.success());
}

fn of_job(job: &str, alerts: &[&str]) -> BTreeSet<(String, String)> {
    alerts.iter().map(|alert| (job.to_owned(), (*alert).to_owned())).collect()
}

const OF_INTEGRATIONS: [&str; 9] = [
    "OAuthTokenExpired",
    "OAuthTokenRenewalFailing",
    "OAuthTokenMissing",
    "OAuthExpiredSecretInUse",
    "OAuthRefreshTokenExpiring",
    "OAuthCredentialsExpiring",
    "OAuthProviderNotReady",
    "OAuthProviderCredentialsExpiring",
    "OAuthOperatorWritePending",
];

/// An operator of two namespaces without series for each integration. A circuit is open for one of the namespaces only.
async fn operator_of_two_namespaces(endpoints: (&Endpoint, &Endpoint)) -> (World, Vec<String>) {
    let control_plane = ControlPlane::shared();
    let (one, two) = (control_plane.namespace("totals").await, control_plane.namespace("quiet").await);
    let arguments =
        ["--namespace", &one, "--namespace", &two, "--object-metrics=false"].map(ToOwned::to_owned).to_vec();
    let kubeconfig = kubeconfig(control_plane).await;
    let operator = started(&kubeconfig, &arguments).await;
    let world = World { client: control_plane.client().await, namespace: one, operator, kubeconfig };
    break_everything(&world, endpoints.0, endpoints.1).await;
    (world, arguments)
}

async fn started(kubeconfig: &Path, arguments: &[String]) -> Operator {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Operator::start_with(kubeconfig, &arguments).await
}

#[tokio::test]
async fn each_alert_fires_by_its_cause_and_resolves_with_it() {
    let server = Arc::new(Server::default());
    let replies = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| replies.reply(request));
    let down = Endpoint::start(|_| Reply::text(503, "maintenance"));
    let prometheus =
        Prometheus::start(&["objects", "totals"], &[quick_rules("objects", true), quick_rules("totals", false)]);
    let proxy = Proxy::start(ControlPlane::shared().address());
    let objects = World::elected("objects", Some(proxy.port())).await;
    prometheus.scrape("objects", objects.operator.metrics_address());
    let picture = picture();
    if picture.is_some() {
        renew_for_the_picture(&objects, &endpoint).await;
    }
    break_everything(&objects, &endpoint, &down).await;
    let (mut totals, arguments) = operator_of_two_namespaces((&endpoint, &down)).await;
    prometheus.scrape("totals", totals.operator.metrics_address());

    let mut expected = of_job("objects", &[&OF_INTEGRATIONS[..], &["OAuthOperatorCircuitOpen"]].concat());
    expected.extend(of_job("totals", &[&OF_INTEGRATIONS[..], &["OAuthOperatorNamespaceCircuitOpen"]].concat()));
    fire(&prometheus, &expected).await;
    check_annotations(&prometheus);
    check_dashboard(&prometheus);
    if let Some(file) = picture {
        draw(&prometheus, &file);
    }

    server.is_repaired.store(true, Ordering::Relaxed);
    down.respond(|_| Reply::token(3_600));
    repair_everything(&objects).await;
    repair_everything(&totals).await;
    resolve(&prometheus, &expected).await;

    let mut expected = of_job("objects", &["OAuthOperatorNoLeader"]);
    expected.extend(of_job("totals", &["OAuthOperatorAbsent"]));
    assert_eq!(totals.operator.terminate(Duration::from_secs(30)), 0);
    proxy.set(Network::Cut);
    fire(&prometheus, &expected).await;
    check_annotations(&prometheus);
    proxy.set(Network::Up);
    totals.operator = started(&totals.kubeconfig, &arguments).await;
    prometheus.scrape("totals", totals.operator.metrics_address());
    resolve(&prometheus, &expected).await;
}
