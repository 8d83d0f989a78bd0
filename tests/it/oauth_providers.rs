//! Guarantee: a platform team describes a server once, tenants request tokens from it within the rules, and a change of
//! the provider takes effect on everything that depends on it, and on nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use oauth_operator::api::provider::{ClusterOAuthProvider, OAuthProvider};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::manifests::{
    OPERATOR, apply, install_crd, install_permissions, install_permissions_with, temporary_file,
};
use test_support::messages::assert_recorded;
use test_support::world::{SHORT_TIMEOUT, condition};
use test_support::{ControlPlane, Operator, World, eventually, tools};

use crate::platform::{Platform, exclusive, provider_is};

/// A server whose tokens say who requested them, and for what.
fn server() -> Endpoint {
    let issued = AtomicUsize::new(0);
    Endpoint::start(move |request: &Request| {
        let body = request.json();
        let text = |name: &str| body[name].as_str().unwrap_or("none").replace(' ', "_");
        let number = issued.fetch_add(1, Ordering::Relaxed);
        let token = format!("{}-for-{}-{}-{number}", text("client_id"), text("scope"), text("username"));
        Reply::json(200, &json!({"access_token": token, "expires_in": 3600}))
    })
}

#[tokio::test]
async fn tenants_request_tokens_with_the_client_of_the_platform_within_its_rules() {
    let platform = Platform::new("use-provider").await;
    let world = &platform.world;
    let server = server();
    platform.secret("erp-client", &[("client_id", "platform"), ("client_secret", "platform-secret-1")]).await;
    let provider = |scopes: &[&str]| {
        json!({
            "tokenEndpoint": server.url(), "credentials": {"secretName": "erp-client"},
            "allow": [{"namespaces": {"names": [world.namespace]}, "scopes": scopes}],
        })
    };
    platform.integration("orders", &json!({"scope": "orders.read"})).await;
    let message = world.condition("orders", "Ready", "False", "ProviderNotFound").await.message;
    let message = message.replace(&platform.name(), "erp");
    assert_recorded("ProviderNotFound", "a cluster-scoped provider that does not exist", &message);

    platform.provider(&provider(&["orders.read", "orders.write"])).await;
    world.ready("orders").await;
    let first = world.value("orders", "access_token").await;
    assert_eq!(first, "platform-for-orders.read-none-0");
    assert_eq!(server.requests()[0].json()["client_secret"], "platform-secret-1");
    provider_is(&platform.providers(), &platform.name(), "True", "ProviderReady").await;
    eventually("it is counted", SHORT_TIMEOUT, async || {
        let status = platform.providers().get(&platform.name()).await.map_err(|error| error.to_string())?.status;
        let count = status.unwrap_or_default().integrations;
        if count == Some(1) { Ok(()) } else { Err(format!("{count:?}")) }
    })
    .await;

    // What is not allowed is never requested.
    platform.integration("admin", &json!({"scope": "admin"})).await;
    let message = world.condition("admin", "Ready", "False", "NotAllowed").await.message;
    let message = message.replace(&format!("namespace {}", world.namespace), "namespace billing");
    let message = message.replace(&platform.name(), "erp");
    assert_recorded("NotAllowed", "a scope that the provider does not allow", &message);
    assert_eq!((server.count(), world.values("admin").await), (1, None));

    // A rule that is taken back: the token is kept, and not renewed.
    platform.provider(&provider(&["orders.write"])).await;
    world.condition("orders", "Stalled", "True", "NotAllowed").await;
    world.request_renewal("orders", "now").await;
    world.condition("orders", "Stalled", "True", "NotAllowed").await;
    assert_eq!(world.value("orders", "access_token").await, first);
    assert_eq!(server.count(), 1);
    platform.provider(&provider(&["orders.read"])).await;
    world.wait_for_change("orders", "access_token", &first).await;
    world.ready("orders").await;
    let seen = world.observable_output().await;
    assert!(!seen.contains("platform-secret-1"), "{seen}");
}

