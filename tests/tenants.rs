//! The promise: nobody gets by the operator what Kubernetes itself would not give them. Two tenants on a real API server, under
//! real roles and the chart's admission policy.

mod common;

use common::endpoint::{Endpoint, Reply};
use common::manifests::{install_admission_policy, install_rights_with_service_accounts};
use common::world::{SOON, client_credentials};
use common::{ControlPlane, Operator, World, eventually};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use oauth_operator::api::OAuthIntegration;
use serde_json::{Value, json};

/// Stands in the Secrets of the owner, which the tenant may not read.
const CANARY: &str = "KANARIENVOGEL-0815";

/// A tenant who may write integrations in a namespace, and get the Secrets that are named.
async fn tenant(world: &World, name: &str, secrets: &[&str], service_accounts: &[&str]) -> Client {
    let control_plane = ControlPlane::shared();
    let namespace = &world.namespace;
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).expect("an account");
    accounts.create(&PostParams::default(), &account).await.expect("the tenant is made");
    let mut rules = vec![json!({
        "apiGroups": ["oauth.evolutionx.io"], "resources": ["oauthintegrations"],
        "verbs": ["create", "get", "list", "update", "patch", "delete"],
    })];
    if !secrets.is_empty() {
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get"]}));
    }
    if !service_accounts.is_empty() {
        rules.push(json!({
            "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": service_accounts,
            "verbs": ["create"],
        }));
    }
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    });
    common::manifests::apply(control_plane, namespace, &format!("{role}\n---\n{binding}"));
    let kubeconfig = control_plane.kubeconfig_for(namespace, name).await;
    common::control_plane::client(&kubeconfig).await
}

/// What the API server says to somebody who makes an integration.
async fn make(client: &Client, namespace: &str, name: &str, spec: &Value) -> Result<(), String> {
    let object = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "metadata": {"name": name}, "spec": spec,
    });
    let api = Api::<OAuthIntegration>::namespaced(client.clone(), namespace);
    let made = api.patch(name, &PatchParams::apply("tenant"), &Patch::Apply(&object)).await;
    made.map(|_| ()).map_err(|error| error.to_string())
}

/// The policy counts from some moment on after it was made: then it refuses who may do nothing.
async fn policy_in_force(client: &Client, namespace: &str) {
    let spec = client_credentials("https://login.example.com/token");
    eventually("the admission policy is in force", SOON, async || {
        match make(client, namespace, "probe", &spec).await {
            Err(why) if why.contains("you may not get Secret credentials") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn exchanging(endpoint: &str, account: &str) -> Value {
    json!({
        "tokenEndpoint": endpoint, "grantType": "token_exchange", "clientAuthentication": {"method": "none"},
        "tokenExchange": {"subjectTokenSource": "ServiceAccount"},
        "serviceAccountToken": {"serviceAccountName": account, "audience": "https://sts.example.com"},
    })
}

#[tokio::test]
async fn who_may_not_read_a_secret_may_not_have_it_sent() {
    let control_plane = ControlPlane::shared();
    install_admission_policy(control_plane);
    install_rights_with_service_accounts(control_plane);
    let thief = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("tenant-a").await;
    let other = World::new("tenant-b").await;
    for world in [&world, &other] {
        world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY)]).await;
        world
            .secret("theirs", &[("client_id", "c"), ("client_secret", "kanarie-own-secret"), ("ca.crt", CANARY)])
            .await;
    }
    let tenant = tenant(&world, "tenant", &["theirs"], &["own-account"]).await;
    policy_in_force(&tenant, &world.namespace).await;
    let url = thief.url();
    let theirs = |more: Value| {
        let mut spec = client_credentials(&url);
        spec["credentials"] = json!({"secretName": "theirs"});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    };
    let refusals = [
        ("the credentials of others", client_credentials(&url), "you may not get Secret credentials"),
        (
            "the credentials of others as an authority",
            theirs(
                json!({"connection": {"caBundle": {"kind": "Secret", "name": "credentials", "key": "client_secret"}}}),
            ),
            "you may not get Secret credentials of spec.connection.caBundle",
        ),
        (
            "a ServiceAccount of others",
            exchanging(&url, "default"),
            "you may not create tokens of ServiceAccount default",
        ),
    ];
    for (case, spec, expected) in refusals {
        let why = make(&tenant, &world.namespace, "stolen", &spec).await.expect_err(case);
        assert!(why.contains(expected), "{case}: {why}");
    }
    // What is one's own may be sent, and then not turned into what is not.
    make(&tenant, &world.namespace, "own", &theirs(json!({}))).await.expect("their own Secret");
    world.ready("own").await;
    let why = make(&tenant, &world.namespace, "own", &client_credentials(&url)).await.expect_err("a change");
    assert!(why.contains("you may not get Secret credentials"), "{why}");
    // Who changes no more than an annotation is asked for nothing.
    let theirs_to_change = Api::<OAuthIntegration>::namespaced(tenant.clone(), &world.namespace);
    let annotation = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": "now"}}});
    theirs_to_change.patch("own", &PatchParams::default(), &Patch::Merge(&annotation)).await.expect("an annotation");
    // Another namespace is out of reach altogether.
    let why = make(&tenant, &other.namespace, "stolen", &theirs(json!({}))).await.expect_err("another namespace");
    assert!(why.contains("forbidden"), "{why}");
    // What the operator writes is not readable by who may only write integrations.
    let secrets = Api::<Secret>::namespaced(tenant.clone(), &world.namespace);
    assert!(secrets.get("own").await.is_err(), "the token is a Secret like any other");
    let bodies: Vec<String> = thief.requests().into_iter().map(|request| request.body).collect();
    assert!(bodies.iter().all(|body| !body.contains(CANARY)), "a Secret of others was sent");
}

#[tokio::test]
async fn a_tenant_overwrites_and_learns_nothing_by_the_target() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("targets").await;
    world.credentials().await;
    world.secret("precious", &[("data", CANARY)]).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"secretName": "precious"});
    world.integration("it", &spec).await;
    world.condition("it", "Stalled", "True", "TargetConflict").await;
    assert_eq!(world.value("precious", "data").await, CANARY);
    // With the annotation of a Secret that was kept, but made for another place.
    let elsewhere = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "oauth-operator", "oauth.evolutionx.io/integration-uid": "x"},
        "annotations": {"oauth.evolutionx.io/retained-for": "elsewhere/precious/it"},
    }});
    world.secrets().patch("precious", &PatchParams::default(), &Patch::Merge(&elsewhere)).await.expect("a patch");
    world.change("it", &json!({"spec": {"scope": "again"}})).await;
    world.condition("it", "Stalled", "True", "TargetConflict").await;
    assert_eq!(world.value("precious", "data").await, CANARY);
    assert!(!world.public_text().await.contains(CANARY));
}

