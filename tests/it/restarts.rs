//! Guarantee: workloads that opted in are restarted once for each new content of their Secrets, and no others; not again
//! by another process; not more often than they want; not more at once than the flag says.

use std::cell::Cell;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::install_crd;
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, Operator, World, eventually};

const RESTART_ON_RENEWAL: &str = "oauth.evolutionx.io/restart-on-renewal";
const RESTART_AT_MOST_EVERY: &str = "oauth.evolutionx.io/restart-at-most-every";
const RESTARTED_FOR: &str = "oauth.evolutionx.io/restarted-for";
const RESTARTED_AT: &str = "oauth.evolutionx.io/restarted-at";
const TOKEN_HASH: &str = "oauth.evolutionx.io/token-hash";
/// A record of something else than the current content.
const OUTDATED: &str = "it=0000000000000000";

fn workloads(world: &World, kind: &str) -> Api<DynamicObject> {
    let resource = match kind {
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
        _ => ApiResource::erase::<DaemonSet>(&()),
    };
    Api::namespaced_with(world.client.clone(), &world.namespace, &resource)
}

/// Creates a workload with these annotations.
async fn create(world: &World, kind: &str, name: &str, annotations: &Value) {
    let labels = json!({"app": name});
    let container = json!({"name": "reader", "image": "reader"});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!(name);
    }
    let object = serde_json::from_value(object).expect("an object");
    let created = workloads(world, kind).create(&PostParams::default(), &object).await;
    created.unwrap_or_else(|error| panic!("{kind} {name} cannot be created: {error}"));
}

async fn get(world: &World, kind: &str, name: &str) -> DynamicObject {
    workloads(world, kind).get(name).await.unwrap_or_else(|error| panic!("{kind} {name} cannot be read: {error}"))
}

/// The hash in the pod template.
fn hash(workload: &DynamicObject) -> Option<String> {
    let annotations = &workload.data["spec"]["template"]["metadata"]["annotations"];
    annotations[TOKEN_HASH].as_str().map(ToOwned::to_owned)
}

/// Waits until a workload was restarted for something else than `before`.
async fn restarted(world: &World, kind: &str, name: &str, before: Option<&str>) -> DynamicObject {
    eventually(&format!("{kind} {name} is restarted"), Duration::from_secs(40), async || {
        let found = get(world, kind, name).await;
        let hash = hash(&found);
        if hash.is_some() && hash.as_deref() != before { Ok(found) } else { Err(world.operator.logs()) }
    })
    .await
}

/// Waits until the operator has decided about all workloads: one that is due with them was restarted.
async fn decided(world: &World) {
    let names = workloads(world, "DaemonSet").list(&ListParams::default()).await.expect("a list").items.len();
    let name = format!("sentinel-{names}");
    create(
        world,
        "DaemonSet",
        &name,
        &json!({RESTART_ON_RENEWAL: "sentinel", RESTARTED_FOR: "sentinel=0000000000000000"}),
    )
    .await;
    restarted(world, "DaemonSet", &name, None).await;
}

/// A namespace with an integration `it`, one for [`decided`], and many slots.
async fn world(name: &str, endpoint: &Endpoint, flags: &[&str]) -> World {
    let flags = [&["--restarts-at-once=50"], flags].concat();
    let world = World::restarting(ControlPlane::shared(), name, &flags).await;
    prepare(&world, endpoint).await;
    world
}

async fn prepare(world: &World, endpoint: &Endpoint) {
    world.credentials().await;
    for name in ["it", "sentinel"] {
        world.integration(name, &client_credentials(&endpoint.url())).await;
        world.ready(name).await;
    }
}