#[tokio::test]
async fn a_change_of_the_provider_renews_what_depends_on_it() {
    let platform = Platform::new("provider-changes").await;
    let world = &platform.world;
    let (server, other) = (server(), server());
    platform.secret("erp-client", &[("client_id", "platform"), ("client_secret", "platform-secret-1")]).await;
    let provider = |url: &str, scope: &str| {
        json!({
            "tokenEndpoint": url, "credentials": {"secretName": "erp-client"}, "scope": scope,
            "allow": [{"namespaces": {}}],
        })
    };
    platform.provider(&provider(&server.url(), "a")).await;
    platform.integration("orders", &json!({})).await;
    world.credentials().await;
    let alone = json!({"tokenEndpoint": server.url(), "grantType": "client_credentials", "credentials": {"secretName": "credentials"}});
    world.integration("alone", &alone).await;
    world.ready("orders").await;
    world.ready("alone").await;
    let (first, unrelated) = (world.value("orders", "access_token").await, world.value("alone", "access_token").await);

    // The Secret of the provider, in a namespace whose integrations are not watched.
    platform.secret("erp-client", &[("client_id", "rotated"), ("client_secret", "platform-secret-2")]).await;
    let second = world.wait_for_change("orders", "access_token", &first).await;
    assert!(second.starts_with("rotated-for-a-"), "{second}");
    assert_eq!(server.requests().last().expect("a request").json()["client_secret"], "platform-secret-2");
    // The spec of the provider.
    platform.provider(&provider(&server.url(), "b")).await;
    let third = world.wait_for_change("orders", "access_token", &second).await;
    assert!(third.starts_with("rotated-for-b-"), "{third}");
    // Its endpoint.
    platform.provider(&provider(&other.url(), "b")).await;
    let fourth = world.wait_for_change("orders", "access_token", &third).await;
    assert!(fourth.starts_with("rotated-for-b-"), "{fourth}");
    assert_eq!(other.count(), 1);
    // A change of its labels or of what does not change the token renews nothing.
    let before = other.count();
    let label = json!({"metadata": {"labels": {"team": "platform"}}});
    platform
        .providers()
        .patch(&platform.name(), &PatchParams::default(), &Patch::Merge(&label))
        .await
        .expect("a label");
    let mut same = provider(&other.url(), "b");
    same["request"] = json!({"timeout": "20s"});
    platform.provider(&same).await;
    world.renew("orders", "now").await;
    assert_eq!(other.count(), before + 1, "only the requested renewal");

    // The provider is deleted in use: the token stays, and is renewed again when the provider is back.
    let kept = world.value("orders", "access_token").await;
    platform.providers().delete(&platform.name(), &DeleteParams::default()).await.expect("it is deleted");
    world.condition("orders", "Stalled", "True", "ProviderNotFound").await;
    assert_eq!(world.value("orders", "access_token").await, kept);
    platform.provider(&same).await;
    world.ready("orders").await;
    assert_eq!(world.value("alone", "access_token").await, unrelated, "it depends on no provider");
}

