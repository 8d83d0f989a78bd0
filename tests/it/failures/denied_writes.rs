//! A token whose write the API server rejects is kept until it can be written.

use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use test_support::endpoint::Endpoint;
use test_support::messages::assert_recorded;
use test_support::world::{SHORT_TIMEOUT, condition};
use test_support::{ControlPlane, World, eventually, manifests};

use super::{
    CANARY, assert_healthy_without_secrets, assert_reported, credentials, credentials_of, failed, put_secret,
    request_renewal, spec, token,
};

// ---- A target that the API server rejects: the response is kept, and requested only once. ----

/// Waits until a Secret with this name would be rejected with this message.
pub(crate) async fn rejected_by_the_api_server(world: &World, name: &str, message: &str) {
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Secret");
    let probe = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the API server rejects the Secret", SHORT_TIMEOUT * 2, async || {
        let rejection = world.secrets().create(&probe, &secret).await.err().map(|error| error.to_string());
        if rejection.as_ref().is_some_and(|why| why.contains(message)) { Ok(()) } else { Err(format!("{rejection:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_target_beyond_the_quota_is_written_when_the_quota_allows() {
    let (world, endpoint) = (World::new("quota").await, Endpoint::start(token));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    let quotas = Api::<ResourceQuota>::namespaced(world.client.clone(), &world.namespace);
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": {"count/secrets": "1"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
    quotas.create(&PostParams::default(), &quota).await.expect("a quota");
    rejected_by_the_api_server(&world, "it", "exceeded quota").await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    let last = failed(&world, "it", "False", "TargetWriteFailed", 3).await;
    assert_recorded("TargetWriteFailed", "a quota of the namespace", &last.message);
    world.condition("it", "Reconciling", "True", "TargetWriteFailed").await;
    assert_reported(&world, "it", "TargetWriteFailed", &["Secret it", "exceeded quota", "kept in memory"]).await;
    assert_eq!(endpoint.count(), 1, "the response is kept and not requested again");
    quotas.delete("full", &Default::default()).await.expect("the quota is deleted");
    world.ready("it").await;
    assert_eq!(endpoint.count(), 1, "it is written without another request");
    assert!(world.value("it", "refresh_token").await.starts_with(CANARY));
    assert_healthy_without_secrets(&world).await;
}

/// A policy that denies writes of the Secret `it` in a namespace, with this reason.
pub(crate) fn policy(namespace: &str, reason: &str) -> String {
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "object.metadata.name != 'it'", "message": "it is frozen", "reason": reason}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": namespace},
        "spec": {
            "policyName": namespace, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        },
    });
    format!("{policy}\n---\n{binding}\n")
}

/// A renewal whose write the API server rejects: the old token is kept, and `Ready` stays true.
async fn a_renewal_is_denied(reason: &str) {
    let (world, endpoint) = (World::new("denied").await, Endpoint::start(token));
    put_secret(&world, &credentials_of("it"), &credentials("first")).await;
    world.integration("it", &spec("it", &endpoint.url(), &json!({}))).await;
    let ready_since = condition(&world.ready("it").await, "Ready").expect("a condition").last_transition_time;
    let before = world.secrets().get("it").await.expect("a token");
    manifests::apply(ControlPlane::shared(), &world.namespace, &policy(&world.namespace, reason));
    rejected_by_the_api_server(&world, "it", "it is frozen").await;
    request_renewal(&world, "it").await;
    let last = failed(&world, "it", "True", "TargetWriteFailed", 3).await;
    assert!(last.message.contains("it is frozen"), "{}", last.message);
    assert_reported(&world, "it", "TargetWriteFailed", &["Secret it", "it is frozen"]).await;
    let ready = condition(&world.get("it").await, "Ready").expect("a condition");
    assert_eq!((ready.status.as_str(), &ready.last_transition_time), ("True", &ready_since), "Ready has never changed");
    assert_eq!(world.secrets().get("it").await.expect("a token"), before, "the valid token is kept");
    assert_eq!(endpoint.count(), 2, "the response is kept and not requested again");
    let kind = "validatingadmissionpolicy,validatingadmissionpolicybinding";
    ControlPlane::shared().kubectl(&["delete", kind, &world.namespace]);
    world.wait_for_change("it", "access_token", &token_of(&before)).await;
    world.ready("it").await;
    assert_eq!(endpoint.count(), 2, "it is written without another request");
    assert_healthy_without_secrets(&world).await;
}

fn token_of(secret: &Secret) -> String {
    let data = secret.data.as_ref().expect("data");
    String::from_utf8(data["access_token"].0.clone()).expect("text")
}

#[tokio::test]
async fn a_renewal_that_a_policy_rejects_as_invalid_is_written_when_allowed() {
    a_renewal_is_denied("Invalid").await;
}

#[tokio::test]
async fn a_renewal_that_a_policy_forbids_is_written_when_allowed() {
    a_renewal_is_denied("Forbidden").await;
}
