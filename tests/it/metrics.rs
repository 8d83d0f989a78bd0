//! Guarantee: the metrics are those of the documentation, in the format that the client accepts, and their number is bounded if
//! there are none for each object.

use std::collections::{BTreeMap, BTreeSet};

use oauth_operator::controller::metrics::reference::{ALL, Metric, Scope};
use serde_json::json;
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::apply;
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, World, eventually};

/// The names of the samples with the names of their labels.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let sample = |line: &str| {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').map_or("", |(labels, _)| labels)),
            None => (line.split(' ').next().unwrap_or_default(), ""),
        };
        let labels = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        (name.to_owned(), labels.collect::<BTreeSet<_>>())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// The metric of a sample.
fn metric_of(sample: &str) -> Option<&'static Metric> {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
    let named = |name: &str| ALL.iter().find(|metric| metric.sample_name() == name);
    named(sample).or_else(|| named(base?))
}

async fn busy(name: &str, flags: &[&str]) -> World {
    let endpoint = Endpoint::start(|request| match request.parameter("scope").as_str() {
        "refused" => Reply::rejected(400, "invalid_scope", "no"),
        _ => Reply::json(
            200,
            &json!({"access_token": "metrics-token", "expires_in": 3600, "refresh_token": "metrics-refresh", "refresh_expires_in": 7200}),
        ),
    });
    let world = World::with(name, flags).await;
    world.credentials().await;
    let provider = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthProvider", "metadata": {"name": "erp"},
        "spec": {"tokenEndpoint": endpoint.url(), "credentials": {"secretName": "credentials"}},
    });
    apply(ControlPlane::shared(), &world.namespace, &provider.to_string());
    let used = json!({"grantType": "client_credentials", "providerRef": {"name": "erp"}});
    world.integration("used", &used).await;
    world.integration("good", &client_credentials(&endpoint.url())).await;
    let mut bad = client_credentials(&endpoint.url());
    bad["scope"] = json!("refused");
    world.integration("bad", &bad).await;
    world.ready("used").await;
    world.ready("good").await;
    world.condition("bad", "Ready", "False", "RequestRejected").await;
    eventually("the provider is checked", SHORT_TIMEOUT, async || {
        let text = world.operator.metrics();
        if text.contains("oauth_operator_providers{") && text.contains("reason=\"RequestRejected\"") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    world
}

#[tokio::test]
async fn what_is_served_is_what_is_documented() {
    let world = busy("metrics-reference", &[]).await;
    let served = samples(&world.operator.metrics());
    for (sample, labels) in &served {
        let metric = metric_of(sample).unwrap_or_else(|| panic!("{sample} is not documented"));
        let documented: BTreeSet<String> = metric.labels.iter().map(|&label| label.to_owned()).collect();
        let labels: BTreeSet<String> = labels.iter().filter(|label| *label != "le").cloned().collect();
        assert_eq!(labels, documented, "{sample}");
    }
    let served: BTreeSet<String> = served.keys().filter_map(|sample| Some(metric_of(sample)?.sample_name())).collect();
    let missing: Vec<String> = ALL.iter().map(Metric::sample_name).filter(|name| !served.contains(name)).collect();
    // What has not happened here, or is not used: only one namespace is watched, nothing is suspended; no renewal on schedule, no
    // open circuit, no failed reconciliation, no expiring credentials, neither restarts nor revocations, and no leader election.
    let expected = [
        "oauth_operator_integration_suspended",
        "oauth_operator_credentials_expiry_timestamp_seconds",
        "oauth_operator_provider_credentials_expiry_timestamp_seconds",
        "oauth_operator_next_credentials_expiry_timestamp_seconds",
        "oauth_operator_next_provider_credentials_expiry_timestamp_seconds",
        "oauth_operator_reconcile_errors_total",
        "oauth_operator_reconciles_queued",
        "oauth_operator_circuit_breaker_open",
        "oauth_operator_lease_renewal_timestamp_seconds",
        "oauth_operator_workload_restarts_total",
        "oauth_operator_revocations_total",
        "oauth_operator_revocations_dropped_total",
    ];
    assert_eq!(missing, expected);
    let failing = format!("namespace=\"{}\",name=\"bad\",reason=\"RequestRejected\"", world.namespace);
    assert_eq!(world.operator.metric("oauth_operator_integration_failing", &failing), Some(1.0));
    let refused = "ready=\"False\",reason=\"RequestRejected\"";
    assert_eq!(world.operator.metric("oauth_operator_integrations", refused), Some(1.0));
    assert_eq!(world.operator.metric("oauth_operator_integrations", "ready=\"True\",reason=\"TokenValid\""), Some(2.0));
    assert_eq!(world.operator.metric("oauth_operator_pending_writes", ""), Some(0.0));
    assert!(
        world.operator.sum("oauth_operator_api_requests_total", "verb=\"patch\",resource=\"secrets\"") >= 2.0
            || world.operator.sum("oauth_operator_api_requests_total", "verb=\"create\",resource=\"secrets\"") >= 2.0
    );
}

#[tokio::test]
async fn the_client_gets_the_format_that_it_accepts() {
    let world = World::new("metrics-format").await;
    let url = format!("http://{}/metrics", world.operator.metrics_address());
    let openmetrics =
        test_support::http::get_with_header(&url, "Accept", "application/openmetrics-text;version=1.0.0").1;
    assert!(openmetrics.ends_with("# EOF\n"), "the end marker of OpenMetrics is missing");
    assert!(openmetrics.contains("# TYPE oauth_operator_events_dropped counter\n"));
    let text = test_support::http::get_with_header(&url, "Accept", "text/plain").1;
    assert!(!text.contains("# EOF") && text.contains("# TYPE oauth_operator_events_dropped_total counter\n"));
    // The values may differ, the samples may not.
    let names = |text: &str| samples(text).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(names(&openmetrics), names(&text));
}

#[tokio::test]
async fn without_metrics_for_each_object_only_aggregates_are_served() {
    let world = busy("metrics-fleet", &["--object-metrics=false"]).await;
    let text = world.operator.metrics();
    for sample in samples(&text).keys() {
        assert_ne!(metric_of(sample).map(|metric| metric.scope), Some(Scope::Object), "{sample}");
    }
    assert!(!text.contains(&world.namespace), "a namespace would be a label that tenants choose");
    assert_eq!(world.operator.metric("oauth_operator_tokens_expired", ""), Some(0.0));
    assert!(world.operator.metric("oauth_operator_next_token_expiry_timestamp_seconds", "").is_some());
}