/// A world whose operator sends credentials only where their owners say.
async fn strict(name: &str) -> World {
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace(name).await;
    let kubeconfig = common::operator::kubeconfig(control_plane).await;
    let operator = Operator::start_with(&kubeconfig, &["--namespace", &namespace, "--require-endpoint-pin"]).await;
    World { operator, client: control_plane.client().await, namespace, kubeconfig }
}

#[tokio::test]
async fn a_secret_is_sent_only_where_its_owner_says() {
    let (good, thief) = (Endpoint::start(|_| Reply::token(3600)), Endpoint::start(|_| Reply::token(3600)));
    let world = strict("pinned").await;
    world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY)]).await;
    world.integration("it", &client_credentials(&good.url())).await;
    let stalled = world.condition("it", "Stalled", "True", "EndpointForbidden").await;
    assert!(stalled.message.contains("Secret credentials does not say where it may be sent"), "{}", stalled.message);
    assert_eq!(good.count(), 0, "nothing is sent");
    // Followed at once.
    world.pin("credentials", &format!("https://login.example.com/oauth {}", good.url())).await;
    world.ready("it").await;
    let base = format!("http://{}", good.address());
    let elsewhere = [
        ("another host", thief.url()),
        ("another path", format!("{base}/other")),
        ("a path that begins alike", format!("{base}/tokens")),
        ("a path that leads out again", format!("{base}/token/../other")),
        ("the same, encoded", format!("{base}/token/%2e%2e/other")),
        ("another port", format!("http://127.0.0.1:{}/token", thief.address().port())),
        ("another scheme", format!("https://{}/token", good.address())),
        ("a path that some servers lead out", format!("{base}/token/..%2fother")),
        ("another that some servers lead out", format!("{base}/token/..;/other")),
    ];
    let sent = good.count();
    for (number, (case, url)) in elsewhere.iter().enumerate() {
        let name = format!("it-{number}");
        world.integration(&name, &client_credentials(url)).await;
        let stalled = world.condition(&name, "Stalled", "True", "EndpointForbidden").await;
        assert!(stalled.message.contains("may be sent only to"), "{case}: {}", stalled.message);
    }
    assert_eq!((good.count(), thief.count()), (sent, 0), "nothing is sent");
    // Below the pinned path is fine.
    world.integration("below", &client_credentials(&format!("{}/v2", good.url()))).await;
    world.ready("below").await;
    // What is wrong with the annotation is told.
    world.pin("credentials", "login.example.com").await;
    let told = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert!(told.message.contains("is not an absolute http or https URL"), "{}", told.message);
    assert!(!world.public_text().await.contains(CANARY));
}

