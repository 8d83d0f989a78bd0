//! Guarantee: GitOps tools understand what the operator reports. Argo CD (`gitops/argo-cd`, run as Argo CD runs it) and
//! kstatus, with which Flux and `kubectl` plugins wait, agree; Argo CD's actions work; nothing that the operator does is a
//! difference to what was applied.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use oauth_operator::api::provider::OAuthProvider;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::temporary_file;
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, World, eventually, tools};

use crate::platform::{Platform, provider_is};

fn scripts() -> String {
    tools::root().join("gitops/argo-cd/resource_customizations").display().to_string()
}

fn run(arguments: &[&str]) -> Value {
    let program: PathBuf = tools::install("gitops").join("gitops");
    let output = Command::new(program).args(arguments).output().expect("gitops");
    assert!(output.status.success(), "{arguments:?}: {}", tools::printed(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

/// Whether Argo CD may show this health, which is another one than kstatus means.
fn is_exception(health: &str, kstatus: &str, now: &str, object: &Value) -> bool {
    let status = &object["status"];
    let at = |time: &str| time.parse::<Timestamp>().expect("a time");
    let has_expired = status["expiresAt"].as_str().is_some_and(|expires_at| at(expires_at) <= at(now));
    let is_ready = condition(object, "Ready")["status"] == "True";
    match (health, kstatus) {
        // kstatus does not know this state.
        ("Suspended", "Current" | "InProgress") => condition(object, "Ready")["reason"] == "Suspended",
        // Workloads have no valid token: kstatus knows no times.
        ("Degraded", "Current") => has_expired,
        // The operator continues on its own, but someone should look at it now.
        ("Degraded", "InProgress") => {
            has_expired || (!is_ready && status["lastFailure"]["attempts"].as_i64().is_some_and(|count| count >= 3))
        }
        _ => false,
    }
}

#[test]
fn argo_cd_and_kstatus_agree_on_every_status() {
    let file = tools::root().join("tests/statuses.json");
    let records: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(&file).expect("tests/statuses.json")).expect("JSON");
    let seen = run(&["health", &scripts(), &file.display().to_string()]);
    let seen = seen.as_array().expect("a list");
    assert_eq!(seen.len(), records.len());
    let mut counts = BTreeMap::<(&str, &str), usize>::new();
    for (seen, record) in seen.iter().zip(&records) {
        let text = |value: &'_ Value| value.as_str().expect("a text").to_owned();
        let (object, now) = (&record["object"], text(&record["now"]));
        let (health, kstatus) = (seen["argo"]["status"].as_str(), seen["kstatus"].as_str());
        let (health, kstatus) = (health.expect("a health"), kstatus.expect("a status"));
        let expected = match kstatus {
            "Current" => "Healthy",
            "Failed" => "Degraded",
            _ => "Progressing",
        };
        let context = format!("{}: {seen}, {object}", record["name"]);
        assert!(health == expected || is_exception(health, kstatus, &now, object), "{context}");
        // The states that people act on are those of the operator.
        let is_observed = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let is_current = is_observed && object["metadata"]["deletionTimestamp"].is_null();
        let is_stalled = is_current && condition(object, "Stalled")["status"] == "True";
        assert_eq!(kstatus == "Failed", is_stalled, "{context}");
        if health == "Healthy" {
            assert!(is_current && condition(object, "Ready")["status"] == "True", "{context}");
        }
        if is_current && kstatus != "Current" {
            assert_eq!(seen["argo"]["message"], condition(object, "Ready")["message"], "{context}");
        }
        *counts.entry((health, kstatus)).or_default() += 1;
    }
    for state in [
        ("Healthy", "Current"),
        ("Progressing", "InProgress"),
        ("Progressing", "Terminating"),
        ("Degraded", "Failed"),
        ("Suspended", "Current"),
        ("Suspended", "InProgress"),
        ("Degraded", "Current"),
        ("Degraded", "InProgress"),
    ] {
        assert!(counts.contains_key(&state), "{state:?} does not occur: {counts:?}");
    }
}

#[test]
fn the_scripts_pass_the_tests_that_argo_cd_would_run() {
    let count = run(&["test", &scripts()])["tests"].as_u64().expect("a number");
    assert!(count > 30, "only {count} tests");
}

/// Runs an action as Argo CD does: on the object as it is in the cluster, and then as a merge patch.
async fn act(world: &World, name: &str, action: &str) {
    let kind = json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration"});
    let mut before = serde_json::to_value(world.get(name).await).expect("JSON");
    test_support::spec::merge(&mut before, &kind);
    let file = temporary_file(&before.to_string());
    let mut after = run(&["action", &scripts(), action, &file.path().display().to_string()]);
    let path = ["metadata/annotations", "spec/suspend"].map(|path| format!("/{path}"));
    let changed = path.each_ref().map(|path| after.pointer(path).cloned().unwrap_or_default());
    let patch = json!({"metadata": {"annotations": changed[0]}, "spec": {"suspend": changed[1]}});
    // Nothing else is changed.
    for object in [&mut before, &mut after] {
        object["metadata"].as_object_mut().expect("an object").remove("annotations");
        object["spec"].as_object_mut().expect("an object").remove("suspend");
    }
    assert_eq!(before, after);
    world.change(name, &patch).await;
}

#[tokio::test]
async fn the_actions_of_argo_cd_renew_suspend_and_resume() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("actions").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;

    act(&world, "it", "renew").await;
    world.wait_for_change("it", "access_token", &first).await;
    eventually("the renewal is reported", SHORT_TIMEOUT, async || {
        let handled = world.get("it").await.status.and_then(|status| status.last_handled_renew_request);
        let handled = handled.ok_or("nothing")?;
        handled.parse::<Timestamp>().map_err(|error| format!("{handled}: {error}"))
    })
    .await;

    act(&world, "it", "suspend").await;
    world.condition("it", "Ready", "True", "Suspended").await;
    act(&world, "it", "resume").await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 2, "suspending and resuming requests nothing");
}

