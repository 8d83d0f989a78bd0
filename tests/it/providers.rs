//! Guarantee: the recipes in `docs/providers` work unchanged. Each manifest is applied to the real API server with
//! only its host and its keys replaced, and the exact request is checked.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents};
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::hydra::Hydra;
use test_support::keycloak::Keycloak;
use test_support::keys::{self, Key};
use test_support::manifests::{apply, install_permissions_with_service_accounts};
use test_support::{ControlPlane, World, docs, tools};
use url::Url;

/// The manifests of a page: each YAML block, in order.
fn blocks(page: &str) -> Vec<Vec<Value>> {
    let parse = |yaml: &String| serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{page}: {error}"));
    docs::blocks(&format!("docs/providers/{page}"), "yaml").iter().map(parse).collect()
}

/// Replaces the endpoint of a manifest: another host, the same path.
pub fn moved(documents: &mut [Value], to: &str) {
    pinned(documents, to);
    for field in ["tokenEndpoint", "issuer", "protectedResource"] {
        for document in documents.iter_mut().filter(|document| document["spec"][field].is_string()) {
            let url = Url::parse(document["spec"][field].as_str().expect("a text")).expect("a URL");
            document["spec"][field] = json!(format!("{to}{}", url.path()));
        }
    }
}

/// Replaces the allowed endpoints of the manifests.
pub fn pinned(documents: &mut [Value], to: &str) {
    for document in documents {
        let pin = &mut document["metadata"]["annotations"]["oauth.evolutionx.io/allowed-endpoints"];
        if pin.is_string() {
            *pin = json!(to);
        } else if let Some(metadata) = document["metadata"].as_object_mut() {
            metadata.remove("annotations");
        }
    }
}

/// Replaces the placeholders for keys by real keys.
pub fn keyed(documents: &mut [Value], key: &Key, certificate: &str) {
    for document in documents.iter_mut().filter(|document| document["kind"] == "Secret") {
        for (name, value) in [("private_key", key.pem.as_str()), ("tls.crt", certificate)] {
            if document["stringData"][name].is_string() {
                document["stringData"][name] = json!(value);
            }
        }
    }
}

/// Applies a block and returns the request that the endpoint received.
async fn sent(world: &World, documents: &[Value], endpoint: &Endpoint) -> Request {
    let before = endpoint.count();
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
    let integration = documents.iter().find(|document| document["kind"] == "OAuthIntegration").expect("an integration");
    let name = integration["metadata"]["name"].as_str().expect("a name");
    world.ready(name).await;
    endpoint.requests().into_iter().skip(before).find(|request| request.method == "POST").expect("a request")
}

/// Runs the first manifest of a page against a mock with this response.
async fn run(page: &str, response: Value) -> (World, Request, Key) {
    let status = if page == "github-app.md" { 201 } else { 200 };
    let endpoint = Endpoint::start(move |_| Reply::json(status, &response));
    let world = World::new(page.trim_end_matches(".md")).await;
    let mut documents = blocks(page).remove(0);
    let key = keys::rsa();
    moved(&mut documents, &format!("http://{}", endpoint.address()));
    keyed(&mut documents, &key, "");
    let request = sent(&world, &documents, &endpoint).await;
    (world, request, key)
}

fn bearer(lifetime: u64) -> Value {
    json!({"access_token": "the-token", "token_type": "Bearer", "expires_in": lifetime})
}

fn is_form(request: &Request, path: &str, expected: &[(&str, &str)]) {
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path));
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.headers["accept"], "application/json");
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(request.form(), expected);
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// Header and claims of a JWT with a valid signature.
pub fn verified(token: &str, key: &Key, parameters: &'static RsaParameters) -> (Value, Value) {
    let (message, signature) = token.rsplit_once('.').expect("a signature");
    let n = URL_SAFE_NO_PAD.decode(key.jwk["n"].as_str().expect("a modulus")).expect("base64url");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let public = RsaPublicKeyComponents { n, e: vec![1, 0, 1] };
    public.verify(parameters, message.as_bytes(), &signature).expect("a valid signature");
    let (header, claims) = message.split_once('.').expect("claims");
    (decoded(header), decoded(claims))
}

