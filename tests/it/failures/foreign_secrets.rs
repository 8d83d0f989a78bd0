//! The operator never changes a Secret that another owner controls.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use test_support::World;
use test_support::endpoint::Endpoint;

use super::{
    CANARY, assert_healthy_without_secrets, assert_reported, credentials, credentials_of, put_secret, request_renewal,
    spec, token,
};

#[tokio::test]
async fn a_foreign_secret_is_never_modified() {
    let (world, endpoint) = (World::new("conflict").await, Endpoint::start(token));
    let labels = [("plain", json!({})), ("labelled", json!({"app.kubernetes.io/managed-by": "oauth-operator"}))];
    let mut foreign = BTreeMap::new();
    for (name, labels) in &labels {
        put_secret(&world, &credentials_of(name), &credentials("first")).await;
        let secret =
            json!({"metadata": {"name": name, "labels": labels}, "stringData": {"access_token": "kanarie-theirs"}});
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let made = world.secrets().create(&PostParams::default(), &secret).await.expect("a Secret");
        foreign.insert(*name, made);
        world.integration(name, &spec(name, &endpoint.url(), &json!({}))).await;
    }
    let untouched = async |name: &str| {
        let secret = world.secrets().get(name).await.expect("their Secret");
        assert_eq!(secret, foreign[name], "{name}: it is unchanged, including its resourceVersion");
    };
    for (name, _) in &labels {
        world.condition(name, "Stalled", "True", "TargetConflict").await;
        world.condition(name, "Ready", "False", "TargetConflict").await;
        assert_reported(&world, name, "TargetConflict", &[name, "spec.target.secretName"]).await;
        request_renewal(&world, name).await;
    }
    // A later integration is ready, so that all earlier events have been handled.
    put_secret(&world, &credentials_of("later"), &credentials("first")).await;
    world.integration("later", &spec("later", &endpoint.url(), &json!({}))).await;
    world.ready("later").await;
    assert_eq!(endpoint.count(), 1, "only the integration without a conflict sends a request");
    for (name, _) in &labels {
        untouched(name).await;
        world.change(name, &json!({"spec": {"target": {"secretName": format!("{name}-moved")}}})).await;
        world.ready(name).await;
        untouched(name).await;
        world.delete_secret(name).await;
        world.change(name, &json!({"spec": {"target": {"secretName": null}}})).await;
        world.ready(name).await;
        assert!(world.value(name, "access_token").await.starts_with(CANARY), "{name}");
    }
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn the_target_is_created_once_the_foreign_secret_is_deleted() {
    let (world, endpoint) = (World::new("conflict-ends").await, Endpoint::start(token));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    put_secret(&world, "it", &json!({})).await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    world.condition("it", "Stalled", "True", "TargetConflict").await;
    world.delete_secret("it").await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1);
}