/// Who may name other credentials gets nothing of what the target holds: a refresh token goes on only with its own.
#[tokio::test]
async fn a_refresh_token_goes_nowhere_with_other_credentials() {
    let server = common::endpoint::Rotating::new(3600);
    let first = server.first();
    let answering = server.clone();
    let (good, thief) =
        (Endpoint::start(move |request| answering.reply(request)), Endpoint::start(|_| Reply::token(60)));
    let world = World::new("other-credentials").await;
    let values = [("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("refresh_token", first.as_str())];
    world.secret("owners", &values).await;
    world.secret("mine", &[("client_id", "c"), ("client_secret", "kanarie-client-secret")]).await;
    let mut spec = client_credentials(&good.url());
    spec["grantType"] = json!("refresh_token");
    spec["credentials"] = json!({"secretName": "owners"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let current = world.value("it", "refresh_token").await;
    let moved = json!({"spec": {"tokenEndpoint": thief.url(), "credentials": {"secretName": "mine"}}});
    world.change("it", &moved).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert!(stalled.message.contains("refresh_token"), "{}", stalled.message);
    assert_eq!(thief.count(), 0, "nothing was sent");
    assert_eq!(world.value("it", "refresh_token").await, current, "and it is still there");
    // Back with its own, it goes on.
    let back = json!({"spec": {"tokenEndpoint": good.url(), "credentials": {"secretName": "owners"}, "scope": "more"}});
    world.change("it", &back).await;
    world.ready("it").await;
    assert!(server.reused().is_empty() && server.is_current(&world.value("it", "refresh_token").await));
}

#[tokio::test]
async fn a_proxy_of_ones_own_sees_nothing_that_is_pinned() {
    let proxy = Endpoint::start(|_| Reply::token(3600));
    let world = strict("pinned-proxy").await;
    world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY)]).await;
    world.pin("credentials", "http://login.erp.invalid/token").await;
    let mut spec = client_credentials("http://login.erp.invalid/token");
    spec["connection"] = json!({"proxy": format!("http://{}", proxy.address())});
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "EndpointForbidden").await;
    assert!(stalled.message.contains("the proxy would see them"), "{}", stalled.message);
    assert_eq!(proxy.count(), 0);
}

#[tokio::test]
async fn an_authority_of_ones_own_does_not_stand_in_the_place_of_a_pinned_endpoint() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = strict("pinned-authority").await;
    let pem = common::keys::Authority::new().pem;
    world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY), ("ca.crt", &pem)]).await;
    world.pin("credentials", &endpoint.url()).await;
    world.config_map("authority", "ca.crt", &pem).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["connection"] = json!({"caBundle": {"name": "authority"}});
    world.integration("foreign", &spec).await;
    let stalled = world.condition("foreign", "Stalled", "True", "EndpointForbidden").await;
    assert!(stalled.message.contains("an authority of others could stand in that place"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 0);
    spec["connection"] = json!({"caBundle": {"kind": "Secret", "name": "credentials"}});
    world.integration("own", &spec).await;
    world.ready("own").await;
    let allowed = json!({"metadata": {"annotations": {"oauth.evolutionx.io/allow-ca-bundle": "true"}}});
    world.secrets().patch("credentials", &PatchParams::default(), &Patch::Merge(&allowed)).await.expect("a patch");
    world.ready("foreign").await;
}

#[tokio::test]
async fn a_service_account_token_is_sent_only_where_its_owner_says() {
    install_rights_with_service_accounts(ControlPlane::shared());
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = strict("pinned-account").await;
    world.integration("it", &exchanging(&endpoint.url(), "default")).await;
    let stalled = world.condition("it", "Stalled", "True", "EndpointForbidden").await;
    assert!(stalled.message.contains("ServiceAccount default does not say where"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 0);
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.namespace);
    let pin = json!({"metadata": {"annotations": {"oauth.evolutionx.io/allowed-endpoints": endpoint.url()}}});
    accounts.patch("default", &PatchParams::default(), &Patch::Merge(&pin)).await.expect("a patch");
    world.change("it", &json!({"spec": {"tokenLife": "50m"}})).await;
    world.ready("it").await;
}
