//! Unusual content of an object affects only that object: a tenant's object does not break any list, watch, GET or log,
//! however deep or large it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use kube::Client;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::siege::{SHORT_TIMEOUT, Siege, User, Victim, client_credentials};
use test_support::eventually;

/// More than the 128 levels that serde_json accepts.
const DEPTH: usize = 140;
/// The number of objects that are written concurrently.
const AT_ONCE: usize = 8;

/// Creates an object from its text and returns the status code. The response is not parsed, because it may be equally
/// deep.
async fn create(client: &Client, path: &str, object: &str) -> u16 {
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(object.as_bytes().to_vec().into()).expect("a request");
    let response = client.send(request).await.expect("a response");
    response.status().as_u16()
}

fn secrets_of(user: &User) -> String {
    format!("/api/v1/namespaces/{}/secrets", user.namespace)
}

fn config_maps_of(user: &User) -> String {
    format!("/api/v1/namespaces/{}/configmaps", user.namespace)
}

fn integrations_of(user: &User) -> String {
    format!("/apis/oauth.evolutionx.io/v1alpha1/namespaces/{}/oauthintegrations", user.namespace)
}

/// Managed fields with this nesting depth.
fn deep_fields(depth: usize) -> String {
    let fields = format!("{}{{}}{}", r#"{"f:a":"#.repeat(depth), "}".repeat(depth));
    format!(r#"[{{"manager":"a","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{fields}}}]"#)
}

fn deep(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

/// The text of an object with unusual content.
fn secret(name: &str, metadata: &str, data: &str) -> String {
    format!(r#"{{"kind":"Secret","apiVersion":"v1","metadata":{{"name":"{name}"{metadata}}},"data":{data}}}"#)
}

fn integration(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        r#"{{"kind":"OAuthIntegration","apiVersion":"oauth.evolutionx.io/v1alpha1","metadata":{{"name":"{name}"{metadata}}},"spec":{spec}}}"#
    )
}

const MANAGED: &str = r#","labels":{"app.kubernetes.io/managed-by":"oauth-operator"}"#;

fn deep_claims() -> String {
    let claims = deep(DEPTH);
    format!(
        r#"{{"tokenEndpoint":"https://login.example.com/token","grantType":"jwt_bearer","credentials":{{"secretName":"any"}},"assertion":{{"claims":{claims}}}}}"#
    )
}

/// Kills the operator, and waits until the next one has received its initial lists and leads: first, the lease of
/// the killed one must expire. The victim's token is not observed in the meantime.
async fn restart(siege: &mut Siege, victim: &Victim) {
    siege.restart_operator();
    siege.operator.until_ready().await;
    let before = siege.token_of(victim).await;
    eventually("the new process leads", SHORT_TIMEOUT, async || {
        if siege.operator.leads() { Ok(()) } else { Err(siege.operator.get("/readyz").1) }
    })
    .await;
    // In the Secret, not only requested: the condition Ready is still that of the killed process.
    eventually("the victim's token is renewed", SHORT_TIMEOUT, async || {
        if siege.token_of(victim).await == before { Err("it is still the same".to_owned()) } else { Ok(()) }
    })
    .await;
    siege.bob.wait_for_ready(&victim.name, "True", "TokenValid").await;
}

/// Annotates an object repeatedly, so that its watch always has events.
fn keep_changing(client: &Client, path: String, stopped: &Arc<AtomicBool>) -> tokio::task::JoinHandle<u32> {
    let (client, stopped) = (client.clone(), Arc::clone(stopped));
    tokio::spawn(async move {
        let mut number = 0;
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
            let patch = json!({"metadata": {"annotations": {"number": number.to_string()}}}).to_string();
            let request = http::Request::patch(&path).header("content-type", "application/merge-patch+json");
            let request = request.body(patch.into_bytes().into()).expect("a request");
            let response = client.send(request).await.expect("a response");
            assert_eq!(response.status(), 200, "{path}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        number
    })
}

#[tokio::test]
async fn deeply_nested_objects_do_not_break_lists_or_watches_and_are_not_logged() {
    let mut siege = Siege::with(&["--log=trace"]).await;
    let victim = siege.victim(8).await;
    let (client, alice) = (&siege.alice.client, &siege.alice);
    let fields = format!(r#","managedFields":{}"#, deep_fields(DEPTH));
    for (path, object) in [
        (secrets_of(alice), secret("deep", &fields, r#"{"k":"djpoYWxsbw=="}"#)),
        (secrets_of(alice), secret("deep-and-managed", &format!("{MANAGED}{fields}"), r#"{"k":"djpoYWxsbw=="}"#)),
        (integrations_of(alice), integration("deep", "", &deep_claims())),
    ] {
        assert_eq!(create(client, &path, &object).await, 201, "{path}");
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let changing = [
        keep_changing(client, format!("{}/deep", secrets_of(alice)), &stopped),
        keep_changing(client, format!("{}/deep-and-managed", secrets_of(alice)), &stopped),
        keep_changing(client, format!("{}/deep", integrations_of(alice)), &stopped),
    ];
    // While the operator runs, and when it starts.
    for round in ["running", "restarted"] {
        if round == "restarted" {
            restart(&mut siege, &victim).await;
        }
        siege.observe(&victim, Duration::from_secs(10)).await.assert_unharmed();
        for number in 0..2 {
            let name = format!("{round}-{number}");
            let started = Instant::now();
            let spec = client_credentials(&victim.endpoint.url(), "credentials");
            siege.bob.integration(&name, &spec).await.expect("bob's integration");
            siege.bob.wait_for_ready(&name, "True", "TokenValid").await;
            assert!(started.elapsed() < Duration::from_secs(5), "{name} was ready after {:?}", started.elapsed());
        }
        // Only the object itself is affected, and reports it.
        siege.alice.wait_for_ready_text("deep", "InvalidSpec", "spec is nested too deep").await;
        let log = siege.operator.logs();
        assert!(log.contains("\"level\":\"DEBUG\""), "the log is not detailed");
        for secret in ["kanarie-secret-of-bob", &STANDARD.encode("kanarie-secret-of-bob")[..20], "victim-1", "f:a"] {
            assert!(!log.contains(secret), "the log contains {secret:?}");
        }
    }
    stopped.store(true, Ordering::Relaxed);
    for changes in changing {
        assert!(changes.await.expect("the attack") > 20, "the attack did not take place");
    }
}

/// The name of the case, the number of objects, their path, and the text of one by its name.
type Attack<'a> = (&'a str, usize, &'a str, &'a dyn Fn(&str) -> String);

#[tokio::test]
async fn large_objects_do_not_exhaust_memory() {
    let mut siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let value = STANDARD.encode("x".repeat(740 << 10));
    let note = format!(r#","annotations":{{"note":"{}"}}"#, "x".repeat(250 << 10));
    let own_note = format!(r#","annotations":{{"oauth.evolutionx.io/note":"{}"}}"#, "x".repeat(250 << 10));
    let suspended = format!(
        r#"{{"tokenEndpoint":"https://login.example.com/token","grantType":"client_credentials","credentials":{{"secretName":"any"}},"suspend":true,"scope":"{}"}}"#,
        "s".repeat(4_000),
    );
    let data = format!(r#"{{"k":"{value}"}}"#);
    let (secrets, integrations) = (secrets_of(&siege.alice), integrations_of(&siege.alice));
    let attacks: [Attack<'_>; 3] = [
        ("secrets of 1 MB with the operator's label", 120, &secrets, &|name| secret(name, MANAGED, &data)),
        ("secrets with an annotation of 250 KiB", 400, &secrets, &|name| secret(name, &note, "{}")),
        ("suspended integrations with an annotation of 250 KiB", 400, &integrations, &|name| {
            integration(name, &own_note, &suspended)
        }),
    ];
    for (index, (attack, number, path, object)) in attacks.into_iter().enumerate() {
        let client = &siege.alice.client;
        let codes = futures::stream::iter(0..number)
            .map(|number| {
                let object = object(&format!("large-{index}-{number}"));
                async move { create(client, path, &object).await }
            })
            .buffer_unordered(AT_ONCE);
        let rejected: Vec<u16> = codes.filter(|code| std::future::ready(*code != 201)).collect().await;
        assert_eq!(rejected, Vec::<u16>::new(), "{attack}: not everything was created");
        println!("{attack}:");
        siege.observe(&victim, Duration::from_secs(2)).await.assert_unharmed();
        restart(&mut siege, &victim).await;
        siege.observe(&victim, Duration::from_secs(9)).await.assert_unharmed();
    }
}

/// The integrations of a namespace use its whole share of memory: those that were rejected are reconciled when others
/// are deleted.
#[tokio::test]
async fn an_integration_that_was_rejected_for_lack_of_memory_is_reconciled_once_there_is_memory() {
    const INTEGRATIONS: usize = 290;
    let siege = Siege::new().await;
    let parameters: serde_json::Map<String, serde_json::Value> =
        (0..15).map(|number| (format!("p{number}"), json!("x".repeat(4_000)))).collect();
    let spec = json!({"tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials",
        "credentials": {"secretName": "any"}, "suspend": true, "request": {"parameters": parameters}})
    .to_string();
    let (client, path) = (&siege.alice.client, integrations_of(&siege.alice));
    let codes = futures::stream::iter(0..INTEGRATIONS)
        .map(|number| {
            let (object, path) = (integration(&format!("it-{number}"), "", &spec), &path);
            async move { create(client, path, &object).await }
        })
        .buffer_unordered(AT_ONCE);
    let rejected: Vec<u16> = codes.filter(|code| std::future::ready(*code != 201)).collect().await;
    assert_eq!(rejected, Vec::<u16>::new());
    // Counted by the reason of the condition Stalled or Ready, whichever is more specific.
    let with = async |reason: &str| -> Vec<String> {
        let all = siege.alice.dynamic_integrations().list(&kube::api::ListParams::default()).await.expect("a list");
        let has_reason = |object: &kube::api::DynamicObject| object.data["status"]["conditions"][0]["reason"] == reason;
        all.items.into_iter().filter(has_reason).filter_map(|object| object.metadata.name).collect()
    };
    let all_are_reported = async || {
        let (invalid, suspended) = (with("InvalidSpec").await, with("Suspended").await);
        if invalid.len() + suspended.len() == INTEGRATIONS {
            Ok((invalid, suspended))
        } else {
            Err(format!("{} invalid, {} suspended", invalid.len(), suspended.len()))
        }
    };
    let (rejected, admitted) = eventually("all are reported", 3 * SHORT_TIMEOUT, all_are_reported).await;
    assert!(rejected.len() > 5, "the bound was not reached: {} were admitted", admitted.len());
    println!("{} were admitted, {} rejected", admitted.len(), rejected.len());
    let all = siege.alice.dynamic_integrations();
    for name in admitted.iter().take(4) {
        all.delete(name, &kube::api::DeleteParams::default()).await.expect("a deletion");
    }
    // The entries of the other rejected integrations also use some of the memory.
    eventually("others are reconciled instead", SHORT_TIMEOUT, async || {
        let left = with("InvalidSpec").await.len();
        if left + 3 <= rejected.len() { Ok(()) } else { Err(format!("{left} are rejected")) }
    })
    .await;
    // One interval later, the number of admitted integrations is still within the bound.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(with("InvalidSpec").await.len() + 4 >= rejected.len());
    assert!(with("Suspended").await.len() <= admitted.len());
}

/// A random object of the attacker: its kind and its text.
fn random_object(random: &mut StdRng, number: usize) -> (usize, String) {
    let name = format!("random-{number}");
    let depth = *[1, 30, 39, 45, 127, 129, 500, 5_000].get(random.random_range(0..8)).expect("a depth");
    let size = *[1_usize, 300, 5_000, 70_000, 250_000].get(random.random_range(0..5)).expect("a size");
    let text = ["x", "\\u0000", "é", "\\\"", "🦀"][random.random_range(0..5)].repeat(size / 6 + 1);
    // Long enough to be searched for in the operator's output.
    let text = format!("kanarie-random-{text}");
    let mut metadata = String::new();
    if random.random_bool(0.5) {
        metadata.push_str(&format!(r#","managedFields":{}"#, deep_fields(depth)));
    }
    match random.random_range(0..4) {
        0 => metadata.push_str(&format!(r#","annotations":{{"a":"{text}"}}"#)),
        1 => metadata.push_str(&format!(r#","annotations":{{"oauth.evolutionx.io/keys":"{text}"}}"#)),
        2 => {
            let many: Vec<String> = (0..size / 50).map(|number| format!(r#""a{number}":"""#)).collect();
            metadata.push_str(&format!(r#","annotations":{{{}}}"#, many.join(",")));
        }
        _ => {}
    }
    match random.random_range(0..4) {
        0 => metadata.push_str(MANAGED),
        1 => {
            let many: Vec<String> = (0..size / 50).map(|number| format!(r#""a{number}":"b""#)).collect();
            metadata.push_str(&format!(r#","labels":{{{}}}"#, many.join(",")));
        }
        _ => {}
    }
    let value = STANDARD.encode(&text);
    match random.random_range(0..3) {
        0 => (0, secret(&name, &metadata, &format!(r#"{{"k":"{value}"}}"#))),
        1 => {
            let data = format!(r#"{{"k":"{text}"}}"#);
            let map = format!(
                r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"{metadata}}},"data":{data}}}"#
            );
            (1, map)
        }
        _ => {
            let claims = match random.random_range(0..3) {
                0 => deep(depth),
                1 => format!(r#"{{"a":"{text}"}}"#),
                _ => format!(r#"{{"a":[{}1e308]}}"#, "{},".repeat(size)),
            };
            let spec = json!({
                "tokenEndpoint": "https://127.0.0.1:1/token", "grantType": "jwt_bearer", "credentials": {"secretName": format!("random-{}", number.saturating_sub(1))},
                "connection": {"caBundle": {"kind": "ConfigMap", "name": format!("random-{}", number.saturating_sub(2)), "key": "k"}},
                "assertion": {"claims": "CLAIMS"},
            });
            (2, integration(&name, &metadata, &spec.to_string().replace("\"CLAIMS\"", &claims)))
        }
    }
}

/// Random objects in the attacker's namespace do not affect another tenant, neither while the operator runs nor when it
/// starts.
#[tokio::test]
async fn random_objects_of_one_tenant_never_affect_another() {
    const SEED: u64 = 14;
    const OBJECTS: usize = 240;
    println!("seed {SEED}");
    let mut random = StdRng::seed_from_u64(SEED);
    let mut siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let (client, alice) = (&siege.alice.client, &siege.alice);
    let paths = [secrets_of(alice), config_maps_of(alice), integrations_of(alice)];
    let objects: Vec<_> = (0..OBJECTS).map(|number| random_object(&mut random, number)).collect();
    let created = futures::stream::iter(&objects)
        .map(|(kind, object)| async { (*kind, create(client, &paths[*kind], object).await) })
        .buffer_unordered(AT_ONCE)
        .filter(|(_, code)| std::future::ready(*code == 201));
    let created: Vec<(usize, u16)> = created.collect().await;
    for (kind, path) in paths.iter().enumerate() {
        let number = created.iter().filter(|(found, _)| *found == kind).count();
        assert!(number > OBJECTS / 12, "the API server accepted only {number} at {path}");
    }
    siege.observe(&victim, Duration::from_secs(8)).await.assert_unharmed();
    restart(&mut siege, &victim).await;
    siege.observe(&victim, Duration::from_secs(8)).await.assert_unharmed();
    let spec: Value = client_credentials(&victim.endpoint.url(), "credentials");
    siege.bob.integration("another", &spec).await.expect("bob's integration");
    siege.bob.wait_for_ready("another", "True", "TokenValid").await;
}

impl User {
    /// Waits until an integration is not ready for this reason, with a message that contains `text`.
    async fn wait_for_ready_text(&self, name: &str, reason: &str, text: &str) {
        let path = format!("{}/{name}", integrations_of(self));
        eventually(&format!("{name} reports {text:?}"), SHORT_TIMEOUT, async || {
            // The object is nested too deep to be parsed here.
            let request = http::Request::get(&path).body(Vec::new()).expect("a request");
            let found = self.client.request_text(request).await.map_err(|error| error.to_string())?;
            let status = found.split_once("\"status\":").map(|(_, status)| status).unwrap_or_default();
            if status.contains(reason) && status.contains(text) { Ok(()) } else { Err(status.to_owned()) }
        })
        .await;
    }
}
