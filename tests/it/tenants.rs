//! Guarantee: the operator does not give a user more access than Kubernetes RBAC does. Tested with two tenants on a
//! real API server, with real roles and the chart's admission policy.

use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::{install_admission_policy_for, install_permissions_with_service_accounts};
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, Operator, World, eventually};

/// A part of the values in the owner's Secrets, which the tenant is not allowed to read.
const CANARY: &str = "KANARIENVOGEL-0815";

/// A tenant who may write integrations in a namespace, get the listed Secrets, and use the verbs of the operator on the
/// listed targets.
async fn tenant(world: &World, name: &str, secrets: &[&str], targets: &[&str], service_accounts: &[&str]) -> Client {
    let control_plane = ControlPlane::shared();
    let namespace = &world.namespace;
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).expect("an account");
    accounts.create(&PostParams::default(), &account).await.expect("the tenant is created");
    let mut rules = vec![json!({
        "apiGroups": ["oauth.evolutionx.io"], "resources": ["oauthintegrations"],
        "verbs": ["create", "get", "list", "update", "patch", "delete"],
    })];
    if !secrets.is_empty() {
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get"]}));
    }
    if !targets.is_empty() {
        let verbs = ["get", "create", "update", "delete"];
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": targets, "verbs": verbs}));
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
    test_support::manifests::apply(control_plane, namespace, &format!("{role}\n---\n{binding}"));
    let kubeconfig = control_plane.kubeconfig_for(namespace, name).await;
    test_support::control_plane::client(&kubeconfig).await
}

/// Creates an integration as a user, or returns the error of the API server.
async fn create(client: &Client, namespace: &str, name: &str, spec: &Value) -> Result<(), String> {
    let object = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration", "metadata": {"name": name}, "spec": spec,
    });
    let api = Api::<OAuthIntegration>::namespaced(client.clone(), namespace);
    let made = api.patch(name, &PatchParams::apply("tenant"), &Patch::Apply(&object)).await;
    made.map(|_| ()).map_err(|error| error.to_string())
}