#[tokio::test]
async fn each_new_content_restarts_the_workloads_that_opted_in_once() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = world("restarts", &endpoint, &[]).await;
    let readers = [("Deployment", "reader"), ("StatefulSet", "set"), ("DaemonSet", "daemons")];
    for (kind, name) in readers {
        create(&world, kind, name, &json!({RESTART_ON_RENEWAL: "it", RESTART_AT_MOST_EVERY: "1m"})).await;
    }
    create(&world, "Deployment", "bystander", &json!({})).await;
    create(&world, "Deployment", "of-another", &json!({RESTART_ON_RENEWAL: "sentinel"})).await;
    decided(&world).await;
    for (kind, name) in readers {
        assert_eq!(hash(&get(&world, kind, name).await), None, "{name} was created after the token");
    }
    world.renew("it", "first").await;
    let mut generations = Vec::new();
    for (kind, name) in readers {
        let found = restarted(&world, kind, name, None).await;
        assert!(found.annotations()[RESTARTED_FOR].starts_with("it="), "{:?}", found.annotations());
        generations.push(found.metadata.generation);
        let event = world.event(name, "WorkloadRestarted").await;
        assert_eq!(event.regarding.and_then(|about| about.kind).as_deref(), Some(kind));
        assert_eq!(event.note.as_deref(), Some("restarted, because Secret it changed"));
    }
    let note = world.event("it", "WorkloadRestarted").await.note.unwrap_or_default();
    assert!(note.starts_with("restarted ") && note.contains("Deployment reader"), "{note}");
    let all_hashes: Vec<_> = futures::future::join_all(readers.map(|(kind, name)| get(&world, kind, name))).await;
    assert!(all_hashes.windows(2).all(|pair| hash(&pair[0]) == hash(&pair[1])), "the same content, the same hash");

    // The Secret is written again with the same content.
    world.change("it", &json!({"spec": {"target": {"labels": {"app.kubernetes.io/name": "shop"}}}})).await;
    world.label("it", "app.kubernetes.io/name", Some("shop")).await;
    decided(&world).await;
    for ((kind, name), generation) in readers.into_iter().zip(generations) {
        assert_eq!(get(&world, kind, name).await.metadata.generation, generation, "{name}: the same content");
    }
    for name in ["bystander", "of-another"] {
        let found = get(&world, "Deployment", name).await;
        assert_eq!((hash(&found), found.metadata.generation), (None, Some(1)), "{name}");
    }
    // Three of them, and the sentinels.
    eventually("they are counted", SHORT_TIMEOUT, async || {
        let restarts = world.operator.metric("oauth_operator_workload_restarts_total", "outcome=\"Success\"");
        if restarts == Some(5.0) { Ok(()) } else { Err(format!("{restarts:?}")) }
    })
    .await;
}

#[tokio::test]
async fn another_process_and_another_leader_restart_nothing_again() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let control_plane = ControlPlane::shared();
    let flags = ["--restarts-at-once=50", "--leader-elect"];
    let mut world = World::restarting(control_plane, "restarts-again", &flags).await;
    let namespace = world.namespace.clone();
    let own = ["--namespace", &namespace, "--lease-namespace", &namespace, "--restarts"];
    let arguments: Vec<&str> = own.into_iter().chain(flags).collect();
    prepare(&world, &endpoint).await;
    create(&world, "Deployment", "reader", &json!({RESTART_ON_RENEWAL: "it", RESTARTED_FOR: OUTDATED})).await;
    let before = restarted(&world, "Deployment", "reader", None).await;

    let standby = Operator::start_with(&world.kubeconfig, &arguments).await;
    world.operator.kill();
    world.operator = standby;
    eventually("it leads", Duration::from_secs(40), async || {
        if world.operator.leads() { Ok(()) } else { Err("a standby".to_owned()) }
    })
    .await;
    decided(&world).await;
    world.operator.terminate(SHORT_TIMEOUT);
    world.operator = Operator::start_with(&world.kubeconfig, &arguments).await;
    decided(&world).await;
    let after = get(&world, "Deployment", "reader").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "nothing was patched");
}

#[tokio::test]
async fn a_workload_is_restarted_at_most_as_often_as_it_wants() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = world("restarts-interval", &endpoint, &[]).await;
    let last = Timestamp::now() - SignedDuration::from_secs(50);
    let annotations = json!({
        RESTART_ON_RENEWAL: "it", RESTART_AT_MOST_EVERY: "1m", RESTARTED_FOR: OUTDATED, RESTARTED_AT: last.to_string(),
    });
    create(&world, "Deployment", "reader", &annotations).await;
    decided(&world).await;
    assert_eq!(hash(&get(&world, "Deployment", "reader").await), None, "less than a minute after the last restart");
    let found = restarted(&world, "Deployment", "reader", None).await;
    let again: Timestamp = found.annotations()[RESTARTED_AT].parse().expect("a time");
    assert!(again.duration_since(last) >= SignedDuration::from_secs(59), "{last} and {again}");
}

