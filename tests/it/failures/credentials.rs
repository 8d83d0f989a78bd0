//! Invalid credentials and expressions stall an integration until they are corrected.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_support::World;
use test_support::endpoint::Endpoint;
use test_support::world::condition;

use super::{
    CANARY, assert_healthy_without_secrets, assert_reported, credentials, credentials_of, put_secret, spec, token,
};

// ---- Configuration errors: nothing is sent, and the fix takes effect at once. ----

/// An error in the credentials Secret or in the spec.
struct InvalidConfig {
    name: &'static str,
    /// The data of the credentials Secret; `None` if it does not exist.
    secret: Option<Value>,
    changes: Value,
    reason: &'static str,
    parts: &'static [&'static str],
}

fn wrong_credentials() -> Vec<InvalidConfig> {
    let good = credentials("first");
    let with = |key: &str, value: Option<&[u8]>| {
        let mut data = good.clone();
        match value {
            Some(value) => data[key] = json!(STANDARD.encode(value)),
            None => drop(data.as_object_mut().expect("an object").remove(key)),
        }
        Some(data)
    };
    let wrong =
        |name, secret, parts| InvalidConfig { name, secret, changes: json!({}), reason: "CredentialsMissing", parts };
    vec![
        wrong("no-secret", None, &["no-secret-credentials", "does not exist", "spec.credentials.secretName"]),
        wrong(
            "no-key",
            with("client_secret", None),
            &["no-key-credentials", "client_secret", "spec.credentials.keys.clientSecret"],
        ),
        wrong("empty-key", with("client_id", Some(b"")), &["client_id", "spec.credentials.keys.clientId"]),
        InvalidConfig {
            reason: "CredentialsInvalid",
            ..wrong("not-utf-8", with("client_id", Some(b"KANARIENVOGEL\xff\xfe")), &["client_id", "not UTF-8"])
        },
        InvalidConfig {
            changes: json!({"credentials": {"secretName": "other-key-credentials", "keys": {"clientId": "the-id"}}}),
            ..wrong("other-key", Some(good.clone()), &["the-id", "spec.credentials.keys.clientId"])
        },
        InvalidConfig {
            changes: json!({"grantType": "user_password"}),
            ..wrong("no-user", Some(good.clone()), &["username", "spec.credentials.keys.username"])
        },
        InvalidConfig {
            changes: json!({"grantType": "refresh_token"}),
            ..wrong("no-refresh-token", Some(good.clone()), &["refresh_token", "spec.credentials.keys.refreshToken"])
        },
    ]
}

fn wrong_expressions() -> Vec<InvalidConfig> {
    let wrong = |name, field: &str, parts| InvalidConfig {
        name,
        secret: Some(credentials("first")),
        changes: json!({"response": {field: "data.(broken"}}),
        reason: "InvalidSpec",
        parts,
    };
    vec![
        wrong("bad-access-token", "accessToken", &["spec.response.accessToken", "JSONata"]),
        wrong("bad-refresh-token", "refreshToken", &["spec.response.refreshToken", "JSONata"]),
        wrong("bad-expires-in", "expiresIn", &["spec.response.expiresIn", "JSONata"]),
    ]
}

impl InvalidConfig {
    async fn put(&self, world: &World) {
        match &self.secret {
            Some(data) => put_secret(world, &credentials_of(self.name), data).await,
            None => drop(world.secrets().delete(&credentials_of(self.name), &Default::default()).await),
        }
    }

    async fn stalls(&self, world: &World, ready: &str) {
        world.condition(self.name, "Stalled", "True", self.reason).await;
        world.condition(self.name, "Ready", ready, self.reason).await;
    }
}

/// The credentials for all grants.
fn all_credentials() -> Value {
    let mut data = credentials("first");
    for key in ["username", "password", "refresh_token", "the-id"] {
        data[key] = json!(STANDARD.encode(format!("{CANARY}-{key}")));
    }
    data
}

/// Creates an integration for each case, which stalls with the expected reason before a request is sent.
async fn all_stall(world: &World, endpoint: &Endpoint, cases: &[InvalidConfig]) {
    for case in cases {
        case.put(world).await;
        world.integration(case.name, &spec(case.name, &endpoint.url(), &case.changes)).await;
    }
    for case in cases {
        case.stalls(world, "False").await;
        assert_reported(world, case.name, case.reason, case.parts).await;
    }
    assert_eq!(endpoint.count(), 0, "nothing is sent");
}

#[tokio::test]
async fn wrong_credentials_stall_and_their_fix_takes_effect() {
    let (world, endpoint) = (World::new("credentials").await, Endpoint::start(token));
    let cases = wrong_credentials();
    all_stall(&world, &endpoint, &cases).await;
    for case in &cases {
        put_secret(&world, &credentials_of(case.name), &all_credentials()).await;
        let integration = world.ready(case.name).await;
        assert!(condition(&integration, "Stalled").is_none(), "{}", case.name);
    }
    assert_eq!(endpoint.count(), cases.len(), "one request per token");
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn a_token_is_kept_while_its_credentials_are_wrong() {
    let (world, endpoint) = (World::new("credentials-later").await, Endpoint::start(token));
    // In the excluded case, the removed value is no longer needed: the target has its own refresh token.
    let cases: Vec<_> = wrong_credentials().into_iter().filter(|case| case.name != "no-refresh-token").collect();
    for case in &cases {
        put_secret(&world, &credentials_of(case.name), &all_credentials()).await;
        world.integration(case.name, &spec(case.name, &endpoint.url(), &case.changes)).await;
        world.ready(case.name).await;
    }
    for case in &cases {
        let before = world.values(case.name).await.expect("a token");
        case.put(&world).await;
        case.stalls(&world, "True").await;
        assert_reported(&world, case.name, case.reason, case.parts).await;
        assert_eq!(world.values(case.name).await, Some(before), "{}", case.name);
    }
    assert_eq!(endpoint.count(), cases.len(), "no other request is sent");
    for case in &cases {
        put_secret(&world, &credentials_of(case.name), &all_credentials()).await;
        world.ready(case.name).await;
    }
    assert_eq!(endpoint.count(), cases.len(), "the credentials match the token again");
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn an_invalid_expression_stalls_and_its_fix_takes_effect() {
    let (world, endpoint) = (World::new("expressions").await, Endpoint::start(token));
    let cases = wrong_expressions();
    all_stall(&world, &endpoint, &cases).await;
    for case in &cases {
        world.change(case.name, &json!({"spec": {"response": null}})).await;
        world.ready(case.name).await;
        let before = world.values(case.name).await;
        world.change(case.name, &json!({"spec": case.changes})).await;
        // No token can be requested for an invalid spec; the existing one is kept.
        case.stalls(&world, "False").await;
        assert_eq!(world.values(case.name).await, before, "{}", case.name);
        world.change(case.name, &json!({"spec": {"response": null}})).await;
        world.ready(case.name).await;
    }
    assert_eq!(endpoint.count(), cases.len(), "the spec matches the token again");
    assert_healthy_without_secrets(&world).await;
}