/// `kubectl diff`; empty if there is no difference.
fn diff(file: &str, namespace: &str, flags: &[&str]) -> String {
    let arguments = [&["diff", "--filename", file, "--namespace", namespace], flags].concat();
    let output = ControlPlane::shared().try_kubectl(&arguments);
    match output.status.code() {
        Some(0) => String::new(),
        Some(1) => String::from_utf8_lossy(&output.stdout).into_owned(),
        code => panic!("kubectl diff exited with {code:?}: {}", tools::printed(&output)),
    }
}

/// An integration on its own with a finalizer, and one for each kind of provider, with these names.
fn manifest(url: &str, namespace: &str, [alone, own, shared]: [&str; 3]) -> String {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        })
    };
    let mut spec = client_credentials(url);
    spec["revocation"] = json!({"endpoint": url, "onDeletion": true});
    let with_provider = |kind: &str, name: &str| {
        let spec = json!({"grantType": "client_credentials", "providerRef": {"kind": kind, "name": name}});
        object("OAuthIntegration", name, spec)
    };
    let mut of_provider = json!({"tokenEndpoint": url, "credentials": {"secretName": "credentials"}});
    let own_provider = object("OAuthProvider", own, of_provider.clone());
    of_provider["allow"] = json!([{"namespaces": {"names": [namespace]}}]);
    let objects = [
        object("OAuthIntegration", alone, spec),
        with_provider("OAuthProvider", own),
        with_provider("ClusterOAuthProvider", shared),
        own_provider,
        object("ClusterOAuthProvider", shared, of_provider),
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}

#[tokio::test]
async fn kubectl_diff_stays_clean_whatever_the_operator_does() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let platform = Platform::new("diff").await;
    let world = &platform.world;
    world.credentials().await;
    platform.secret("credentials", &[("client_id", "platform"), ("client_secret", "platform-secret")]).await;
    let namespace = &world.namespace;
    let server_side = ["--server-side", "--field-manager=gitops"];
    for (way, flags) in [("client-side", &[][..]), ("server-side", &server_side)] {
        let names = ["alone", "own", "shared"].map(|name| format!("{}-{name}-{way}", platform.name()));
        let [alone, own, shared] = names.each_ref().map(String::as_str);
        let manifest = temporary_file(&manifest(&endpoint.url(), namespace, [alone, own, shared]));
        let file = manifest.path().display().to_string();
        assert!(!diff(&file, namespace, flags).is_empty(), "the objects are new");
        let apply = [&["apply", "--filename", &file, "--namespace", namespace], flags].concat();
        ControlPlane::shared().kubectl(&apply);
        for name in [alone, own, shared] {
            world.ready(name).await;
        }
        let finalizers = world.get(alone).await.metadata.finalizers.unwrap_or_default();
        assert_eq!(finalizers, ["oauth.evolutionx.io/revocation"]);
        provider_is(&platform.providers(), shared, "True", "ProviderReady").await;
        let providers = Api::<OAuthProvider>::namespaced(world.client.clone(), namespace);
        provider_is(&providers, own, "True", "ProviderReady").await;
        assert_eq!(diff(&file, namespace, flags), "", "{way}, after the first token");

        // The annotation of a renewal is in no manifest.
        world.renew(alone, "2026-11-25T10:00:00Z").await;
        assert_eq!(diff(&file, namespace, flags), "", "{way}, after a renewal");
        ControlPlane::shared().kubectl(&apply);
        let kept = world.get(alone).await.metadata.annotations.unwrap_or_default();
        assert_eq!(kept["oauth.evolutionx.io/renew-requested-at"], "2026-11-25T10:00:00Z", "{way}: not reverted");

        act(world, alone, "suspend").await;
        world.condition(alone, "Ready", "True", "Suspended").await;
        ControlPlane::shared().kubectl(&apply);
        assert!(world.get(alone).await.spec.suspend, "{way}: a manifest without the field does not resume");
        assert_eq!(diff(&file, namespace, flags), "", "{way}, while suspended");
        ControlPlane::shared().kubectl(&["delete", "--filename", &file, "--namespace", namespace]);
    }
}