#[tokio::test]
async fn namespaces_are_selected_by_their_labels() {
    let platform = Platform::new("provider-labels").await;
    let world = &platform.world;
    let server = server();
    platform.secret("erp-client", &[("client_id", "platform"), ("client_secret", "platform-secret-1")]).await;
    platform
        .provider(&json!({
            "tokenEndpoint": server.url(), "credentials": {"secretName": "erp-client"},
            "allow": [{"namespaces": {"selector": {"matchLabels": {"erp": "true"}}}}],
        }))
        .await;
    platform.integration("orders", &json!({})).await;
    let message = world.condition("orders", "Stalled", "True", "NotAllowed").await.message;
    let message = message.replace(&format!("namespace {}", world.namespace), "namespace billing");
    let message = message.replace(&platform.name(), "erp");
    assert_recorded("NotAllowed", "a namespace that the provider does not allow", &message);
    let label = async |value: Option<&str>| {
        let namespaces = Api::<Namespace>::all(world.client.clone());
        let patch = json!({"metadata": {"labels": {"erp": value}}});
        namespaces.patch(&world.namespace, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a label");
    };
    label(Some("true")).await;
    world.ready("orders").await;
    label(None).await;
    world.condition("orders", "Stalled", "True", "NotAllowed").await;
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_provider_of_a_namespace_has_the_client_and_the_integration_the_user() {
    let world = World::new("namespaced-provider").await;
    let server = server();
    world.secret("erp-client", &[("client_id", "platform"), ("client_secret", "platform-secret-1")]).await;
    world.secret("robot", &[("user", "robot-user-1"), ("password", "robot-password-1")]).await;
    let providers = Api::<OAuthProvider>::namespaced(world.client.clone(), &world.namespace);
    let object = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthProvider", "metadata": {"name": "erp"},
        "spec": {"tokenEndpoint": server.url(), "credentials": {"secretName": "erp-client"}, "scope": "a"},
    });
    let spec = json!({
        "providerRef": {"name": "erp"}, "grantType": "password",
        "credentials": {"secretName": "robot", "keys": {"username": "user"}},
    });
    world.integration("orders", &spec).await;
    let message = world.condition("orders", "Stalled", "True", "ProviderNotFound").await.message;
    assert_recorded("ProviderNotFound", "a provider that does not exist", &message);
    providers.patch("erp", &PatchParams::apply("test"), &Patch::Apply(&object)).await.expect("a provider");
    world.ready("orders").await;
    assert_eq!(world.value("orders", "access_token").await, "platform-for-a-robot-user-1-0");
    let sent = server.requests()[0].json();
    assert_eq!((&sent["password"], &sent["client_secret"]), (&json!("robot-password-1"), &json!("platform-secret-1")));
    provider_is(&providers, "erp", "True", "ProviderReady").await;
    // Both Secrets are watched.
    let first = world.value("orders", "access_token").await;
    world.secret("robot", &[("user", "robot-user-2"), ("password", "robot-password-2")]).await;
    let second = world.wait_for_change("orders", "access_token", &first).await;
    assert!(second.starts_with("platform-for-a-robot-user-2"), "{second}");
    world.secret("erp-client", &[("client_id", "rotated"), ("client_secret", "platform-secret-2")]).await;
    let third = world.wait_for_change("orders", "access_token", &second).await;
    assert!(third.starts_with("rotated-for-a-robot-user-2"), "{third}");
    // A key of the user is missing.
    let removed = json!({"data": {"password": null}});
    world.secrets().patch("robot", &PatchParams::default(), &Patch::Merge(&removed)).await.expect("it is removed");
    let message = world.condition("orders", "Stalled", "True", "CredentialsMissing").await.message;
    assert!(message.contains("Secret robot has no value under key password"), "{message}");
}