/// Waits until the policy has taken effect, that is, until it denies a user without permissions.
async fn policy_in_force(client: &Client, namespace: &str) {
    let attempts = AtomicU32::new(0);
    eventually("the admission policy is in force", SHORT_TIMEOUT, async || {
        // Each attempt changes the spec: the policy ignores an update that does not.
        let mut spec = client_credentials("https://login.example.com/token");
        spec["scope"] = json!(format!("attempt-{}", attempts.fetch_add(1, Ordering::Relaxed)));
        match create(client, namespace, "probe", &spec).await {
            Err(why) if why.contains("not allowed to get Secret credentials") => Ok(()),
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

/// As the server of Argo CD, which runs the actions of its users.
async fn suspending_needs_no_permissions_for_secrets(world: &World) {
    let server = tenant(world, "argocd-server", &[], &[], &[]).await;
    let integrations = Api::<OAuthIntegration>::namespaced(server, &world.namespace);
    let change = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        integrations.patch("own", &PatchParams::default(), &patch).await.map_err(|error| error.to_string())
    };
    change(json!({"suspend": true})).await.expect("suspended");
    world.condition("own", "Ready", "True", "Suspended").await;
    for more in [
        json!({"suspend": false, "tokenEndpoint": "https://thief.example.com/token"}),
        json!({"suspend": false, "scope": "all"}),
        json!({"suspend": false, "clientAuthentication": null, "tokenEndpoint": null, "issuer": "https://thief.example.com"}),
    ] {
        let why = change(more.clone()).await.expect_err("more than resuming");
        assert!(why.contains("not allowed to get Secret theirs"), "{more}: {why}");
    }
    change(json!({"suspend": false})).await.expect("resumed");
    world.ready("own").await;
}

#[tokio::test]
async fn a_user_cannot_have_a_secret_sent_without_the_permission_to_read_it() {
    let control_plane = ControlPlane::shared();
    install_permissions_with_service_accounts(control_plane);
    let thief = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("tenant-a").await;
    let other = World::new("tenant-b").await;
    install_admission_policy_for(control_plane, &[&world.namespace, &other.namespace]);
    for world in [&world, &other] {
        world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY)]).await;
        world
            .secret("theirs", &[("client_id", "c"), ("client_secret", "kanarie-own-secret"), ("ca.crt", CANARY)])
            .await;
    }
    let tenant = tenant(&world, "tenant", &["theirs"], &["own"], &["own-account"]).await;
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
    let rejections = [
        ("the credentials of others", client_credentials(&url), "not allowed to get Secret credentials"),
        (
            "the credentials of others as a CA bundle",
            theirs(
                json!({"connection": {"caBundle": {"kind": "Secret", "name": "credentials", "key": "client_secret"}}}),
            ),
            "not allowed to get Secret credentials, which spec.connection.caBundle references",
        ),
        (
            "the token of another integration",
            theirs(json!({
                "grantType": "token_exchange", "tokenExchange": {"subjectTokenFrom": {"integration": "of-others"}},
            })),
            "not allowed to get all Secrets of the namespace",
        ),
        (
            "secrets in URLs",
            theirs(json!({"request": {"method": "GET", "secretsInQuery": true}})),
            "spec.request.secretsInQuery is not allowed in this cluster",
        ),
        (
            "a ServiceAccount of others",
            exchanging(&url, "default"),
            "not allowed to create tokens of ServiceAccount default",
        ),
    ];
    for (case, spec, expected) in rejections {
        let why = create(&tenant, &world.namespace, "stolen", &spec).await.expect_err(case);
        assert!(why.contains(expected), "{case}: {why}");
    }
    // The tenant's own Secret may be sent, and the integration cannot be changed to another one afterwards.
    create(&tenant, &world.namespace, "own", &theirs(json!({}))).await.expect("their own Secret");
    world.ready("own").await;
    let why = create(&tenant, &world.namespace, "own", &client_credentials(&url)).await.expect_err("a change");
    assert!(why.contains("not allowed to get Secret credentials"), "{why}");
    // A change of only an annotation is not checked.
    let theirs_to_change = Api::<OAuthIntegration>::namespaced(tenant.clone(), &world.namespace);
    let annotation = json!({"metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": "now"}}});
    theirs_to_change.patch("own", &PatchParams::default(), &Patch::Merge(&annotation)).await.expect("an annotation");
    suspending_needs_no_permissions_for_secrets(&world).await;
    // Another namespace cannot be reached at all.
    let why = create(&tenant, &other.namespace, "stolen", &theirs(json!({}))).await.expect_err("another namespace");
    assert!(why.contains("forbidden"), "{why}");
    // A target is a Secret like any other: a user may have it written only with the permissions on it.
    let secrets = Api::<Secret>::namespaced(tenant.clone(), &world.namespace);
    secrets.get("own").await.expect("their own target");
    assert!(secrets.get("credentials").await.is_err());
    let mut spec = theirs(json!({}));
    spec["target"] = json!({"secretName": "of-others"});
    let why = create(&tenant, &world.namespace, "own", &spec).await.expect_err("a target of others");
    assert!(why.contains("user is not allowed to get Secret of-others or Secret own"), "{why}");
    let mut spec = theirs(json!({}));
    spec["target"] = json!({"refreshTokenSecretName": "of-others"});
    let why = create(&tenant, &world.namespace, "own", &spec).await.expect_err("a refresh token in a Secret of others");
    assert!(why.contains("user is not allowed to get Secret of-others, which spec.target references"), "{why}");
    let bodies: Vec<String> = thief.requests().into_iter().map(|request| request.body).collect();
    assert!(bodies.iter().all(|body| !body.contains(CANARY)), "a Secret of others was sent");
}

#[tokio::test]
async fn a_tenant_cannot_overwrite_or_read_a_foreign_secret_through_the_target() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("targets").await;
    world.credentials().await;
    world.secret("precious", &[("data", CANARY)]).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"secretName": "precious"});
    world.integration("it", &spec).await;
    world.condition("it", "Stalled", "True", "TargetConflict").await;
    assert_eq!(world.value("precious", "data").await, CANARY);
    // With the annotation of a retained Secret, but for another location.
    let elsewhere = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "oauth-operator", "oauth.evolutionx.io/integration-uid": "x"},
        "annotations": {"oauth.evolutionx.io/retained-for": "elsewhere/precious/it"},
    }});
    world.secrets().patch("precious", &PatchParams::default(), &Patch::Merge(&elsewhere)).await.expect("a patch");
    world.change("it", &json!({"spec": {"scope": "again"}})).await;
    world.condition("it", "Stalled", "True", "TargetConflict").await;
    assert_eq!(world.value("precious", "data").await, CANARY);
    assert!(!world.observable_output().await.contains(CANARY));
}

/// An environment whose operator sends credentials only to endpoints that their owners allow.
async fn strict(name: &str) -> World {
    let control_plane = ControlPlane::shared();
    let namespace = control_plane.namespace(name).await;
    let kubeconfig = test_support::operator::kubeconfig(control_plane).await;
    let operator = Operator::start_with(&kubeconfig, &["--namespace", &namespace, "--require-allowed-endpoints"]).await;
    World { operator, client: control_plane.client().await, namespace, kubeconfig }
}

