//! A user cannot have a target written without the permission to write it, and a target cannot control another
//! controller.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::{Value, json};
use test_support::endpoint::Reply;
use test_support::world::{SHORT_TIMEOUT, World, client_credentials};
use test_support::{ControlPlane, Endpoint, eventually, manifests, tools};

use super::{VERBS, annotations, forged_release, labels, role, spec, without_credentials};
use crate::siege::Siege;

/// Targets on which other controllers would act: for releases, clusters, tenants, gateways.
fn steering_targets() -> Vec<Value> {
    let types =
        ["cluster.x-k8s.io/secret", "rke.cattle.io/machine-plan", "argocd.example.com/repository", "helm.sh/chart"];
    let label_keys = [
        "istio/multiCluster",
        "cluster.x-k8s.io/cluster-name",
        "konghq.com/credential",
        "grafana_datasource",
        "sealedsecrets.bitnami.com/sealed-secrets-key",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/part-of",
        "kapp.k14s.io/app",
        "argocd.argoproj.io/secret-type",
        "owner",
    ];
    let annotation_keys = [
        "kubed.appscode.com/sync",
        "operator.1password.io/item-path",
        "vault.security.banzaicloud.io/vault-role",
        "reflector.v1.k8s.emberstack.com/reflection-allowed",
        "replicator.v1.mittwald.de/replicate-to",
        "kubernetes.io/service-account.name",
    ];
    types
        .map(|type_| json!({"type": type_}))
        .into_iter()
        .chain(label_keys.map(labels))
        .chain(annotation_keys.map(annotations))
        .collect()
}

/// The author of an integration needs the permissions on the target Secret that the operator uses on their behalf.
#[tokio::test]
async fn a_user_cannot_have_a_secret_written_without_the_permission_to_write_it() {
    let siege = Siege::new().await;
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let mallory = &siege.mallory;
    let rejected = |result: Result<(), kube::Error>, expected: &str| {
        let why = result.expect_err(expected).to_string();
        assert!(why.contains(expected), "{expected}: {why}");
    };
    rejected(mallory.integration("release", &forged_release(&endpoint.url())).await, "target.type must not be a type");
    let plain = without_credentials(&endpoint.url());
    // By the name of the integration, which is the default name of the target.
    rejected(
        mallory.integration("sh.helm.release.v1.web.v2", &plain).await,
        "not allowed to get Secret sh.helm.release.v1.web.v2",
    );
    for verb in VERBS {
        // Only the first violation is reported: exactly one permission is missing in each case.
        let verbs: Vec<&str> = VERBS.into_iter().filter(|other| *other != verb).collect();
        manifests::apply(&siege.control_plane, "mallory", &role(&verbs));
        if verb == "get" {
            siege.control_plane.kubectl(&[
                "create",
                "rolebinding",
                "secrets",
                "--role=secrets",
                "--user=mallory",
                "--namespace=mallory",
            ]);
        }
        eventually(&format!("{verb} is missing"), SHORT_TIMEOUT, async || {
            let mut own = plain.clone();
            own["target"] = json!({"secretName": "hers"});
            match mallory.integration("it", &own).await {
                Err(error) if error.to_string().contains(&format!("not allowed to {verb} Secret hers")) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    // With a name that the API server generates.
    let generated = json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
        "metadata": {"generateName": "made-"}, "spec": plain});
    let generated = serde_json::from_value(generated).expect("an object");
    let made = mallory.dynamic_integrations().create(&PostParams::default(), &generated).await;
    rejected(made.map(|_| ()), "not allowed to get Secret made-");

    // With all permissions it is allowed; `create` can be granted by name in this check only.
    manifests::apply(&siege.control_plane, "mallory", &role(&VERBS));
    let mut own = plain.clone();
    own["target"] = json!({"secretName": "hers"});
    own["suspend"] = json!(true);
    eventually("her own Secret", SHORT_TIMEOUT, async || {
        mallory.integration("it", &own).await.map_err(|error| error.to_string())
    })
    .await;

    // Another user's integration whose token she is not allowed to read: she can change neither its endpoint nor its
    // target.
    let params = PatchParams::apply("owner").force();
    let theirs = json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
        "metadata": {"name": "theirs"}, "spec": plain});
    Api::<OAuthIntegration>::namespaced(siege.admin.clone(), "mallory")
        .patch("theirs", &params, &Patch::Apply(&theirs))
        .await
        .expect("their integration");
    let changes = [
        json!({"revocation": {"endpoint": endpoint.url(), "afterRenewal": "1s"}}),
        json!({"connection": {"proxy": "http://evil.example.com"}}),
        json!({"connection": {"caBundle": {"name": "evil"}}}),
        json!({"suspend": true, "connection": {"proxy": "http://evil.example.com"}}),
    ];
    for change in changes {
        rejected(
            mallory.patch_integration("theirs", &json!({"spec": change})).await,
            "not allowed to get Secret theirs, which spec.target references",
        );
    }
    let moved = json!({"spec": {"target": {"secretName": "hers"}}});
    rejected(mallory.patch_integration("theirs", &moved).await, "not allowed to get Secret hers or Secret theirs");
    // Suspending and resuming sends only what its author was allowed to have sent. Neither opens a way for other changes.
    for suspend in [true, false] {
        let alone = json!({"spec": {"suspend": suspend}});
        mallory.patch_integration("theirs", &alone).await.expect("she may update integrations");
        let also = json!({"spec": {"suspend": !suspend, "tokenEndpoint": "http://evil.example.com"}});
        rejected(mallory.patch_integration("theirs", &also).await, "not allowed to get Secret theirs");
    }
}