/// The claims except times and random values, and the lifetime.
fn fixed(claims: &Value) -> (Value, i64) {
    let mut fixed = claims.clone();
    let members = fixed.as_object_mut().expect("claims");
    let [issued, expires] =
        ["iat", "exp"].map(|name| members.remove(name).and_then(|value| value.as_i64()).expect("a time"));
    assert!(members.remove("jti").is_some_and(|id| id.as_str().is_some_and(|id| id.len() >= 16)), "a unique id");
    assert!((jiff::Timestamp::now().as_second() - issued).abs() < 120, "issued now, or a minute ago");
    (fixed, expires - issued)
}

const CLIENT: [(&str, &str); 2] =
    [("client_id", "replace-with-your-client-id"), ("client_secret", "replace-with-your-client-secret")];
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[tokio::test]
async fn erp_live() {
    let (world, request, _) = run("erp-live.md", bearer(3600)).await;
    assert_eq!((request.path.as_str(), request.headers["content-type"].as_str()), ("/oauth/token", "application/json"));
    let expected = json!({
        "grant_type": "client_credentials",
        "client_id": "replace-with-your-client-id",
        "client_secret": "replace-with-your-client-secret",
        "resource": "https://www.resource.com",
        "scope": "customer order add.order",
    });
    assert_eq!(request.json(), expected);
    assert_eq!(world.value("erp-live-token", "access_token").await, "the-token");
}

#[tokio::test]
async fn evox() {
    let (world, request, _) = run("evox.md", json!({"access_token": "the-token"})).await;
    assert_eq!((request.path.as_str(), request.headers["content-type"].as_str()), ("/login", "application/json"));
    let expected = json!({"username": "replace-with-your-user-name", "password": "replace-with-your-password"});
    assert_eq!(request.json(), expected);
    let status = world.get("evox-orders").await.status.expect("a status");
    let lifetime =
        status.expires_at.expect("an expiry time").0.duration_since(status.issued_at.expect("an issue time").0);
    assert_eq!(lifetime.as_secs(), 30 * 60);
}

/// With the real server: the client is one of its realm, everything else is as on the page.
#[tokio::test]
async fn keycloak() {
    let keycloak = Keycloak::shared();
    let world = World::new("recipe-keycloak").await;
    let mut documents = blocks("keycloak.md").remove(0);
    for document in &mut documents {
        if document["kind"] == "Secret" {
            document["stringData"] = json!({"client_id": "service", "client_secret": "service-secret"});
            document["metadata"]["annotations"]["oauth.evolutionx.io/allowed-endpoints"] = json!(keycloak.issuer());
        } else {
            document["spec"]["issuer"] = json!(keycloak.issuer());
        }
    }
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
    world.ready("keycloak").await;
    assert!(keycloak.is_active(&world.value("keycloak-token", "access_token").await));
}

/// The other manifest of the page; `authentication.rs` tests it with the real server.
#[tokio::test]
async fn keycloak_federated() {
    install_permissions_with_service_accounts(ControlPlane::shared());
    let world = World::new("recipe-federated").await;
    let endpoint = Endpoint::start(|_| Reply::Close);
    let issuer = format!("http://{}/realms/billing", endpoint.address());
    let document = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/protocol/openid-connect/token")});
    endpoint
        .respond(move |request| if request.method == "GET" { Reply::json(200, &document) } else { Reply::token(60) });
    let mut documents = blocks("keycloak.md").remove(1);
    moved(&mut documents, &format!("http://{}", endpoint.address()));
    let request = sent(&world, &documents, &endpoint).await;
    let assertion = request.parameter("client_assertion");
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", &assertion),
    ];
    is_form(&request, "/realms/billing/protocol/openid-connect/token", &expected);
    let claims = decoded(assertion.split('.').nth(1).expect("claims"));
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:billing", world.namespace));
    assert_eq!(claims["aud"], json!(["https://keycloak.example.com/realms/billing"]));
}