#[tokio::test]
async fn the_status_of_a_provider_says_what_is_missing_before_any_tenant_notices() {
    let platform = Platform::new("provider-status").await;
    let (world, providers, name) = (&platform.world, platform.providers(), platform.name());
    let metadata = Arc::new(std::sync::Mutex::new(json!({})));
    let served = Arc::clone(&metadata);
    let server = Endpoint::start(move |request: &Request| {
        if request.path.starts_with("/.well-known/") {
            return Reply::json(200, &served.lock().expect("a lock").clone());
        }
        Reply::token(3600)
    });
    let issuer = server.url().trim_end_matches("/token").trim_end_matches('/').to_owned();
    let provider = |more: &Value| {
        let mut spec =
            json!({"issuer": issuer, "credentials": {"secretName": "erp-client"}, "allow": [{"namespaces": {}}]});
        spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        spec
    };
    platform.provider(&provider(&json!({}))).await;
    let status = provider_is(&providers, &name, "False", "CredentialsMissing").await;
    let message = &status.conditions[0].message;
    assert!(message.contains("Secret erp-client") && message.contains(&platform.namespace), "{message}");
    platform.secret("erp-client", &[("client_id", "platform")]).await;
    let status = provider_is(&providers, &name, "False", "CredentialsMissing").await;
    eventually("the key is named", SHORT_TIMEOUT, async || {
        let status = providers.get(&name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let message = status.conditions[0].message.clone();
        if message.contains("no value under key client_secret") { Ok(()) } else { Err(message) }
    })
    .await;
    drop(status);
    platform.secret("erp-client", &[("client_id", "platform"), ("client_secret", "platform-secret-1")]).await;
    provider_is(&providers, &name, "False", "InvalidIssuerMetadata").await;
    *metadata.lock().expect("a lock") = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/token")});
    // It is checked again after a change, and each minute in any case.
    platform.provider(&provider(&json!({"tokenLife": "30m"}))).await;
    let status = provider_is(&providers, &name, "True", "ProviderReady").await;
    assert_eq!(status.integrations, Some(0));
    assert_eq!(status.observed_generation, providers.get(&name).await.expect("it").metadata.generation);
    assert!(server.requests().iter().all(|request| request.path.starts_with("/.well-known/")), "no token is requested");
    // The number of integrations, and the expiry that the annotation says.
    platform.integration("orders", &json!({})).await;
    world.ready("orders").await;
    eventually("it is counted", SHORT_TIMEOUT, async || {
        let status = providers.get(&name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        if status.integrations == Some(1) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let annotation = json!({"metadata": {"annotations": {"oauth.evolutionx.io/credentials-expire-at": soon}}});
    let secrets = Api::<Secret>::namespaced(world.client.clone(), &platform.namespace);
    secrets.patch("erp-client", &PatchParams::default(), &Patch::Merge(&annotation)).await.expect("an annotation");
    provider_is(&providers, &name, "False", "CredentialsExpiring").await;
    let integration = world.get("orders").await;
    assert!(condition(&integration, "Ready").is_some_and(|ready| ready.status == "True"), "{:?}", integration.status);
    let events = world.events("orders").await;
    assert!(
        events.iter().all(|event| event.reason.as_deref() != Some("CredentialsExpiring")),
        "reported once, at the provider"
    );
    platform.providers().delete(&name, &DeleteParams::default()).await.expect("it is deleted");
    assert!(integration.name_any() == "orders");
}

#[tokio::test]
async fn without_the_flag_a_cluster_scoped_provider_is_not_used() {
    let world = World::new("no-cluster-providers").await;
    let spec =
        json!({"grantType": "client_credentials", "providerRef": {"kind": "ClusterOAuthProvider", "name": "any"}});
    world.integration("orders", &spec).await;
    let message = world.condition("orders", "Stalled", "True", "ProviderNotFound").await.message;
    assert_recorded("ProviderNotFound", "cluster-scoped providers are off", &message);
}

/// Applies a file of `examples/platform` as a user, with the endpoint of the test.
fn apply_as(user: Option<&str>, file: &str, endpoint: &str) -> (bool, String) {
    let text = std::fs::read_to_string(tools::root().join("examples/platform").join(file)).expect("an example");
    let origin = endpoint.trim_end_matches("/token").trim_end_matches('/');
    let text =
        text.replace("https://login.example.com/oauth/token", endpoint).replace("https://login.example.com", origin);
    let manifest = temporary_file(&text);
    let path = manifest.path().display().to_string();
    let mut arguments = vec!["apply", "--filename", path.as_str()];
    arguments.extend(user.iter().flat_map(|user| ["--as", user]));
    let output = ControlPlane::shared().try_kubectl(&arguments);
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

/// The platform of the examples, applied by three users with only their rights.
#[tokio::test]
async fn the_example_of_a_platform_works_with_the_rights_of_its_users() {
    let _exclusive = exclusive().await;
    let control_plane = ControlPlane::shared();
    let server = Endpoint::start(|request: &Request| {
        Reply::json(
            200,
            &json!({"access_token": format!("kanarie-{}", request.parameter("scope").replace(' ', "_")), "expires_in": 3600}),
        )
    });
    // The administrator gives the platform team its role; Secrets of the operator's namespace belong to the team.
    let grants = format!(
        r#"{{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {{"name": "platform-team"}},
            "roleRef": {{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "oauth-operator-cluster-provider-admin"}},
            "subjects": [{{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "platform-team"}}]}}
---
{{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {{"name": "platform-team", "namespace": "{OPERATOR}"}},
            "roleRef": {{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}},
            "subjects": [{{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "platform-team"}}]}}"#
    );
    apply(control_plane, OPERATOR, &grants);
    let (is_applied, output) = apply_as(None, "namespaces.yaml", &server.url());
    assert!(is_applied, "{output}");
    // The API server needs a moment to aggregate roles, and to learn of bindings.
    let soon = async |user: &str, file: &str| {
        eventually(&format!("{user} applies {file}"), SHORT_TIMEOUT, async || {
            match apply_as(Some(user), file, &server.url()) {
                (true, _) => Ok(()),
                (false, output) => Err(output),
            }
        })
        .await;
    };
    soon("platform-team", "provider.yaml").await;
    soon("billing-team", "billing.yaml").await;
    soon("reports-team", "reports.yaml").await;
    // Nobody can do what belongs to the others.
    for (user, file) in
        [("billing-team", "provider.yaml"), ("billing-team", "reports.yaml"), ("reports-team", "billing.yaml")]
    {
        let (is_applied, output) = apply_as(Some(user), file, &server.url());
        assert!(!is_applied && output.contains("forbidden"), "{user} {file}: {output}");
    }
    let read = ["get", "secret", "erp-client", "--namespace", OPERATOR, "--as", "billing-team"];
    assert!(!control_plane.try_kubectl(&read).status.success(), "a tenant can read the client's secret");

    let kubeconfig = test_support::operator::kubeconfig(control_plane).await;
    let namespace = format!("--cluster-provider-namespace={OPERATOR}");
    let flags = ["--namespace=billing,reports", "--cluster-providers", &namespace, "--require-allowed-endpoints"];
    let operator = Operator::start_with(&kubeconfig, &flags).await;
    for (tenant, token) in [("billing", "kanarie-orders.read_orders.write"), ("reports", "kanarie-orders.read")] {
        let secrets = Api::<Secret>::namespaced(control_plane.client().await, tenant);
        let name = if tenant == "billing" { "orders-token" } else { "orders" };
        eventually(&format!("{tenant} has its token"), SHORT_TIMEOUT, async || {
            let secret = secrets.get_opt(name).await.map_err(|error| error.to_string())?;
            let data = secret.and_then(|secret| secret.data).unwrap_or_default();
            let value = data.get("access_token").map(|value| String::from_utf8_lossy(&value.0).into_owned());
            if value.as_deref() == Some(token) { Ok(()) } else { Err(format!("{value:?}\n{}", operator.logs())) }
        })
        .await;
    }
    // Basic authentication with the client of the platform.
    assert!(server.requests().iter().all(|request| request.headers["authorization"].starts_with("Basic ")));
    // A tenant that may only read cannot write.
    let change = r#"{"spec": {"scope": "orders.write"}}"#;
    let patch = [
        "patch",
        "oauthintegration",
        "orders",
        "--namespace=reports",
        "--as=reports-team",
        "--type=merge",
        "-p",
        change,
    ];
    control_plane.kubectl(&patch);
    let integrations = Api::<OAuthIntegration>::namespaced(control_plane.client().await, "reports");
    eventually("it is refused", SHORT_TIMEOUT, async || {
        let integration = integrations.get("orders").await.map_err(|error| error.to_string())?;
        let reason = condition(&integration, "Ready").map(|ready| ready.reason);
        if reason.as_deref() == Some("NotAllowed") { Ok(()) } else { Err(format!("{reason:?}")) }
    })
    .await;
    assert_eq!(server.count(), 2);
}

/// With `watchNamespaces`, the operator has no cluster-wide rights except those of the chart for cluster-scoped providers.
#[tokio::test]
async fn the_roles_of_the_chart_are_enough_where_only_some_namespaces_are_watched() {
    let control_plane = ControlPlane::start();
    install_crd(&control_plane);
    let (platform, tenant) = (control_plane.namespace("platform").await, control_plane.namespace("tenant").await);
    let watched = format!("watchNamespaces={{{tenant}}}");
    install_permissions_with(
        &control_plane,
        &platform,
        &["--set", &watched, "--set", "clusterProviders.enabled=true", "--set", "serviceAccountTokens.enabled=true"],
    );
    let server = Endpoint::start(|request: &Request| {
        let kind = if request.parameter("client_assertion").is_empty() { "secret" } else { "account" };
        Reply::json(
            200,
            &json!({"access_token": format!("kanarie-{kind}-{}", request.parameter("scope")), "expires_in": 3600}),
        )
    });
    let kubeconfig = control_plane.kubeconfig_for(&platform, OPERATOR).await;
    let namespace = format!("--cluster-provider-namespace={platform}");
    let watched = format!("--namespace={tenant}");
    let operator = Operator::start_with(&kubeconfig, &[&watched, "--cluster-providers", &namespace]).await;
    let world = World { namespace: tenant, client: control_plane.client().await, operator, kubeconfig };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "erp-client"},
        "stringData": {"client_id": "platform", "client_secret": "platform-secret-1"},
    });
    let ca = test_support::keys::CertificateAuthority::new().pem;
    let ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": ca}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "erp"}});
    apply(&control_plane, &platform, &[secret, ca, account].map(|object| object.to_string()).join("\n---\n"));
    let provider = |name: &str, more: Value| {
        let mut spec = json!({"tokenEndpoint": server.url(), "scope": name, "request": {"format": "form"}, "allow": [{"namespaces": {}}]});
        spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "ClusterOAuthProvider", "metadata": {"name": name}, "spec": spec})
    };
    let with_secret =
        provider("a", json!({"credentials": {"secretName": "erp-client"}, "connection": {"caBundle": {"name": "ca"}}}));
    let with_account = provider(
        "b",
        json!({
            "clientId": "platform", "clientAuthentication": {"method": "service_account_token"},
            "serviceAccountToken": {"serviceAccountName": "erp", "audience": "https://sts.example.com"},
        }),
    );
    apply(&control_plane, &platform, &format!("{with_secret}\n---\n{with_account}"));
    for (name, token) in [("a", "kanarie-secret-a"), ("b", "kanarie-account-b")] {
        let spec =
            json!({"grantType": "client_credentials", "providerRef": {"kind": "ClusterOAuthProvider", "name": name}});
        world.integration(name, &spec).await;
        world.ready(name).await;
        assert_eq!(world.value(name, "access_token").await, token);
    }
    let providers = Api::<ClusterOAuthProvider>::all(world.client.clone());
    for name in ["a", "b"] {
        provider_is(&providers, name, "True", "ProviderReady").await;
    }
    // Its own ServiceAccount is that of the provider, in the namespace of the operator, and not one of the tenant.
    let logs = world.operator.logs();
    assert!(!logs.contains("forbidden"), "{logs}");
}