/// Even for an author with the permission to write Secrets, an administrator must first allow types and metadata on
/// which other controllers act.
#[tokio::test]
async fn a_target_cannot_control_another_controller_without_permission() {
    let siege =
        Siege::with(&["--allow-target-type=example.com/token", "--allow-target-metadata=team,example.com/*"]).await;
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let origin = format!("http://{}", endpoint.address());
    siege
        .alice
        .pinned_secret("credentials", &[("client_id", "alice"), ("client_secret", "kanarie-alice")], &origin)
        .await;
    for (number, target) in steering_targets().into_iter().enumerate() {
        let why = siege.alice.integration(&format!("it-{number}"), &spec(&endpoint.url(), &target)).await;
        let why = why.expect_err(&target.to_string()).to_string();
        assert!(why.contains("is not allowed") || why.contains("must not set"), "{target}: {why}");
    }
    let harmless = json!({"type": "kubernetes.io/basic-auth", "keys": {"accessToken": "password"},
        "labels": {"app.kubernetes.io/name": "orders", "app.kubernetes.io/version": "1"},
        "annotations": {"app.kubernetes.io/component": "token"}});
    siege.alice.integration("harmless", &spec(&endpoint.url(), &harmless)).await.expect("always allowed");
    siege.alice.wait_for_ready("harmless", "True", "TokenValid").await;
    // The policy of this release allows only the defaults, although the operator allows more.
    let rejected = siege.alice.integration("team", &spec(&endpoint.url(), &labels("team"))).await;
    assert!(rejected.is_err(), "the chart's default allows team");
}

/// Without a policy, the operator itself enforces the rules: type, labels, annotations and name.
#[tokio::test]
async fn without_a_policy_the_operator_does_not_write_disallowed_targets() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::with("not-allowed", &["--allow-target-metadata=team,example.com/*"]).await;
    world.credentials().await;
    let rejected = world.try_integration("release", &forged_release(&endpoint.url())).await;
    assert!(rejected.expect_err("a release").to_string().contains("target.type must not be a type"));
    // By its own name, which the schema does not check.
    world.integration("sh.helm.release.v1.web.v2", &client_credentials(&endpoint.url())).await;
    let stalled = world.condition("sh.helm.release.v1.web.v2", "Stalled", "True", "TargetNotAllowed").await;
    assert!(stalled.message.contains("reserved for Helm"), "{}", stalled.message);
    for (number, target) in steering_targets().into_iter().enumerate() {
        let name = format!("it-{number}");
        world.integration(&name, &spec(&endpoint.url(), &target)).await;
        let stalled = world.condition(&name, "Stalled", "True", "TargetNotAllowed").await;
        assert!(stalled.message.contains("--allow-target-"), "{target}: {}", stalled.message);
        assert!(world.values(&name).await.is_none(), "{target} was written");
    }
    assert_eq!(endpoint.count(), 0, "a token is not requested if it could not be written");

    // An existing Secret keeps its token, and renewals continue once the spec is corrected.
    let allowed = json!({"labels": {"team": "erp"}, "annotations": {"example.com/note": "x"}});
    world.integration("it", &spec(&endpoint.url(), &allowed)).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    world.change("it", &json!({"spec": {"target": labels("grafana_datasource")}})).await;
    let stalled = world.condition("it", "Stalled", "True", "TargetNotAllowed").await;
    assert!(stalled.message.contains("grafana_datasource"), "{}", stalled.message);
    world.condition("it", "Ready", "True", "TargetNotAllowed").await;
    assert_eq!(world.value("it", "access_token").await, token);
    world.change("it", &json!({"spec": {"target": {"labels": {"grafana_datasource": null}}}})).await;
    world.ready("it").await;
    assert_eq!((world.value("it", "access_token").await, endpoint.count()), (token, 1));
}

