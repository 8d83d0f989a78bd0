//! Guarantee: a change of the CA bundle or of the ServiceAccount that a provider names takes effect on what depends on it, at
//! once, and on nothing else. A change of these objects without effect on requests renews nothing.

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::keys::CertificateAuthority;
use test_support::manifests::{apply, install_permissions_with_service_accounts};
use test_support::{ControlPlane, World};

use crate::platform::Platform;

fn server() -> Endpoint {
    Endpoint::start(|_: &Request| Reply::token(3600))
}

fn bundle(pem: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "erp-ca", "labels": labels}, "data": {"ca.crt": pem},
    })
}

fn account(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "erp", "annotations": annotations},
    })
}

/// A second integration, which depends on no provider.
async fn alone(world: &World, server: &Endpoint) -> String {
    world.credentials().await;
    let spec = json!({"tokenEndpoint": server.url(), "grantType": "client_credentials", "credentials": {"secretName": "credentials"}});
    world.integration("alone", &spec).await;
    world.ready("alone").await;
    world.value("alone", "access_token").await
}

/// A renewal on request: whatever was to be renewed before has been.
async fn is_renewed_once(world: &World, server: &Endpoint, at: &str) {
    let before = server.count();
    world.renew("orders", at).await;
    assert_eq!(server.count(), before + 1, "only the requested renewal");
}

#[tokio::test]
async fn another_ca_bundle_renews_what_depends_on_the_provider() {
    let platform = Platform::new("provider-ca").await;
    let (world, server) = (&platform.world, server());
    let (first_ca, second_ca) = (CertificateAuthority::new().pem, CertificateAuthority::new().pem);
    let provider = json!({
        "tokenEndpoint": server.url(), "clientId": "erp", "clientAuthentication": {"method": "none"},
        "connection": {"caBundle": {"name": "erp-ca"}}, "allow": [{"namespaces": {}}],
    });
    platform.provider(&provider).await;
    platform.integration("orders", &json!({})).await;
    let unrelated = alone(world, &server).await;
    world.condition("orders", "Ready", "False", "DependencyMissing").await;
    assert_eq!(server.count(), 1, "only the one that depends on no provider");

    platform.object::<ConfigMap>(&bundle(&first_ca, &json!({}))).await;
    world.ready("orders").await;
    let first = world.value("orders", "access_token").await;
    platform.object::<ConfigMap>(&bundle(&second_ca, &json!({}))).await;
    let second = world.wait_for_change("orders", "access_token", &first).await;
    world.ready("orders").await;
    assert_eq!(server.count(), 3);

    platform.object::<ConfigMap>(&bundle(&second_ca, &json!({"team": "platform"}))).await;
    is_renewed_once(world, &server, "after-the-label").await;
    let third = world.value("orders", "access_token").await;
    assert_ne!(second, third);

    // The bundle is deleted in use: the token stays. With the same content, nothing is requested.
    let bundles = Api::<ConfigMap>::namespaced(world.client.clone(), &platform.namespace);
    bundles.delete("erp-ca", &DeleteParams::default()).await.expect("it is deleted");
    platform.provider_is("False", "DependencyMissing").await;
    assert_eq!(world.value("orders", "access_token").await, third);
    platform.object::<ConfigMap>(&bundle(&second_ca, &json!({}))).await;
    platform.provider_is("True", "ProviderReady").await;
    is_renewed_once(world, &server, "after-the-deletion").await;

    // The provider no longer trusts this CA, and then it does again.
    let before = world.value("orders", "access_token").await;
    let mut without = provider.clone();
    without.as_object_mut().expect("an object").remove("connection");
    platform.provider(&without).await;
    let distrusted = world.wait_for_change("orders", "access_token", &before).await;
    platform.provider(&provider).await;
    world.wait_for_change("orders", "access_token", &distrusted).await;
    assert_eq!(world.value("alone", "access_token").await, unrelated, "it depends on no provider");
}

#[tokio::test]
async fn other_restrictions_of_the_service_account_take_effect_at_once() {
    install_permissions_with_service_accounts(ControlPlane::shared());
    let platform = Platform::new("provider-account").await;
    let (world, server) = (&platform.world, server());
    let provider = json!({
        "tokenEndpoint": server.url(), "clientId": "erp", "clientAuthentication": {"method": "service_account_token"},
        "serviceAccountToken": {"serviceAccountName": "erp", "audience": "https://sts.example.com"},
        "allow": [{"namespaces": {}}],
    });
    platform.object::<ServiceAccount>(&account(&json!({}))).await;
    platform.provider(&provider).await;
    platform.integration("orders", &json!({})).await;
    let unrelated = alone(world, &server).await;
    world.ready("orders").await;
    let first = world.value("orders", "access_token").await;
    let allowed = |url: &str, note: &str| {
        account(&json!({"oauth.evolutionx.io/allowed-endpoints": url, "example.com/note": note}))
    };
    platform.object::<ServiceAccount>(&allowed(&server.url(), "a")).await;
    let second = world.wait_for_change("orders", "access_token", &first).await;
    platform.object::<ServiceAccount>(&allowed(&server.url(), "b")).await;
    is_renewed_once(world, &server, "after-the-note").await;

    let third = world.value("orders", "access_token").await;
    assert_ne!(second, third);
    let before = server.count();
    platform.object::<ServiceAccount>(&allowed("https://elsewhere.example.com/token", "b")).await;
    world.condition("orders", "Stalled", "True", "EndpointNotAllowed").await;
    assert_eq!((world.value("orders", "access_token").await, server.count()), (third.clone(), before));
    platform.object::<ServiceAccount>(&allowed(&server.url(), "b")).await;
    world.ready("orders").await;
    assert_eq!(world.value("alone", "access_token").await, unrelated, "it depends on no provider");
}

#[tokio::test]
async fn what_a_provider_of_a_namespace_names_is_watched_there() {
    let world = World::new("namespaced-ca").await;
    let server = server();
    world.config_map("erp-ca", "ca.crt", &CertificateAuthority::new().pem).await;
    let provider = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthProvider", "metadata": {"name": "erp"},
        "spec": {
            "tokenEndpoint": server.url(), "clientId": "erp", "clientAuthentication": {"method": "none"},
            "connection": {"caBundle": {"name": "erp-ca"}},
        },
    });
    apply(ControlPlane::shared(), &world.namespace, &provider.to_string());
    let spec = json!({"grantType": "client_credentials", "providerRef": {"name": "erp"}});
    world.integration("orders", &spec).await;
    world.ready("orders").await;
    let first = world.value("orders", "access_token").await;
    world.config_map("erp-ca", "ca.crt", &CertificateAuthority::new().pem).await;
    world.wait_for_change("orders", "access_token", &first).await;
    assert_eq!(server.count(), 2);
}
