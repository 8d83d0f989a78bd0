//! Credentials and expressions that cannot be used stall an integration until they are corrected.

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
struct Wrong {
    name: &'static str,
    /// The data of the credentials Secret; `None` if it does not exist.
    secret: Option<Value>,
    changes: Value,
    reason: &'static str,
    says: &'static [&'static str],
}

fn wrong_credentials() -> Vec<Wrong> {
    let good = credentials("first");
    let with = |key: &str, value: Option<&[u8]>| {
        let mut data = good.clone();
        match value {
            Some(value) => data[key] = json!(STANDARD.encode(value)),
            None => drop(data.as_object_mut().expect("an object").remove(key)),
        }
        Some(data)
    };
    let wrong = |name, secret, says| Wrong { name, secret, changes: json!({}), reason: "CredentialsMissing", says };
    vec![
        wrong("no-secret", None, &["no-secret-credentials", "does not exist", "spec.credentials.secretName"]),
        wrong(
            "no-key",
            with("client_secret", None),
            &["no-key-credentials", "client_secret", "spec.credentials.keys.clientSecret"],
        ),
        wrong("empty-key", with("client_id", Some(b"")), &["client_id", "spec.credentials.keys.clientId"]),
        wrong("not-utf-8", with("client_id", Some(b"KANARIENVOGEL\xff\xfe")), &["client_id", "not UTF-8"]),
        Wrong {
            changes: json!({"credentials": {"secretName": "other-key-credentials", "keys": {"clientId": "the-id"}}}),
            ..wrong("other-key", Some(good.clone()), &["the-id", "spec.credentials.keys.clientId"])
        },
        Wrong {
            changes: json!({"grantType": "user_password"}),
            ..wrong("no-user", Some(good.clone()), &["username", "spec.credentials.keys.username"])
        },
        Wrong {
            changes: json!({"grantType": "refresh_token"}),
            ..wrong("no-refresh-token", Some(good.clone()), &["refresh_token", "spec.credentials.keys.refreshToken"])
        },
    ]
}

fn wrong_expressions() -> Vec<Wrong> {
    let wrong = |name, field: &str, says| Wrong {
        name,
        secret: Some(credentials("first")),
        changes: json!({"response": {field: "data.(broken"}}),
        reason: "InvalidSpec",
        says,
    };
    vec![
        wrong("bad-access-token", "accessToken", &["spec.response.accessToken", "JSONata"]),
        wrong("bad-refresh-token", "refreshToken", &["spec.response.refreshToken", "JSONata"]),
        wrong("bad-expires-in", "expiresIn", &["spec.response.expiresIn", "JSONata"]),
    ]
}

impl Wrong {
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

/// The values of all grants.
fn all_credentials() -> Value {
    let mut data = credentials("first");
    for key in ["username", "password", "refresh_token", "the-id"] {
        data[key] = json!(STANDARD.encode(format!("{CANARY}-{key}")));
    }
    data
}

/// Creates an integration for each case, which stalls for the reason of the case before anything is sent.
async fn all_stall(world: &World, endpoint: &Endpoint, cases: &[Wrong]) {
    for case in cases {
        case.put(world).await;
        world.integration(case.name, &spec(case.name, &endpoint.url(), &case.changes)).await;
    }
    for case in cases {
        case.stalls(world, "False").await;
        assert_reported(world, case.name, case.reason, case.says).await;
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
    assert_eq!(endpoint.count(), cases.len(), "one request makes one token");
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn a_token_is_kept_while_its_credentials_are_wrong() {
    let (world, endpoint) = (World::new("credentials-later").await, Endpoint::start(token));
    // The values that are removed are not needed by the grant any more: the target has its own refresh token.
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
        assert_reported(&world, case.name, case.reason, case.says).await;
        assert_eq!(world.values(case.name).await, Some(before), "{}", case.name);
    }
    assert_eq!(endpoint.count(), cases.len(), "nothing more is sent");
    for case in &cases {
        put_secret(&world, &credentials_of(case.name), &all_credentials()).await;
        world.ready(case.name).await;
    }
    assert_eq!(endpoint.count(), cases.len(), "the credentials of the token are back");
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
    assert_eq!(endpoint.count(), cases.len(), "the spec of the token is back");
    assert_healthy_without_secrets(&world).await;
}
