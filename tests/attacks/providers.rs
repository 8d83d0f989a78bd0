//! Providers: an administrator of one namespace may write any number of them, with any server.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use oauth_operator::api::provider::{ClusterOAuthProvider, OAuthProvider};
use serde_json::json;

use crate::siege::{SHORT_TIMEOUT, Siege};
use test_support::endpoint::{Endpoint, Reply};
use test_support::eventually;
use test_support::manifests::OPERATOR;

/// More than the share of a namespace has room for: 1 MiB, at 2 KiB each.
const MANY: usize = 1_500;

#[tokio::test]
async fn many_providers_with_silent_servers_delay_nobody_else() {
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let silent = Endpoint::start(|_| Reply::NoResponse);
    let origin = format!("http://{}", silent.address());
    let values = [("client_id", "alice"), ("client_secret", "kanarie-secret-of-alice")];
    siege.alice.pinned_secret("client", &values, &origin).await;
    let before = siege.operator.memory();
    let providers = Api::<OAuthProvider>::namespaced(siege.admin.clone(), &siege.alice.namespace);
    let params = PatchParams::apply("alice").force();
    futures::stream::iter(0..MANY)
        .for_each_concurrent(32, |number| {
            let (providers, params) = (providers.clone(), params.clone());
            let name = format!("p{number}");
            // Another issuer for each, so that none is in a cache.
            let provider = json!({
                "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "OAuthProvider", "metadata": {"name": name},
                "spec": {"issuer": format!("{origin}/{number}"), "credentials": {"secretName": "client"}},
            });
            async move {
                providers.patch(&name, &params, &Patch::Apply(&provider)).await.expect("a provider");
            }
        })
        .await;
    // Their Secret changes all the time, which is a reason to check all of them.
    let touched = async {
        for number in 0..40 {
            let patch = json!({"metadata": {"annotations": {"touched": number.to_string()}}});
            let secrets = siege.alice.api::<Secret>();
            secrets.patch("client", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("an annotation");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let (observation, ()) = tokio::join!(siege.observe(&victim, Duration::from_secs(20)), touched);
    observation.assert_unharmed();
    assert!(silent.count() > 0, "none of them was checked");
    let grown = siege.operator.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    // Those of administrators of the cluster are checked at once.
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "erp-client", "annotations": {"oauth.evolutionx.io/allowed-endpoints": "https://login.example.com"}},
        "stringData": {"client_id": "platform", "client_secret": "kanarie-secret-of-the-platform"},
    });
    let secrets = Api::<Secret>::namespaced(siege.admin.clone(), OPERATOR);
    secrets.patch("erp-client", &params, &Patch::Apply(&secret)).await.expect("a Secret");
    let provider = json!({
        "apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "ClusterOAuthProvider", "metadata": {"name": "erp"},
        "spec": {"tokenEndpoint": "https://login.example.com/token", "credentials": {"secretName": "erp-client"}},
    });
    let cluster = Api::<ClusterOAuthProvider>::all(siege.admin.clone());
    cluster.patch("erp", &params, &Patch::Apply(&provider)).await.expect("a provider");
    eventually("the provider of the cluster is checked", SHORT_TIMEOUT, async || {
        let status = cluster.get("erp").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        if status.conditions.iter().any(|ready| ready.status == "True") { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}