/// The Secret of a provider is read once for as many integrations as are renewed together, and everything else costs what
/// it costs without a provider.
#[tokio::test]
async fn the_secret_of_a_provider_is_read_once_for_many_renewals() {
    const NAMESPACES: usize = 4;
    const EACH: usize = 25;
    const ALL: u64 = (NAMESPACES * EACH) as u64;
    let control_plane = ControlPlane::start();
    install_crd(&control_plane);
    install_permissions(&control_plane);
    let server = server();
    let kubeconfig = control_plane.kubeconfig_for(OPERATOR, OPERATOR).await;
    let namespace = format!("--cluster-provider-namespace={OPERATOR}");
    let flags = ["--cluster-providers", &namespace, "--max-writes=0", "--max-writes-per-namespace=0"];
    let operator = Operator::start_with(&kubeconfig, &flags).await;
    let secret = |value: &str| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "erp-client"},
            "stringData": {"client_id": "platform", "client_secret": value},
        });
        apply(&control_plane, OPERATOR, &secret.to_string());
    };
    secret("platform-secret-1");
    let provider = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "ClusterOAuthProvider", "metadata": {"name": "erp"},
        "spec": {"tokenEndpoint": server.url(), "credentials": {"secretName": "erp-client"}, "allow": [{"namespaces": {}}]},
    });
    apply(&control_plane, OPERATOR, &provider.to_string());
    let client = control_plane.client().await;
    for _ in 0..NAMESPACES {
        let namespace = control_plane.namespace("tenant").await;
        let integrations = (0..EACH).map(|number| {
            json!({
                "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthIntegration",
                "metadata": {"name": format!("it-{number}")},
                "spec": {"grantType": "client_credentials", "providerRef": {"kind": "ClusterOAuthProvider", "name": "erp"}},
            })
            .to_string()
        });
        apply(&control_plane, &namespace, &integrations.collect::<Vec<_>>().join("\n---\n"));
    }
    let integrations = Api::<OAuthIntegration>::all(client.clone());
    let all_have = async |requests: u64| {
        eventually("all have a token", SHORT_TIMEOUT * 3, async || {
            let all = integrations.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let ready =
                all.iter().filter(|one| condition(one, "Ready").is_some_and(|ready| ready.status == "True")).count();
            let sent = server.count() as u64;
            if ready as u64 == ALL && sent == requests {
                Ok(())
            } else {
                Err(format!("{ready} ready, {sent} requests\n{}", operator.logs()))
            }
        })
        .await;
    };
    all_have(ALL).await;
    let issued = async || {
        let all = integrations.list(&ListParams::default()).await.expect("a list").items;
        all.iter()
            .filter_map(|one| one.status.as_ref()?.issued_at.clone())
            .map(|at| at.0.to_string())
            .collect::<Vec<_>>()
    };
    // Later, so that all times of issue differ, and so that no integration is rate limited: after a second change of its
    // credentials in a row, it sends a request 2 s after the last one at the earliest, and its status says so until then.
    let rotate = async |value: &str, requests: u64| {
        let before = issued().await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        secret(value);
        all_have(requests).await;
        eventually("all statuses are written", SHORT_TIMEOUT, async || {
            let now = issued().await;
            let same = now.iter().zip(&before).filter(|(now, before)| now == before).count();
            if same == 0 { Ok(()) } else { Err(format!("{same} are not")) }
        })
        .await;
    };
    // The first update of a Secret also migrates its managed fields.
    rotate("platform-secret-2", 2 * ALL).await;
    let calls = control_plane.calls().await;
    rotate("platform-secret-3", 3 * ALL).await;
    let after = control_plane.calls().await;
    let count = |verbs: &[&str], resource: &str, subresource: &str| -> u64 {
        let one = |calls: &test_support::control_plane::Calls, verb: &str| {
            calls.get(&(verb.to_owned(), resource.to_owned(), subresource.to_owned())).copied().unwrap_or_default()
        };
        verbs.iter().map(|verb| one(&after, verb) - one(&calls, verb)).sum()
    };
    // kubectl has read and patched the Secret once; a renewal that lasts longer than the Secret is kept reads it again.
    let reads = count(&["GET"], "secrets", "");
    assert!(reads <= 10, "{reads} reads for {ALL} renewals");
    let writes = count(&["PATCH", "APPLY"], "secrets", "");
    assert!((ALL..=ALL + 1).contains(&writes), "{writes} writes of Secrets");
    assert_eq!(count(&["PATCH", "APPLY"], "oauthintegrations", "status"), ALL);
    let last = server.requests().into_iter().skip(2 * usize::try_from(ALL).expect("few"));
    assert!(last.map(|request| request.json()).all(|sent| sent["client_secret"] == "platform-secret-3"));
    assert_eq!(operator.metric("oauth_operator_reconciles_queued", ""), Some(0.0), "it watches all namespaces");
}