#[tokio::test]
async fn entra_id() {
    install_permissions_with_service_accounts(ControlPlane::shared());
    let world = World::new("entra").await;
    let endpoint = Endpoint::start(|_| Reply::json(200, &bearer(3599)));
    let address = format!("http://{}", endpoint.address());
    let path = "/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token";
    let (key, certificate) = (keys::rsa(), keys::CertificateAuthority::new().client("entra").pem);
    let mut all = blocks("entra-id.md");
    for documents in &mut all {
        moved(documents, &address);
        keyed(documents, &key, &certificate);
    }
    let id = ("client_id", "replace-with-your-application-id");
    let usual = [("grant_type", "client_credentials"), id, ("scope", "https://graph.microsoft.com/.default")];

    let by_secret = sent(&world, &all[0], &endpoint).await;
    is_form(&by_secret, path, &[&usual[..], &[("client_secret", "replace-with-your-client-secret")]].concat());

    let by_certificate = sent(&world, &all[1], &endpoint).await;
    let assertion = by_certificate.parameter("client_assertion");
    let asserted = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion.as_str())];
    is_form(&by_certificate, path, &[&usual[..], &asserted].concat());
    let (header, claims) = verified(&assertion, &key, &RSA_PSS_2048_8192_SHA256);
    let printed = keys::openssl(&["x509", "-noout", "-fingerprint", "-sha256"], &certificate);
    let hexadecimal = printed.trim().rsplit('=').next().expect("a fingerprint").replace(':', "");
    let thumbprint = URL_SAFE_NO_PAD.encode(hex::decode(hexadecimal).expect("hexadecimal"));
    assert_eq!(header, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
    let expected = json!({"iss": id.1, "sub": id.1, "aud": format!("{address}{path}")});
    assert_eq!(fixed(&claims), (expected, 300));

    let by_workload = sent(&world, &all[2], &endpoint).await;
    let assertion = by_workload.parameter("client_assertion");
    let asserted = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion.as_str())];
    is_form(&by_workload, path, &[&usual[..], &asserted].concat());
    let claims = decoded(assertion.split('.').nth(1).expect("claims"));
    assert_eq!(claims["aud"], json!(["api://AzureADTokenExchange"]));
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:orders", world.namespace));
    assert_eq!(claims["iss"], ControlPlane::shared().url());
}

#[tokio::test]
async fn okta() {
    let (_world, request, key) = run("okta.md", bearer(3600)).await;
    let assertion = request.parameter("client_assertion");
    let expected = [
        ("grant_type", "client_credentials"),
        CLIENT[0],
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("scope", "okta.users.read"),
    ];
    is_form(&request, "/oauth2/v1/token", &expected);
    let (header, claims) = verified(&assertion, &key, &RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "replace-with-the-keys-kid"}));
    let audience = format!("http://{}/oauth2/v1/token", request.headers["host"]);
    assert_eq!(fixed(&claims), (json!({"iss": CLIENT[0].1, "sub": CLIENT[0].1, "aud": audience}), 60));
}

#[tokio::test]
async fn auth0() {
    let (_world, request, _) = run("auth0.md", bearer(86_400)).await;
    let usual = [("grant_type", "client_credentials"), ("audience", "https://orders.example.com/")];
    is_form(&request, "/oauth/token", &[&usual[..], &CLIENT].concat());
}

#[tokio::test]
async fn google() {
    let (_world, request, key) = run("google.md", bearer(3599)).await;
    let assertion = request.parameter("assertion");
    is_form(&request, "/token", &[("grant_type", JWT_BEARER), ("assertion", &assertion)]);
    let (header, claims) = verified(&assertion, &key, &RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}));
    let expected = json!({
        "iss": "orders@example.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/devstorage.read_only",
        "aud": "https://oauth2.googleapis.com/token",
    });
    assert_eq!(fixed(&claims), (expected, 3600), "Google accepts at most one hour");
}

