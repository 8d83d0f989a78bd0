//! Guarantee: with a collector, each renewal is a trace with its steps, log lines and exemplars name it, and nothing depends on
//! the collector. Log lines have the documented fields only.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::collector::{Collector, ReceivedSpan};
use test_support::endpoint::{Endpoint, Reply};
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{World, eventually};

/// Waits until the traces of these integrations have been received.
async fn traces_of(collector: &Collector, names: &[&str]) -> Vec<ReceivedSpan> {
    eventually("the traces are exported", Duration::from_secs(30), async || {
        let spans = collector.spans();
        let is_there = |name: &&str| {
            spans
                .iter()
                .any(|span| span.attributes.get("oauth_operator.integration").is_some_and(|found| found == *name))
        };
        if names.iter().all(is_there) { Ok(spans) } else { Err(format!("{spans:?}")) }
    })
    .await
}

/// The spans of the trace of an integration: the renewal, and its steps in their order.
fn trace<'a>(spans: &'a [ReceivedSpan], name: &str) -> (&'a ReceivedSpan, Vec<&'a ReceivedSpan>) {
    let is_of = |span: &&ReceivedSpan| span.attributes.get("oauth_operator.integration").is_some_and(|it| it == name);
    let renewal = spans.iter().find(is_of).unwrap_or_else(|| panic!("{name} has no trace: {spans:?}"));
    let mut steps: Vec<_> = spans.iter().filter(|span| span.parent == renewal.id).collect();
    steps.sort_by_key(|span| span.time.0);
    (renewal, steps)
}

fn log_lines(world: &World) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    world.operator.logs().lines().map(parse).collect()
}

#[tokio::test]
async fn each_renewal_is_a_trace_that_logs_and_exemplars_name() {
    let endpoint = Endpoint::start(|request| match request.parameter("scope").as_str() {
        "refused" => Reply::rejected(400, "invalid_scope", "no"),
        _ => Reply::json(200, &json!({"access_token": "traced-access-token", "expires_in": 3600})),
    });
    let collector = Collector::accepting();
    let flag = format!("--otlp-endpoint={}", collector.url());
    let world = World::with("traces", &[&flag]).await;
    world.credentials().await;
    world.integration("good", &client_credentials(&endpoint.url())).await;
    let mut bad = client_credentials(&endpoint.url());
    bad["scope"] = json!("refused");
    world.integration("bad", &bad).await;
    world.ready("good").await;
    world.condition("bad", "Ready", "False", "RequestRejected").await;

    let spans = traces_of(&collector, &["good", "bad"]).await;
    let (renewal, steps) = trace(&spans, "good");
    assert_eq!(renewal.parent, "", "it is the root");
    assert_eq!(renewal.attributes["k8s.namespace.name"], world.namespace);
    assert_eq!(renewal.attributes["oauth_operator.trigger"], "TargetMissing");
    assert_eq!(renewal.resource["service.name"], "oauth-operator");
    assert_eq!(renewal.error, None);
    let names: Vec<_> = steps.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["read inputs", "token request", "write Secret", "write status"]);
    for step in &steps {
        assert_eq!((&step.trace_id, &step.error), (&renewal.trace_id, &None));
        assert!(
            renewal.time.0 <= step.time.0 && step.time.0 <= step.time.1 && step.time.1 <= renewal.time.1,
            "{step:?}"
        );
    }
    assert_eq!(steps[1].attributes["server.address"], "127.0.0.1");
    assert_eq!(steps[1].attributes["oauth_operator.grant_type"], "client_credentials");

    let (failed, steps) = trace(&spans, "bad");
    assert_eq!(failed.error.as_deref(), Some("RequestRejected"), "the reason, and not the server's message");
    let errors: Vec<_> = steps.iter().map(|span| (span.name.as_str(), span.error.as_deref())).collect();
    assert_eq!(errors, [("read inputs", None), ("token request", Some("RequestRejected")), ("write status", None)]);

    // The log line of each renewal, and the exemplar of its request.
    let lines = log_lines(&world);
    let line = |name: &str| {
        let of = lines.iter().find(|line| line["name"] == name && line["trace_id"].is_string());
        of.unwrap_or_else(|| panic!("{name} has no line with a trace: {lines:?}"))
    };
    assert_eq!(line("good")["trace_id"], renewal.trace_id);
    assert_eq!(line("good")["level"], "INFO");
    assert_eq!(line("good")["message"], "wrote the first token into Secret good");
    assert!(line("good")["expires_at"].is_string() && line("good")["renew_at"].is_string());
    assert_eq!((&line("bad")["trace_id"], &line("bad")["level"]), (&json!(failed.trace_id), &json!("WARN")));
    assert!(line("bad")["retry_at"].is_string());
    let metrics = world.operator.metrics_in("application/openmetrics-text;version=1.0.0");
    let bucket = "oauth_operator_token_request_duration_seconds_bucket";
    let traced =
        |id: &str| metrics.lines().any(|line| line.starts_with(bucket) && line.contains(&format!("trace_id=\"{id}\"")));
    assert!(traced(&renewal.trace_id) || traced(&failed.trace_id), "{metrics}");
    assert!(!world.operator.metrics().contains("trace_id"), "the text format has no exemplars");

    let exported = format!("{spans:?}");
    assert!(!exported.contains("traced-access-token") && !exported.contains("client-secret"), "{exported}");
}