#[tokio::test]
async fn a_secret_is_sent_only_to_endpoints_that_its_owner_allows() {
    let (good, thief) = (Endpoint::start(|_| Reply::token(3600)), Endpoint::start(|_| Reply::token(3600)));
    let world = strict("pinned").await;
    world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY)]).await;
    world.integration("it", &client_credentials(&good.url())).await;
    let stalled = world.condition("it", "Stalled", "True", "EndpointNotAllowed").await;
    assert!(
        stalled.message.contains("Secret credentials does not restrict where it may be sent"),
        "{}",
        stalled.message
    );
    assert_eq!(good.count(), 0, "nothing is sent");
    // The annotation takes effect at once.
    world.pin("credentials", &format!("https://login.example.com/oauth {}", good.url())).await;
    world.ready("it").await;
    let base = format!("http://{}", good.address());
    let elsewhere = [
        ("another host", thief.url()),
        ("another path", format!("{base}/other")),
        ("a path with the same prefix", format!("{base}/tokens")),
        ("a path with dot segments", format!("{base}/token/../other")),
        ("encoded dot segments", format!("{base}/token/%2e%2e/other")),
        ("another port", format!("http://127.0.0.1:{}/token", thief.address().port())),
        ("another scheme", format!("https://{}/token", good.address())),
        ("an encoded slash after dots", format!("{base}/token/..%2fother")),
        ("a semicolon after dots", format!("{base}/token/..;/other")),
        ("dots before a NUL", format!("{base}/token/..%00/other")),
        ("dots around a NUL", format!("{base}/token/.%00./other")),
        ("dots before a space", format!("{base}/token/..%20/other")),
        ("dots before a question mark", format!("{base}/token/..%3f/other")),
        ("dots in overlong UTF-8", format!("{base}/token/%c0%ae%c0%ae/other")),
        ("dots encoded twice", format!("{base}/token/%252e%252e/other")),
        ("three dots", format!("{base}/token/.../other")),
        ("an encoded backslash", format!("{base}/token/..%5cother")),
    ];
    let sent = good.count();
    for (number, (case, url)) in elsewhere.iter().enumerate() {
        let name = format!("it-{number}");
        world.integration(&name, &client_credentials(url)).await;
        let stalled = world.condition(&name, "Stalled", "True", "EndpointNotAllowed").await;
        assert!(stalled.message.contains("may be sent only to"), "{case}: {}", stalled.message);
    }
    assert_eq!((good.count(), thief.count()), (sent, 0), "nothing is sent");
    // A pinned path is useless if a header can make a gateway use another path.
    let mut steering = client_credentials(&good.url());
    steering["request"] = json!({"headers": {"X-Tenant": "other"}});
    world.integration("steering", &steering).await;
    let stalled = world.condition("steering", "Stalled", "True", "EndpointNotAllowed").await;
    assert!(stalled.message.contains("header X-Tenant could make a gateway use another path"), "{}", stalled.message);
    assert_eq!(good.count(), sent);
    // A path below the pinned one is allowed.
    world.integration("below", &client_credentials(&format!("{}/v2", good.url()))).await;
    world.ready("below").await;
    // A pinned query is compared.
    world.pin("credentials", &format!("{}?tenant=a", good.url())).await;
    world.integration("same-query", &client_credentials(&format!("{}?tenant=a", good.url()))).await;
    world.ready("same-query").await;
    world.integration("other-query", &client_credentials(&format!("{}?tenant=b", good.url()))).await;
    let stalled = world.condition("other-query", "Stalled", "True", "EndpointNotAllowed").await;
    assert!(stalled.message.contains("?tenant=b: change spec.tokenEndpoint"), "{}", stalled.message);
    // An invalid annotation is reported.
    world.pin("credentials", "login.example.com").await;
    let reported = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    assert!(reported.message.contains("is not an absolute http or https URL"), "{}", reported.message);
    assert!(!world.observable_output().await.contains(CANARY));
}