#[tokio::test]
async fn salesforce() {
    let response = json!({
        "access_token": "the-token", "scope": "api", "instance_url": "https://example.my.salesforce.com",
        "id": "https://login.salesforce.com/id/00D/005", "token_type": "Bearer",
    });
    let (world, request, key) = run("salesforce.md", response).await;
    let assertion = request.parameter("assertion");
    is_form(&request, "/services/oauth2/token", &[("grant_type", JWT_BEARER), ("assertion", &assertion)]);
    let (header, claims) = verified(&assertion, &key, &RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(header["alg"], "RS256");
    let expected = json!({
        "iss": "replace-with-your-consumer-key", "sub": "integration@example.com", "aud": "https://login.salesforce.com",
    });
    assert_eq!(fixed(&claims), (expected, 180));
    assert_eq!(world.value("salesforce-token", "instance_url").await, "https://example.my.salesforce.com");
}

#[tokio::test]
async fn slack() {
    let response = json!({
        "ok": true, "access_token": "xoxe.xoxb-1-the-token", "expires_in": 43_200, "refresh_token": "xoxe-1-the-next",
        "token_type": "bot", "scope": "chat:write", "team": {"id": "T1"},
    });
    let (world, request, _) = run("slack.md", response).await;
    let usual = [("grant_type", "refresh_token"), ("refresh_token", "replace-with-the-first-refresh-token")];
    is_form(&request, "/api/oauth.v2.access", &[&usual[..], &CLIENT].concat());
    assert_eq!(world.value("slack-token", "refresh_token").await, "xoxe-1-the-next");
}

#[tokio::test]
async fn github_app() {
    let expires_at =
        (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let response = json!({"token": "ghs_the-token", "expires_at": expires_at, "permissions": {"issues": "write"}});
    let (world, request, key) = run("github-app.md", response).await;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/app/installations/12345678/access_tokens"));
    assert_eq!(request.body, "{}");
    assert_eq!(request.headers["accept"], "application/vnd.github+json");
    assert_eq!(request.headers["x-github-api-version"], "2022-11-28");
    assert!(request.headers["user-agent"].starts_with("oauth-operator/"), "GitHub rejects a request without one");
    let token = request.headers["authorization"].strip_prefix("Bearer ").expect("a token");
    let (header, claims) = verified(token, &key, &RSA_PKCS1_2048_8192_SHA256);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}));
    let (mut claims, lifetime) = fixed(&claims);
    claims.as_object_mut().expect("claims").remove("aud");
    assert_eq!(claims, json!({"iss": "replace-with-the-apps-client-id"}));
    assert!(lifetime <= 600, "GitHub accepts at most ten minutes");
    assert_eq!(world.value("github-app-token", "access_token").await, "ghs_the-token");
    let status = world.get("github-app").await.status.expect("a status");
    assert_eq!(status.expires_at.expect("an expiry time").0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), expires_at);
}

#[tokio::test]
async fn github_app_with_restrictions() {
    let endpoint =
        Endpoint::start(|_| Reply::json(201, &json!({"token": "ghs_the-token", "expires_at": "2100-01-01T00:00:00Z"})));
    let world = World::new("github-app-restricted").await;
    let mut pages = blocks("github-app.md");
    let mut documents = pages.remove(1);
    documents.extend(pages.remove(0).into_iter().filter(|document| document["kind"] == "Secret"));
    let key = keys::rsa();
    moved(&mut documents, &format!("http://{}", endpoint.address()));
    keyed(&mut documents, &key, "");
    let request = sent(&world, &documents, &endpoint).await;
    let expected =
        json!({"permissions": {"contents": "read", "issues": "write"}, "repositories": ["orders", "customers"]});
    assert_eq!(request.json(), expected);
    let token = request.headers["authorization"].strip_prefix("Bearer ").expect("a token");
    let (_, claims) = verified(token, &key, &RSA_PKCS1_2048_8192_SHA256);
    let skew = jiff::Timestamp::now().as_second() - claims["iat"].as_i64().expect("a time");
    assert!((60..90).contains(&skew), "GitHub rejects a JWT from the future: {skew} s");
}

