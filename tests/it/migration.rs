//! Guarantee: the integrations in `docs/migration` take over the Secrets of the tools that they replace, with their tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use test_support::docs::{all_blocks, blocks};
use test_support::endpoint::{Endpoint, Reply};
use test_support::manifests::apply;
use test_support::{ControlPlane, World, tools};

use crate::import::import;
use crate::providers::{moved, pinned};

const PAGES: [&str; 4] = ["cronjob", "external-secrets", "kube-token-refresher", "vault-oauthapp"];

/// The documents of the blocks after this line.
fn documents(page: &str, title: &str) -> Vec<Value> {
    let found = all_blocks(&format!("docs/migration/{page}.md")).into_iter();
    let found = found.filter(|block| block.language == "yaml" && block.title.starts_with(title));
    found.flat_map(|block| serde_saphyr::from_multiple::<Value>(&block.text).expect("YAML")).collect()
}

fn jwt() -> String {
    let end = Timestamp::now().as_second() + 3600;
    let claims = json!({"sub": "kanarie-subject", "exp": end});
    format!("eyJhbGciOiJub25lIn0.{}.a2FuYXJpZQ", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn each_page_takes_the_secret_over_with_its_token() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    for page in PAGES {
        let world = World::new(&format!("from-{page}")).await;
        let credentials = [
            ("CLIENT_ID", "kanarie-id"),
            ("CLIENT_SECRET", "kanarie-client-secret"),
            ("clientid", "kanarie-id"),
            ("clientsecret", "kanarie-client-secret"),
        ];
        world.secret("erp-credentials", &credentials).await;
        let mut after = documents(page, "After");
        moved(&mut after, &format!("http://{}", endpoint.address()));
        let origin = format!("http://{}", endpoint.address());
        pinned(&mut after, &origin);
        let commands = blocks(&format!("docs/migration/{page}.md"), "sh").join("\n");
        let integrations: Vec<Value> =
            after.iter().filter(|document| document["kind"] == "OAuthIntegration").cloned().collect();
        assert!(!integrations.is_empty(), "{page}");
        for integration in &integrations {
            let target = &integration["spec"]["target"];
            let key = target["keys"]["accessToken"].as_str().unwrap_or("access_token");
            world.secret(target["secretName"].as_str().expect("a target"), &[(key, &jwt())]).await;
        }
        let text: Vec<String> = after.iter().map(ToString::to_string).collect();
        apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
        for integration in &integrations {
            let name = integration["metadata"]["name"].as_str().expect("a name");
            let secret = integration["spec"]["target"]["secretName"].as_str().expect("a target");
            world.condition(name, "Stalled", "True", "TargetConflict").await;
            let command = format!("kubectl annotate secret {secret} oauth.evolutionx.io/adopt-by={name}\n");
            assert!(commands.contains(&command), "{page}: {command}");
            let before = world.secrets().get(secret).await.expect("the Secret").data;
            let annotation = json!({"metadata": {"annotations": {"oauth.evolutionx.io/adopt-by": name}}});
            world.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&annotation)).await.expect("a patch");
            world.ready(name).await;
            assert_eq!(world.secrets().get(secret).await.expect("the target").data, before, "{page}: with its token");
            world.event(name, "TargetAdopted").await;
        }
    }
    assert_eq!(endpoint.count(), 0, "each token is kept to its end");
}

#[test]
fn the_importer_prints_what_its_page_shows() {
    let before: Vec<String> = documents("external-secrets", "Before").iter().map(ToString::to_string).collect();
    let output = import(&before.join("\n---\n"));
    assert_eq!(output.code, Some(0), "{}", output.notes);
    assert_eq!(output.documents, documents("external-secrets", "After"));
    let page = blocks("docs/migration/external-secrets.md", "sh").join("\n");
    for command in [
        "kubectl annotate secret erp-token oauth.evolutionx.io/adopt-by=erp",
        "kubectl delete externalsecret erp --cascade=orphan",
    ] {
        assert!(output.notes.contains(command) && page.contains(command), "{command}: {}", output.notes);
    }
}

#[test]
fn every_page_has_a_test_and_is_in_the_index() {
    let entries = std::fs::read_dir(tools::root().join("docs/migration")).expect("the pages");
    let mut pages: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().replace(".md", "")).collect();
    pages.retain(|page| page != "README");
    pages.sort();
    assert_eq!(pages, PAGES);
    let index = std::fs::read_to_string(tools::root().join("docs/migration/README.md")).expect("the index");
    assert!(pages.iter().all(|page| index.contains(&format!("({page}.md)"))));
}