/// Something that writes the whole object removes the record of the restart: that must not cause one after the other.
#[tokio::test]
async fn without_the_record_a_workload_is_still_restarted_at_most_as_often_as_it_wants() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = world("restarts-reverted", &endpoint, &[]).await;
    create(&world, "Deployment", "reverted", &json!({RESTART_ON_RENEWAL: "it", RESTART_AT_MOST_EVERY: "1m"})).await;
    decided(&world).await;
    world.renew("it", "first").await;
    restarted(&world, "Deployment", "reverted", None).await;
    let removed = json!({
        "metadata": {"annotations": {RESTARTED_FOR: null, "oauth.evolutionx.io/restarted-at": null}},
        "spec": {"template": {"metadata": {"annotations": null}}},
    });
    let deployments = workloads(&world, "Deployment");
    deployments.patch("reverted", &PatchParams::default(), &Patch::Merge(&removed)).await.expect("a revert");
    decided(&world).await;
    assert_eq!(hash(&get(&world, "Deployment", "reverted").await), None, "it was restarted a moment ago");
}

#[tokio::test]
async fn nothing_is_restarted_while_the_integration_is_suspended() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = world("restarts-suspended", &endpoint, &[]).await;
    world.change("it", &json!({"spec": {"suspend": true}})).await;
    world.condition("it", "Ready", "True", "Suspended").await;
    create(&world, "Deployment", "reader", &json!({RESTART_ON_RENEWAL: "it", RESTARTED_FOR: OUTDATED})).await;
    decided(&world).await;
    assert_eq!(hash(&get(&world, "Deployment", "reader").await), None);
    world.change("it", &json!({"spec": {"suspend": false}})).await;
    restarted(&world, "Deployment", "reader", None).await;
}

#[tokio::test]
async fn the_owner_of_a_workload_is_told_what_to_correct() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = world("restarts-invalid", &endpoint, &[]).await;
    let cases = [
        ("too-often", json!({RESTART_ON_RENEWAL: "it", RESTART_AT_MOST_EVERY: "1s"}), "RestartAnnotationInvalid"),
        ("elsewhere", json!({RESTART_ON_RENEWAL: "other/it"}), "RestartAnnotationInvalid"),
        ("too-rarely", json!({RESTART_ON_RENEWAL: "it", RESTART_AT_MOST_EVERY: "45m"}), "RestartIntervalTooLong"),
    ];
    for (name, annotations, reason) in cases {
        let mut annotations = annotations;
        annotations[RESTARTED_FOR] = json!(OUTDATED);
        create(&world, "Deployment", name, &annotations).await;
        let event = world.event(name, reason).await;
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
    decided(&world).await;
    for name in ["too-often", "elsewhere"] {
        assert_eq!(hash(&get(&world, "Deployment", name).await), None, "{name}");
    }
    restarted(&world, "Deployment", "too-rarely", None).await;
    let patch = json!({"metadata": {"annotations": {RESTART_AT_MOST_EVERY: "1m"}}});
    let api = workloads(&world, "Deployment");
    api.patch("too-often", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a correction");
    restarted(&world, "Deployment", "too-often", None).await;
    let events = world.events("too-often").await;
    let invalid = events.iter().filter(|event| event.reason.as_deref() == Some("RestartAnnotationInvalid"));
    assert_eq!(invalid.count(), 1, "reported once");
}

#[tokio::test]
async fn a_token_is_renewed_earlier_for_workloads_that_are_restarted_rarely() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = world("restarts-renewal", &endpoint, &[]).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["renewal"] = json!({"jitter": "0s"});
    world.integration("orders", &spec).await;
    let status = world.ready("orders").await.status.expect("a status");
    let (usual, expires_at) = (status.renew_at.expect("a time").0, status.expires_at.expect("a time").0);
    create(&world, "Deployment", "reader", &json!({RESTART_ON_RENEWAL: "orders", RESTART_AT_MOST_EVERY: "30m"})).await;
    let renews = |earlier: bool| {
        let world = &world;
        async move {
            eventually(&format!("an earlier renewal: {earlier}"), SHORT_TIMEOUT, async || {
                let at = world.get("orders").await.status.and_then(|status| status.renew_at).expect("a time").0;
                if (at < usual) == earlier { Ok(at) } else { Err(format!("{at}")) }
            })
            .await
        }
    };
    let earlier = renews(true).await;
    let before = expires_at.duration_since(earlier).as_secs();
    assert!((1799..=1801).contains(&before), "half of the lifetime: {before} s");
    workloads(&world, "Deployment").delete("reader", &DeleteParams::default()).await.expect("a deletion");
    assert_eq!(renews(false).await, usual);
    assert_eq!(endpoint.count(), 3, "no token was requested for that");
}