/// An author who references other credentials does not get access to the stored tokens: a refresh token is used only
/// with the credentials with which it was obtained.
#[tokio::test]
async fn a_refresh_token_is_not_sent_with_other_credentials() {
    let server = test_support::endpoint::RotatingTokenServer::new(3600);
    let first = server.first();
    let responding = server.clone();
    let (good, thief) =
        (Endpoint::start(move |request| responding.reply(request)), Endpoint::start(|_| Reply::token(60)));
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
    assert_eq!(world.value("it", "refresh_token").await, current, "it is kept");
    // With the original credentials, it continues.
    let back = json!({"spec": {"tokenEndpoint": good.url(), "credentials": {"secretName": "owners"}, "scope": "more"}});
    world.change("it", &back).await;
    world.ready("it").await;
    assert!(server.reused().is_empty() && server.is_current(&world.value("it", "refresh_token").await));
}

#[tokio::test]
async fn a_tenants_proxy_does_not_receive_pinned_credentials() {
    let proxy = Endpoint::start(|_| Reply::token(3600));
    let world = strict("pinned-proxy").await;
    world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY)]).await;
    world.pin("credentials", "http://login.erp.invalid/token").await;
    let mut spec = client_credentials("http://login.erp.invalid/token");
    spec["connection"] = json!({"proxy": format!("http://{}", proxy.address())});
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "EndpointNotAllowed").await;
    assert!(stalled.message.contains("the proxy could read them"), "{}", stalled.message);
    assert_eq!(proxy.count(), 0);
}

#[tokio::test]
async fn a_tenants_ca_cannot_impersonate_a_pinned_endpoint() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = strict("pinned-ca").await;
    let pem = test_support::keys::CertificateAuthority::new().pem;
    world.secret("credentials", &[("client_id", "c"), ("client_secret", CANARY), ("ca.crt", &pem)]).await;
    world.pin("credentials", &endpoint.url()).await;
    world.config_map("ca", "ca.crt", &pem).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["connection"] = json!({"caBundle": {"name": "ca"}});
    world.integration("foreign", &spec).await;
    let stalled = world.condition("foreign", "Stalled", "True", "EndpointNotAllowed").await;
    assert!(stalled.message.contains("another owner's CA could impersonate the endpoint"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 0);
    spec["connection"] = json!({"caBundle": {"kind": "Secret", "name": "credentials"}});
    world.integration("own", &spec).await;
    world.ready("own").await;
    let allowed = json!({"metadata": {"annotations": {"oauth.evolutionx.io/allow-ca-bundle": "true"}}});
    world.secrets().patch("credentials", &PatchParams::default(), &Patch::Merge(&allowed)).await.expect("a patch");
    world.ready("foreign").await;
}

#[tokio::test]
async fn a_service_account_token_is_sent_only_to_endpoints_that_its_owner_allows() {
    install_permissions_with_service_accounts(ControlPlane::shared());
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = strict("pinned-account").await;
    world.integration("it", &exchanging(&endpoint.url(), "default")).await;
    let stalled = world.condition("it", "Stalled", "True", "EndpointNotAllowed").await;
    assert!(stalled.message.contains("ServiceAccount default does not restrict where"), "{}", stalled.message);
    assert_eq!(endpoint.count(), 0);
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.namespace);
    let pin = json!({"metadata": {"annotations": {"oauth.evolutionx.io/allowed-endpoints": endpoint.url()}}});
    accounts.patch("default", &PatchParams::default(), &Patch::Merge(&pin)).await.expect("a patch");
    world.change("it", &json!({"spec": {"tokenLife": "50m"}})).await;
    world.ready("it").await;
}

/// The author of an integration chooses the keys: the "client ID" that a server repeats can be any value of the
/// Secret.
#[tokio::test]
async fn a_secret_that_is_sent_as_the_client_id_is_not_shown() {
    const SECRET: &str = "kanarie-a-secret-of-the-owner";
    let problem = format!("Application with identifier '{SECRET}' was not found");
    let endpoint = Endpoint::start(move |_| Reply::rejected(400, "unauthorized_client", &problem));
    let world = World::new("secret-as-client-id").await;
    world.secret("credentials", &[("client_id", "c"), ("client_secret", SECRET)]).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["credentials"]["keys"] = json!({"clientId": "client_secret"});
    spec["clientAuthentication"] = json!({"method": "none"});
    world.integration("it", &spec).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("[withheld: it repeats data from the request]"), "{}", ready.message);
    assert!(!world.observable_output().await.contains(SECRET), "the secret is visible");
    // With the right key, the client ID is not secret, and the text is shown.
    spec["credentials"] = json!({"secretName": "credentials"});
    endpoint.respond(|_| Reply::rejected(400, "unauthorized_client", "Application with identifier 'c' was not found"));
    world.integration("own", &spec).await;
    let ready = world.condition("own", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("identifier 'c'"), "{}", ready.message);
}