/// The real server.
#[tokio::test]
async fn ory_hydra() {
    let hydra = Hydra::shared();
    let world = World::new("ory-hydra").await;
    let mut documents = blocks("ory-hydra.md").remove(0);
    pinned(&mut documents, hydra.issuer());
    keyed(&mut documents, &hydra.rsa, "");
    for document in &mut documents {
        if document["kind"] == "Secret" {
            document["stringData"]["client_id"] = json!("key");
        } else {
            document["spec"]["issuer"] = json!(hydra.issuer());
            let assertion = &mut document["spec"]["clientAuthentication"]["assertion"];
            assertion["audience"] = json!(hydra.token_endpoint());
            assertion["keyId"] = json!("rsa");
        }
    }
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
    world.ready("ory-hydra").await;
    assert!(hydra.is_active(&world.value("ory-hydra-token", "access_token").await));
}

#[tokio::test]
async fn sap() {
    let (_world, request, _) = run("sap.md", bearer(43_199)).await;
    is_form(&request, "/oauth/token", &[("grant_type", "client_credentials")]);
    let expected = STANDARD.encode("replace-with-your-client-id:replace-with-your-client-secret");
    assert_eq!(request.headers["authorization"], format!("Basic {expected}"));
}

#[tokio::test]
async fn withings() {
    let body = json!({
        "userid": "363", "access_token": "the-token", "refresh_token": "the-next", "scope": "user.info",
        "expires_in": 10_800, "token_type": "Bearer",
    });
    let (world, request, _) = run("withings.md", json!({"status": 0, "body": body})).await;
    let usual = [
        ("action", "requesttoken"),
        ("grant_type", "refresh_token"),
        ("refresh_token", "replace-with-the-first-refresh-token"),
    ];
    is_form(&request, "/v2/oauth2", &[&usual[..], &CLIENT].concat());
    assert_eq!(world.value("withings-token", "refresh_token").await, "the-next");
    let status = world.get("withings").await.status.expect("a status");
    let lifetime =
        status.expires_at.expect("an expiry time").0.duration_since(status.issued_at.expect("an issue time").0);
    assert_eq!(lifetime.as_secs(), 10_800);
}

/// An error inside a 200 response counts as a rejection, and the refresh token is kept.
#[tokio::test]
async fn an_error_in_a_200_response_of_withings_is_a_rejection() {
    let endpoint =
        Endpoint::start(|_| Reply::json(200, &json!({"status": 601, "body": {}, "error": "Too Many Requests"})));
    let world = World::new("withings-error").await;
    let mut documents = blocks("withings.md").remove(0);
    moved(&mut documents, &format!("http://{}", endpoint.address()));
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    apply(ControlPlane::shared(), &world.namespace, &text.join("\n---\n"));
    let ready = world.condition("withings", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("status = 0) is not true: Too Many Requests"), "{}", ready.message);
}

#[test]
fn every_recipe_has_a_test_and_a_source() {
    let tested = [
        "auth0",
        "entra-id",
        "erp-live",
        "evox",
        "github-app",
        "google",
        "keycloak",
        "okta",
        "ory-hydra",
        "salesforce",
        "sap",
        "slack",
        "withings",
        // By `self_signed`: they have no response.
        "app-store-connect",
        "sign-in-with-apple",
        "snowflake-key-pair",
    ];
    let entries = std::fs::read_dir(tools::root().join("docs/providers")).expect("the recipes");
    let found: BTreeSet<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".md").to_owned())
        .filter(|name| name != "README")
        .collect();
    let page =
        |name: &str| std::fs::read_to_string(tools::root().join(format!("docs/providers/{name}.md"))).expect("a page");
    // Pages that show the response are tested by `recipes`.
    let others = found.iter().filter(|name| !page(name).contains("What the endpoint returns")).cloned();
    assert_eq!(others.collect::<BTreeSet<_>>(), tested.into_iter().map(ToOwned::to_owned).collect());
    let index = std::fs::read_to_string(tools::root().join("docs/providers/README.md")).expect("the index");
    for name in &found {
        // Independent of line breaks.
        let words = page(name).split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>().join(" ");
        assert!(words.contains("From the provider's documentation: "), "{name} does not name its source");
        assert!(index.contains(&format!("({name}.md)")), "{name} is not in the index");
    }
}