#[tokio::test]
async fn a_collector_that_fails_is_reported_once_and_delays_nothing() {
    let collector = Collector::start(|| Reply::text(503, "overloaded"));
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let flag = format!("--otlp-endpoint={}", collector.url());
    let world = World::with("no-collector", &[&flag]).await;
    world.credentials().await;
    for name in ["a", "b"] {
        world.integration(name, &client_credentials(&endpoint.url())).await;
        world.ready(name).await;
    }
    let failures = || {
        let is_about =
            |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("traces are not exported"));
        log_lines(&world).into_iter().filter(is_about).count()
    };
    eventually("the failure is logged", Duration::from_secs(30), async || {
        if failures() == 1 { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    let before = collector.requests().len();
    world.renew("a", "again").await;
    eventually("another batch is refused", Duration::from_secs(30), async || {
        let number = collector.requests().len();
        if number > before { Ok(()) } else { Err(format!("{number} requests")) }
    })
    .await;
    // Stops in time although the last batch is not accepted.
    assert_eq!(world.operator.terminate(Duration::from_secs(10)), 0);
    assert_eq!(failures(), 1, "once, and not for each batch");
}

/// The fields in the table of docs/logs.md.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../docs/logs.md");
    let names = page.lines().filter(|line| line.starts_with("| `")).flat_map(|line| {
        let first = line.split('|').nth(1).unwrap_or_default();
        first.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
    });
    names.collect()
}

#[tokio::test]
async fn log_lines_have_the_documented_fields() {
    let endpoint = Endpoint::start(|_| Reply::token(9));
    let world = World::new("log-fields").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.integration("without", &json!({"tokenEndpoint": endpoint.url(), "grantType": "client_credentials", "credentials": {"secretName": "none"}})).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    world.wait_for_change("it", "access_token", &first).await;
    world.condition("without", "Ready", "False", "CredentialsMissing").await;
    let documented = documented();
    eventually("the renewal is logged", SHORT_TIMEOUT, async || {
        let lines = log_lines(&world);
        let is_renewal = |line: &&Value| line["reason"] == "Renewed" && line["name"] == "it";
        lines.iter().find(is_renewal).map(|_| ()).ok_or_else(|| format!("{lines:?}"))
    })
    .await;
    for line in log_lines(&world) {
        for field in line.as_object().expect("an object").keys() {
            assert!(documented.contains(field), "{field} is not in docs/logs.md: {line}");
        }
    }
}