#[tokio::test]
async fn without_the_flag_or_the_permissions_tokens_are_renewed_and_nothing_is_restarted() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    for flags in [&[][..], &["--restarts"]] {
        let world = World::with("no-restarts", flags).await;
        prepare(&world, &endpoint).await;
        create(&world, "Deployment", "reader", &json!({RESTART_ON_RENEWAL: "it", RESTARTED_FOR: OUTDATED})).await;
        world.renew("it", "now").await;
        let failed = "watch of workloads failed";
        if flags.is_empty() {
            assert!(!world.operator.logs().contains(failed), "nothing is watched");
        } else {
            eventually("the log says why", SHORT_TIMEOUT, async || {
                if world.operator.logs().contains(failed) { Ok(()) } else { Err(String::new()) }
            })
            .await;
        }
        assert_eq!(get(&world, "Deployment", "reader").await.metadata.generation, Some(1));
    }
}

#[tokio::test]
async fn a_rejected_restart_is_reported_and_tried_again() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = world("restarts-rejected", &endpoint, &[]).await;
    let control_plane = ControlPlane::shared();
    let namespace = world.namespace.as_str();
    let role = control_plane.kubectl(&["get", "role", "oauth-operator", "-n", namespace, "-o", "json"]);
    let role: Value = serde_json::from_str(&role).expect("a Role");
    let rules = role["rules"].as_array().expect("rules").clone();
    let without = rules.iter().map(|rule| {
        let mut rule = rule.clone();
        if rule["apiGroups"] == json!(["apps"]) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
        rule
    });
    let patch = json!({"rules": without.collect::<Vec<_>>()}).to_string();
    control_plane.kubectl(&["patch", "role", "oauth-operator", "-n", namespace, "--type=merge", "-p", &patch]);
    create(&world, "Deployment", "reader", &json!({RESTART_ON_RENEWAL: "it", RESTARTED_FOR: OUTDATED})).await;
    for about in ["reader", "it"] {
        let event = world.event(about, "RestartFailed").await;
        assert!(event.note.as_deref().is_some_and(|note| note.contains("is forbidden")), "{event:?}");
    }
    let rejected = world.operator.metric("oauth_operator_workload_restarts_total", "outcome=\"RestartFailed\"");
    assert!(rejected.is_some_and(|rejected| rejected >= 1.0), "{rejected:?}");
    assert_eq!(hash(&get(&world, "Deployment", "reader").await), None);
}

