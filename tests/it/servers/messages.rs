//! What a person reads for a wrong secret, scope, client authentication method and request format.

use serde_json::{Value, json};
use test_support::World;
use test_support::oidc_provider::secret;

use super::{Case, case, create, server};

/// Creates the integrations, and asserts that the message of each contains these texts.
async fn rejected(world: &World, cases: &[(Case, &[&str])]) {
    for (case, _) in cases {
        create(world, case).await;
    }
    let mut wrong = Vec::new();
    for (case, texts) in cases {
        let ready = world.condition(case.name, "Ready", "False", "RequestRejected").await;
        eprintln!("{}: {}", case.name, ready.message);
        wrong.extend(
            texts.iter().filter(|text| !ready.message.contains(*text)).map(|text| format!("{}: {text}", case.name)),
        );
        for secret in case.credentials.iter().filter(|(key, _)| **key != "client_id").map(|(_, value)| value) {
            assert!(!ready.message.contains(secret.as_str()), "a secret is shown: {}", ready.message);
        }
    }
    assert!(wrong.is_empty(), "these texts are missing: {wrong:#?}");
}

fn format(name: &str) -> Value {
    json!({"request": {"format": name}})
}

fn method(name: &str) -> Value {
    json!({"clientAuthentication": {"method": name}})
}

fn scope() -> Value {
    json!({"scope": "no-such-scope"})
}

#[tokio::test]
async fn keycloak() {
    let (world, server) = (World::new("keycloak-messages").await, server::keycloak());
    let right = [("client_id", "service"), ("client_secret", "service-secret")];
    let wrong = [("client_id", "service"), ("client_secret", "kanarie-wrong-secret")];
    let assertion = [("client_id", "key-rs256"), ("client_secret", "kanarie-no-such-secret")];
    rejected(
        &world,
        &[
            (
                case("secret", &server, &wrong, json!({})),
                &[
                    "unauthorized_client: Invalid client or Invalid client credentials",
                    "check client ID and client secret",
                ],
            ),
            (case("scope", &server, &right, scope()), &["Invalid scopes: no-such-scope; check spec.scope"]),
            (
                case("method", &server, &assertion, json!({})),
                &["client_assertion_type is missing", "private_key_jwt or client_secret_jwt"],
            ),
            (case("format", &server, &right, format("json")), &["Missing form parameter", "spec.request.format: form"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn django() {
    let (world, server) = (World::new("django-messages").await, server::django());
    let right = [("client_id", "service"), ("client_secret", "service-secret")];
    let wrong = [("client_id", "service"), ("client_secret", "kanarie-wrong-secret")];
    rejected(
        &world,
        &[
            (case("secret", &server, &wrong, json!({})), &["401: invalid_client; check client ID"]),
            (case("scope", &server, &right, scope()), &["invalid_scope; check spec.scope"]),
            (case("method", &server, &right, method("none")), &["the client may have to authenticate"]),
            (case("format", &server, &right, format("form")), &["unsupported_grant_type", "spec.request.format: json"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn oidc_provider() {
    let world = World::new("provider-messages").await;
    let server = server::oidc_provider(&world).await;
    let (jwt, post) = (secret("jwt"), secret("post"));
    let right = [("client_id", "jwt"), ("client_secret", jwt.as_str())];
    let other = [("client_id", "post"), ("client_secret", post.as_str())];
    let wrong = [("client_id", "post"), ("client_secret", "kanarie-wrong-secret-of-32-characters")];
    rejected(
        &world,
        &[
            (
                case("secret", &server, &wrong, json!({})),
                &["client authentication failed", "check client ID and client secret"],
            ),
            // It ignores unknown scopes.
            (case("method", &server, &right, json!({})), &["invalid_client", "client_secret_basic"]),
            (case("format", &server, &other, format("json")), &["spec.request.format: form"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn hydra() {
    let (world, server) = (World::new("hydra-messages").await, server::hydra());
    let right = [("client_id", "post"), ("client_secret", "post-secret")];
    let basic = [("client_id", "basic"), ("client_secret", "basic-secret")];
    let wrong = [("client_id", "post"), ("client_secret", "kanarie-wrong-secret")];
    rejected(
        &world,
        &[
            (
                case("secret", &server, &wrong, json!({})),
                &["invalid_client: Client authentication failed", "check client ID and client secret"],
            ),
            (
                case("scope", &server, &right, scope()),
                &["not allowed to request scope 'no-such-scope'; check spec.scope"],
            ),
            (
                case("method", &server, &basic, json!({})),
                &["set spec.clientAuthentication.method to client_secret_basic"],
            ),
            (
                case("format", &server, &right, format("json")),
                &["The POST body can not be empty; the endpoint may not accept JSON"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn zitadel() {
    let (world, server) = (World::new("zitadel-messages").await, server::zitadel());
    // It grants every scope.
    let right = [("client_id", "sid1"), ("client_secret", "verysecret")];
    let wrong = [("client_id", "sid1"), ("client_secret", "kanarie-wrong-secret")];
    rejected(
        &world,
        &[
            (case("secret", &server, &wrong, json!({})), &["401: invalid_client", "check client ID and client secret"]),
            (case("method", &server, &right, method("none")), &["the client may have to authenticate"]),
            (case("format", &server, &right, format("json")), &["grant_type missing", "spec.request.format: form"]),
        ],
    )
    .await;
}
