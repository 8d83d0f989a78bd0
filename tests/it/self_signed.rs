//! Guarantee: `grantType: self_signed_jwt` writes a JWT that another implementation verifies, renews it, and sends nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use test_support::jose::{self, Signed};
use test_support::keys::{self, Key};
use test_support::manifests::apply;
use test_support::world::SHORT_TIMEOUT;
use test_support::{ControlPlane, World, docs, eventually};

use crate::providers::keyed;

/// The header and the claims of a token without what differs each time, and its lifetime.
fn verified(token: &str, key: Value) -> (Value, Value, i64) {
    let (header, mut claims) = jose::verify(&[Signed { jwt: token.to_owned(), key: Some(key) }]).remove(0);
    let members = claims.as_object_mut().expect("claims");
    let [issued, expires] =
        ["iat", "exp"].map(|name| members.remove(name).and_then(|value| value.as_i64()).expect("a time"));
    assert!(members.remove("jti").is_some_and(|id| id.as_str().is_some_and(|id| id.len() >= 16)), "a unique id");
    (header, claims, expires - issued)
}

#[tokio::test]
async fn each_recipe_writes_the_token_that_its_page_shows() {
    let (world, rsa, ec) = (World::new("self-signed-recipes").await, keys::rsa(), keys::ec());
    for (page, key, lifetime) in
        [("app-store-connect", &ec, 1_200), ("sign-in-with-apple", &ec, 3_600), ("snowflake-key-pair", &rsa, 3_600)]
    {
        let path = format!("docs/providers/{page}.md");
        let block = |language: &str| docs::blocks(&path, language).into_iter().next().expect("a block");
        let mut documents: Vec<Value> = serde_saphyr::from_multiple(&block("yaml")).expect("YAML");
        let shown: Value = serde_json::from_str(&block("json")).expect("JSON");
        keyed(&mut documents, key, "");
        let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
        apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
        world.ready(page).await;
        let name = if page == "sign-in-with-apple" { "client_secret" } else { "access_token" };
        let (header, claims, seconds) = verified(&world.value(&format!("{page}-token"), name).await, key.jwk.clone());
        assert_eq!((&header, &claims, seconds), (&shown["header"], &shown["claims"], lifetime), "{page}");
    }
    let (all, _) = world.operator.token_requests();
    assert!(all < 1.0, "{all} requests");
}

fn spec(assertion: &Value) -> Value {
    json!({"grantType": "self_signed_jwt", "assertion": assertion, "credentials": {"secretName": "credentials"}})
}

/// LiveKit, Ghost and others share a secret instead of a key.
#[tokio::test]
async fn a_client_secret_signs_with_hmac() {
    let world = World::new("self-signed-hmac").await;
    let secret = "kanarie-secret-that-signs";
    world.secret("credentials", &[("client_id", "api-key"), ("client_secret", secret)]).await;
    let assertion = json!({
        "algorithm": "HS256", "subject": "orders", "notBefore": true,
        "claims": {"video": {"roomJoin": true, "room": "orders"}},
    });
    world.integration("it", &spec(&assertion)).await;
    world.ready("it").await;
    let key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret)});
    let (header, mut claims, lifetime) = verified(&world.value("it", "access_token").await, key);
    assert!(claims["nbf"].take().is_i64());
    let expected =
        json!({"iss": "api-key", "sub": "orders", "nbf": null, "video": {"roomJoin": true, "room": "orders"}});
    assert_eq!((header, claims, lifetime), (json!({"alg": "HS256", "typ": "JWT"}), expected, 1_200));
    assert!(!world.observable_output().await.contains(secret));
}

async fn with_key(world: &World, key: &Key) {
    world.secret("credentials", &[("client_id", "orders"), ("private_key", &key.pem)]).await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_with_a_new_key() {
    let (world, first, second) = (World::new("self-signed-renewed").await, keys::ec(), keys::ec());
    with_key(&world, &first).await;
    world.integration("it", &spec(&json!({"lifetime": "10s"}))).await;
    world.ready("it").await;
    let mut token = world.value("it", "access_token").await;
    for _ in 0..2 {
        token = world.wait_for_change("it", "access_token", &token).await;
        verified(&token, first.jwk.clone());
    }
    with_key(&world, &second).await;
    eventually("it is signed with the new key", SHORT_TIMEOUT, async || {
        let status = world.get("it").await.status.unwrap_or_default();
        let reason = status.reason.unwrap_or_default();
        let token = world.value("it", "access_token").await;
        let script = "const [t, k] = JSON.parse(require('fs').readFileSync(0)); const c = require('crypto');\
                      const [h, p, s] = t.split('.'); console.log(c.verify('sha256', h + '.' + p,\
                      {key: c.createPublicKey({key: k, format: 'jwk'}), dsaEncoding: 'ieee-p1363'}, Buffer.from(s, 'base64url')))";
        let valid = jose::node(script, &json!([token, second.jwk]).to_string());
        if valid.trim() == "true" { Ok(()) } else { Err(format!("{reason}: {valid}")) }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_reported() {
    let world = World::new("self-signed-invalid").await;
    with_key(&world, &keys::ec()).await;
    world.integration("it", &spec(&json!({"algorithm": "RS256"}))).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    assert!(stalled.message.contains("an EC key, which cannot sign with RS256"), "{}", stalled.message);
    world.change("it", &json!({"spec": {"assertion": {"algorithm": "ES256"}}})).await;
    world.ready("it").await;
}
