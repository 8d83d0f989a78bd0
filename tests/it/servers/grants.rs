//! The grants and client authentication methods of Hydra, Zitadel's library, Django OAuth Toolkit and oidc-provider that
//! the operator supports. Those of Keycloak, and assertions and certificates at oidc-provider, are in
//! [`crate::authentication`]. Assertions are not sent to Zitadel's library: its example accepts only an RSA key of 1,024
//! bits, which is too short to sign with.

use serde_json::{Value, json};
use test_support::World;
use test_support::django::Django;
use test_support::hydra::Hydra;
use test_support::oidc_provider::secret;
use test_support::zitadel::{self, Zitadel};

use super::{Case, case, create, server, target};

/// Creates an integration for each case, and waits until all have tokens.
async fn all_ready(world: &World, cases: &[Case]) {
    for case in cases {
        create(world, case).await;
    }
    for case in cases {
        eprintln!("==> {}", case.name);
        world.ready(case.name).await;
        assert!(!world.value(&target(case.name), "access_token").await.is_empty(), "{}", case.name);
    }
}

fn method(name: &str) -> Value {
    json!({"clientAuthentication": {"method": name}})
}

#[tokio::test]
async fn hydra() {
    let (hydra, server) = (Hydra::shared(), server::hydra());
    let world = World::new("hydra-grants").await;
    let rotating = hydra.first_refresh_token("rotating");
    let public = hydra.first_refresh_token("public");
    let basic = [("client_id", "basic"), ("client_secret", "basic-secret")];
    let post = [("client_id", "post"), ("client_secret", "post-secret")];
    let key = [("client_id", "key"), ("private_key", hydra.rsa.pem.as_str())];
    let assertion =
        [("client_id", "assertion"), ("client_secret", "assertion-secret"), ("private_key", hydra.rsa.pem.as_str())];
    let rotating = [("client_id", "rotating"), ("client_secret", "rotating-secret"), ("refresh_token", &rotating)];
    let public = [("client_id", "public"), ("refresh_token", public.as_str())];
    // Hydra's metadata names the issuer, but it accepts only assertions for the token endpoint.
    let for_token_endpoint = json!({"keyId": "rsa", "audience": hydra.token_endpoint()});
    let mut authorization = for_token_endpoint.clone();
    authorization["issuer"] = json!("https://issuer.example.com");
    authorization["subject"] = json!("ada");
    let refresh = |method: &str| json!({"grantType": "refresh_token", "clientAuthentication": {"method": method}});
    let by_key = json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": for_token_endpoint}});
    let cases = [
        case("basic", &server, &basic, method("client_secret_basic")),
        case("post", &server, &post, method("client_secret_post")),
        case("key", &server, &key, by_key),
        case("jwt-bearer", &server, &assertion, json!({"grantType": "jwt_bearer", "assertion": authorization})),
        case("refresh", &server, &rotating, refresh("client_secret_post")),
        case("refresh-public", &server, &public, refresh("none")),
        case("scope", &server, &post, json!({"scope": "read"})),
    ];
    all_ready(&world, &cases).await;
}

#[tokio::test]
async fn zitadel() {
    let server = server::zitadel();
    let world = World::new("zitadel-grants").await;
    let tokens = Zitadel::shared().log_in();
    let service = [("client_id", "sid1"), ("client_secret", "verysecret")];
    let web = [
        ("client_id", "web"),
        ("client_secret", zitadel::SECRET),
        ("subject_token", tokens.access.as_str()),
        ("refresh_token", tokens.refresh.as_str()),
    ];
    let with = |grant: &str, method: &str| json!({"grantType": grant, "clientAuthentication": {"method": method}});
    let cases = [
        case("basic", &server, &service, method("client_secret_basic")),
        case("post", &server, &service, method("client_secret_post")),
        case("exchange", &server, &web, with("token_exchange", "client_secret_basic")),
        case("refresh", &server, &web, with("refresh_token", "client_secret_post")),
    ];
    all_ready(&world, &cases).await;
}

#[tokio::test]
async fn django() {
    let (django, server) = (Django::shared(), server::django());
    let world = World::new("django-grants").await;
    let first = django.first_refresh_token();
    let service = [("client_id", "service"), ("client_secret", "service-secret")];
    let user = [
        ("client_id", "rotating"),
        ("client_secret", "rotating-secret"),
        ("username", "ada"),
        ("password", "ada-password"),
    ];
    let rotating = [("client_id", "rotating"), ("client_secret", "rotating-secret"), ("refresh_token", &first)];
    let cases = [
        case("basic", &server, &service, method("client_secret_basic")),
        case("post", &server, &service, method("client_secret_post")),
        case("password", &server, &user, json!({"grantType": "password"})),
        case("refresh", &server, &rotating, json!({"grantType": "refresh_token"})),
    ];
    all_ready(&world, &cases).await;
}

#[tokio::test]
async fn oidc_provider() {
    let world = World::new("provider-grants").await;
    let server = server::oidc_provider(&world).await;
    let first = test_support::oidc_provider::OidcProvider::shared().first_refresh_token();
    let (plain, post, jwt, rotating) = (secret("plain"), secret("post"), secret("jwt"), secret("rotating"));
    let by = |id, secret| [("client_id", id), ("client_secret", secret)];
    let rotating = [("client_id", "rotating"), ("client_secret", &rotating), ("refresh_token", &first)];
    let refresh = json!({"grantType": "refresh_token", "clientAuthentication": {"method": "client_secret_basic"}});
    let cases = [
        case("basic", &server, &by("plain", plain.as_str()), method("client_secret_basic")),
        case("post", &server, &by("post", post.as_str()), method("client_secret_post")),
        case("jwt", &server, &by("jwt", jwt.as_str()), method("client_secret_jwt")),
        case("refresh", &server, &rotating, refresh),
    ];
    all_ready(&world, &cases).await;
}
