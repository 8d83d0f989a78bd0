//! Guarantee: docs/operations.md says what happens to refresh tokens when a backup is restored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;
use test_support::docs::blocks;
use test_support::endpoint::{Endpoint, RotatingTokenServer};
use test_support::world::{SHORT_TIMEOUT, rotating};
use test_support::{ControlPlane, World, eventually};

/// A Secret as Velero creates it again: without owner references and UID.
fn restored(backup: Secret) -> Secret {
    let ObjectMeta { name, labels, annotations, .. } = backup.metadata;
    Secret { metadata: ObjectMeta { name, labels, annotations, ..ObjectMeta::default() }, ..backup }
}

async fn with_token(name: &str) -> (World, Arc<RotatingTokenServer>, Endpoint) {
    let world = World::new(name).await;
    let server = RotatingTokenServer::new(3_600);
    let responding = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    world.integration("my-api", &rotating(&endpoint.url(), "credentials")).await;
    world.ready("my-api").await;
    (world, server, endpoint)
}

/// Deletes integration and target, and restores both from a backup.
async fn delete_and_restore(world: &World, endpoint: &Endpoint, backup: Secret) {
    world.delete("my-api").await;
    eventually("the target is deleted with it", Duration::from_secs(60), async || {
        match world.secrets().get_opt("my-api").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.secrets().create(&PostParams::default(), &restored(backup)).await.expect("the restored Secret");
    world.integration("my-api", &rotating(&endpoint.url(), "credentials")).await;
}

#[tokio::test]
async fn a_target_that_velero_restores_is_not_used_until_it_is_handed_over() {
    let (world, server, endpoint) = with_token("restored").await;
    let backup = world.secrets().get("my-api").await.expect("the target");
    let sent = endpoint.count();
    delete_and_restore(&world, &endpoint, backup).await;
    world.condition("my-api", "Stalled", "True", "TargetConflict").await;
    assert_eq!(endpoint.count(), sent, "nothing is sent");

    // The commands of the page, of which the last one ends a suspension.
    let page = blocks("docs/operations.md", "console").join("\n");
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ kubectl "))
        .filter(|line| line.contains("my-api-token"))
        .collect();
    assert_eq!(commands.len(), 2, "{page}");
    for command in commands {
        let command = command.replace("my-api-token", "my-api");
        let arguments: Vec<&str> = command.split(' ').chain(["--namespace", &world.namespace]).collect();
        ControlPlane::shared().kubectl(&arguments);
    }
    world.ready("my-api").await;
    assert_eq!(server.reused(), Vec::<String>::new(), "the current refresh token was sent");
}

/// The values of a target with its annotations, as `--existing-resource-policy update` writes them.
#[tokio::test]
async fn an_old_target_that_is_written_over_the_current_one_is_a_reuse() {
    let (world, server, _endpoint) = with_token("overwritten").await;
    let backup = world.secrets().get("my-api").await.expect("the target");
    world.renew("my-api", "1").await;
    let current = world.secrets().get("my-api").await.expect("the target");
    let annotations: BTreeMap<String, String> = backup.metadata.annotations.unwrap_or_default();
    let patch = json!({"metadata": {"annotations": annotations}, "data": backup.data});
    assert_ne!(current.data, backup.data);
    let patch = kube::api::Patch::Merge(&patch);
    world.secrets().patch("my-api", &kube::api::PatchParams::default(), &patch).await.expect("a restore");
    world.request_renewal("my-api", "2").await;
    eventually("the old refresh token is sent", SHORT_TIMEOUT, async || {
        if server.reused().len() == 1 { Ok(()) } else { Err(world.operator.logs()) }
    })
    .await;
    world.condition("my-api", "Ready", "True", "RequestRejected").await;
}