/// A chart with ConfigMaps of these names.
fn chart(config_maps: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("templates")).expect("a directory");
    std::fs::write(dir.path().join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.0.0\n").expect("a file");
    for name in config_maps {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}});
        std::fs::write(dir.path().join(format!("templates/{name}.yaml")), object.to_string()).expect("a file");
    }
    dir
}

/// Installs or upgrades release `web`, as the administrator does.
fn helm(control_plane: &ControlPlane, namespace: &str, verb: &str, chart: &tempfile::TempDir) {
    let output = std::process::Command::new(tools::install("helm").join("helm"))
        .args([verb, "web"])
        .arg(chart.path())
        .args(["--namespace", namespace])
        .env("KUBECONFIG", control_plane.admin_kubeconfig())
        .output()
        .expect("helm runs");
    assert!(output.status.success(), "helm {verb}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The administrator's next `helm upgrade` reads the newest release that it finds, and deletes objects that are in that
/// release and not in the chart. There is no admission policy here: the schema and the operator must prevent it. For
/// the policy, see above.
#[tokio::test]
async fn the_operator_cannot_write_a_release_that_helm_upgrade_reads() {
    const RELEASE: &str = "sh.helm.release.v1.web.v2";
    let siege = Siege::without_policy(&[]).await;
    let plane = &siege.control_plane;
    let (own, forged) = (chart(&["web"]), chart(&["web", "foreign"]));
    // A second revision, made by Helm itself, according to which ConfigMap `foreign` belongs to the release.
    plane.kubectl(&["create", "namespace", "workshop"]);
    helm(plane, "workshop", "install", &own);
    helm(plane, "workshop", "upgrade", &forged);
    let secrets = |namespace: &str| Api::<Secret>::namespaced(siege.admin.clone(), namespace);
    let mut release = secrets("workshop").get(RELEASE).await.expect("a release by Helm");
    let payload = release.data.as_ref().and_then(|data| data.get("release")).expect("a payload").0.clone();
    let payload = String::from_utf8(payload).expect("base64");
    for namespace in ["alice", "mallory"] {
        helm(plane, namespace, "install", &own);
        plane.kubectl(&["create", "configmap", "foreign", "--from-literal=k=v", "--namespace", namespace]);
    }
    // The attack works: if such a Secret is written, the ConfigMap is deleted.
    release.metadata = kube::api::ObjectMeta {
        name: Some(RELEASE.to_owned()),
        labels: release.metadata.labels.take(),
        ..kube::api::ObjectMeta::default()
    };
    secrets("alice").create(&PostParams::default(), &release).await.expect("a forged release");
    helm(plane, "alice", "upgrade", &own);
    let found = plane.try_kubectl(&["get", "configmap", "foreign", "--namespace", "alice"]);
    assert!(!found.status.success(), "this Helm does not act on a forged release: the test proves nothing");

    // It cannot be written through the operator: not by the type or the name of the target, the name of the
    // integration, or labels.
    let endpoint = Endpoint::start(move |_| {
        Reply::json(200, &json!({"access_token": "kanarie-release", "expires_in": 3600, "release": payload}))
    });
    let full = forged_release(&endpoint.url());
    for part in ["type", "secretName"] {
        let mut spec = full.clone();
        spec["target"].as_object_mut().expect("a target").remove(part);
        let rejected = siege.mallory.integration("release", &spec).await.expect_err(part).to_string();
        assert!(rejected.contains("spec.target"), "{rejected}");
    }
    let mut spec = full;
    spec["target"].as_object_mut().expect("a target").retain(|part, _| part == "labels");
    for target in [spec["target"].clone(), json!({})] {
        spec["target"] = target;
        siege.mallory.integration(RELEASE, &spec).await.expect("the schema does not check the name of an integration");
        siege.mallory.wait_for_ready(RELEASE, "False", "TargetNotAllowed").await;
    }
    assert_eq!(endpoint.count(), 0, "a token is not requested if it could not be written");
    assert!(secrets("mallory").get_opt(RELEASE).await.expect("a read").is_none());
    helm(plane, "mallory", "upgrade", &own);
    plane.kubectl(&["get", "configmap", "foreign", "--namespace", "mallory"]);
    let release = secrets("mallory").get(RELEASE).await.expect("the second revision");
    assert_eq!(release.labels().get("owner").map(String::as_str), Some("helm"), "written by Helm");
}