/// The controllers are played by the test, which lets it watch the number of rollouts.
#[tokio::test]
async fn of_100_workloads_of_one_secret_no_more_than_the_maximum_are_restarted_at_once() {
    const ALL: usize = 100;
    const AT_ONCE: usize = 10;
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::restarting(ControlPlane::shared(), "restarts-batches", &["--restarts-at-once=10"]).await;
    prepare(&world, &endpoint).await;
    for number in 0..ALL {
        let annotations = json!({RESTART_ON_RENEWAL: "it", RESTARTED_FOR: OUTDATED});
        create(&world, "StatefulSet", &format!("it-{number:02}"), &annotations).await;
    }
    let api = workloads(&world, "StatefulSet");
    let most = Cell::new(0);
    eventually("all are restarted", Duration::from_secs(180), async || {
        let all = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_rolling = |found: &&DynamicObject| {
            hash(found).is_some()
                && found.data["status"]["observedGeneration"].as_i64().unwrap_or_default()
                    < found.metadata.generation.unwrap_or_default()
        };
        let rolling: Vec<_> = all.iter().filter(is_rolling).collect();
        most.set(most.get().max(rolling.len()));
        assert!(rolling.len() <= AT_ONCE, "{} at once", rolling.len());
        for found in &rolling {
            let status = json!({"status": {
                "observedGeneration": found.metadata.generation, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1,
            }});
            let patched = api.patch_status(&found.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await;
            patched.map_err(|error| error.to_string())?;
        }
        let done = all.iter().filter(|found| hash(found).is_some()).count();
        if done == ALL && rolling.is_empty() { Ok(()) } else { Err(format!("{done} restarted\n{}", world.operator.logs())) }
    })
    .await;
    assert_eq!(most.get(), AT_ONCE, "as many as allowed");
    let found = api.list(&ListParams::default()).await.expect("a list").items;
    assert!(found.iter().all(|found| found.metadata.generation == Some(2)), "each of them once");
}

/// With the real controllers: two renewals in quick succession are one rollout of each Deployment, even if the operator is
/// killed in the middle of them.
#[tokio::test]
async fn two_renewals_and_a_killed_operator_give_each_deployment_one_new_replica_set() {
    const ALL: usize = 12;
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let control_plane = ControlPlane::start_with_deployments();
    install_crd(&control_plane);
    let flags = ["--restarts-at-once=3"];
    let mut world = World::restarting(&control_plane, "rollouts", &flags).await;
    prepare(&world, &endpoint).await;
    for number in 0..ALL {
        create(&world, "Deployment", &format!("it-{number:02}"), &json!({RESTART_ON_RENEWAL: "it"})).await;
    }
    eventually("the pods run", Duration::from_secs(60), async || {
        run_pods(&world).await;
        let ready = available(&world).await;
        if ready == ALL { Ok(()) } else { Err(format!("{ready} are available")) }
    })
    .await;
    let first = world.value("it", "access_token").await;
    world.renew("it", "first").await;
    world.renew("it", "second").await;
    assert_ne!(world.value("it", "access_token").await, first);
    eventually("some are restarted", Duration::from_secs(60), async || {
        let done = roll_out(&world).await;
        if done >= 4 { Ok(()) } else { Err(format!("{done} were restarted")) }
    })
    .await;
    world.operator.kill();
    let arguments = [&["--namespace", world.namespace.as_str(), "--restarts"], &flags[..]].concat();
    world.operator = Operator::start_with(&world.kubeconfig, &arguments).await;
    eventually("all are restarted", Duration::from_secs(120), async || {
        let done = roll_out(&world).await;
        if done == ALL && available(&world).await == ALL { Ok(()) } else { Err(format!("{done} were restarted")) }
    })
    .await;
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let sets = sets.list(&ListParams::default()).await.expect("a list").items;
    assert_eq!(sets.len(), 2 * ALL, "one new ReplicaSet for each Deployment");
}

/// Lets the pods run, and returns the number of Deployments that were restarted; no more than three are in progress.
async fn roll_out(world: &World) -> usize {
    let all = workloads(world, "Deployment").list(&ListParams::default()).await.expect("a list").items;
    let is_rolling = |found: &&DynamicObject| hash(found).is_some() && !is_available(found);
    let rolling = all.iter().filter(is_rolling).count();
    assert!(rolling <= 3, "{rolling} at once");
    run_pods(world).await;
    all.iter().filter(|found| hash(found).is_some()).count()
}

/// Whether a Deployment has rolled out its template.
fn is_available(found: &DynamicObject) -> bool {
    let status = &found.data["status"];
    status["observedGeneration"].as_i64() == found.metadata.generation
        && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|name| status[*name] == 1)
}

async fn available(world: &World) -> usize {
    let all = workloads(world, "Deployment").list(&ListParams::default()).await.expect("a list").items;
    all.iter().filter(|found| is_available(found)).count()
}

/// Reports the pods as running, like a kubelet would.
async fn run_pods(world: &World) {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    for pod in pods.list(&ListParams::default()).await.expect("a list").items {
        let is_running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        if is_running || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let ready = json!({"type": "Ready", "status": "True"});
        let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
        // It may have been deleted in the meantime.
        let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await;
    }
}
