//! Guarantee: requests are sent to the endpoint of the issuer, through the configured proxy, and responses of all
//! shapes can be used. These tests use a scripted endpoint; for real servers, see `authentication.rs`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::certificate::Identity;
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::messages::assert_recorded;
use test_support::world::client_credentials;
use test_support::{World, eventually, keys};

/// An issuer with a path, and its metadata.
fn issuer(endpoint: &Endpoint) -> String {
    format!("http://{}/realms/erp", endpoint.address())
}

fn metadata(issuer: &str) -> Value {
    let origin = issuer.trim_end_matches("/realms/erp");
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{origin}/oauth/token"),
        "revocation_endpoint": format!("{origin}/the-revocation-endpoint"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
    })
}

/// Responds to POST with tokens, and to GET with the metadata at one path.
fn publish(endpoint: &Endpoint, place: &'static str, reply: impl Fn() -> Reply + Send + Sync + 'static) {
    endpoint.respond(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", _) => Reply::token(9),
        (_, path) if path == place => reply(),
        _ => Reply::text(404, "not here"),
    });
}

fn by_issuer(issuer: &str) -> Value {
    let mut spec = client_credentials("");
    spec.as_object_mut().expect("an object").remove("tokenEndpoint");
    spec["issuer"] = json!(issuer);
    spec
}

fn posts(endpoint: &Endpoint) -> Vec<Request> {
    endpoint.requests().into_iter().filter(|request| request.method == "POST").collect()
}

#[tokio::test]
async fn the_metadata_of_an_issuer_is_read_once_from_either_location() {
    let world = World::new("issuer").await;
    world.credentials().await;
    for (number, place) in
        ["/realms/erp/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/realms/erp"]
            .into_iter()
            .enumerate()
    {
        let endpoint = Endpoint::start(|_| Reply::Close);
        let issuer = issuer(&endpoint);
        let document = metadata(&issuer);
        publish(&endpoint, place, move || Reply::json(200, &document));
        let name = format!("it-{number}");
        let mut spec = by_issuer(&issuer);
        spec["resource"] = json!({"value": "https://www.resource.com"});
        world.integration(&name, &spec).await;
        world.ready(&name).await;
        let first = world.value(&name, "access_token").await;
        world.wait_for_change(&name, "access_token", &first).await;
        let sent = posts(&endpoint);
        assert!(sent.iter().all(|request| request.path == "/oauth/token"), "{sent:?}");
        // The defaults with an issuer: a form, and the parameter of RFC 8707.
        for request in &sent {
            assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
            assert_eq!(request.parameter("resource"), "https://www.resource.com");
        }
        let reads = endpoint.requests().iter().filter(|request| request.path == place).count();
        assert_eq!(reads, 1, "{place}: the metadata is cached");
    }
}

#[tokio::test]
async fn with_invalid_metadata_nothing_is_sent() {
    let world = World::new("bad-issuer").await;
    world.credentials().await;
    let place = "/realms/erp/.well-known/openid-configuration";
    type Change = fn(&mut Value);
    let change = |change: Change| {
        move |issuer: &str| {
            let mut document = metadata(issuer);
            change(&mut document);
            Reply::json(200, &document)
        }
    };
    let evil = change(|document| document["issuer"] = json!("https://evil.example.com"));
    let slash =
        change(|document| document["issuer"] = json!(format!("{}/", document["issuer"].as_str().unwrap_or(""))));
    let incomplete = change(|document| _ = document.as_object_mut().map(|members| members.remove("token_endpoint")));
    let relative = change(|document| document["token_endpoint"] = json!("/token"));
    let other = change(|document| document["token_endpoint"] = json!("ftp://example.com/token"));
    let methods = change(|document| {
        document["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt", "tls_client_auth", "made_up"])
    });
    type Document = Box<dyn Fn(&str) -> Reply + Send + Sync>;
    let cases: Vec<(&str, Document, &str, &str)> = vec![
        (
            "another issuer",
            Box::new(evil),
            "InvalidIssuerMetadata",
            "the issuer in the metadata is https://evil.example.com",
        ),
        ("the issuer with a trailing slash", Box::new(slash), "InvalidIssuerMetadata", "check spec.issuer"),
        (
            "no token endpoint",
            Box::new(incomplete),
            "InvalidIssuerMetadata",
            "does not contain token_endpoint: set spec.tokenEndpoint",
        ),
        ("a token endpoint that is not a URL", Box::new(relative), "InvalidIssuerMetadata", "is not a URL"),
        ("a token endpoint of another scheme", Box::new(other), "InvalidIssuerMetadata", "not an https URL"),
        (
            "another client authentication",
            Box::new(methods),
            "InvalidSpec",
            "offers private_key_jwt, tls_client_auth and not",
        ),
        ("not JSON", Box::new(|_| Reply::text(200, "<html>")), "InvalidIssuerMetadata", "is not valid (RFC 8414"),
        ("10 MB", Box::new(|_| Reply::Oversized(10 << 20)), "InvalidIssuerMetadata", "larger than 64 KiB"),
        (
            "nothing at either location",
            Box::new(|_| Reply::text(404, "")),
            "InvalidIssuerMetadata",
            "responded with 404",
        ),
        ("a server error", Box::new(|_| Reply::text(503, "")), "EndpointUnavailable", "responded with 503"),
        ("a redirect", Box::new(|_| Reply::text(302, "")), "InvalidIssuerMetadata", "responded with 302"),
    ];
    // All of them stay open: the metadata of a port is cached, and another one must not get the same port.
    let endpoints: Vec<Endpoint> = cases.iter().map(|_| Endpoint::start(|_| Reply::Close)).collect();
    for (number, ((case, reply, reason, message), endpoint)) in cases.into_iter().zip(&endpoints).enumerate() {
        let issuer = issuer(endpoint);
        let own = issuer.clone();
        publish(endpoint, place, move || reply(&own));
        let name = format!("it-{number}");
        world.integration(&name, &by_issuer(&issuer)).await;
        let ready = world.condition(&name, "Ready", "False", reason).await;
        assert!(ready.message.contains(message), "{case}: {}", ready.message);
        assert!(posts(endpoint).is_empty(), "{case}: a request was sent");
    }
}

#[tokio::test]
async fn the_proxy_of_the_spec_is_used() {
    let proxy = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("proxied").await;
    world.credentials().await;
    // Only the proxy can resolve this name.
    let mut spec = client_credentials("http://login.erp.invalid/token");
    spec["connection"] = json!({"proxy": format!("http://{}", proxy.address())});
    world.integration("it", &spec).await;
    world.ready("it").await;
    assert_eq!(proxy.requests()[0].path, "http://login.erp.invalid/token");
}

#[tokio::test]
async fn the_ca_bundle_of_the_spec_is_trusted() {
    let identity = Identity::new("127.0.0.1");
    let endpoint = Endpoint::start_tls(identity.server(), |_| Reply::token(3600));
    let url = endpoint.url().replace("http:", "https:");
    let world = World::new("ca-bundles").await;
    world.credentials().await;
    let mut spec = client_credentials(&url);
    world.integration("untrusted", &spec).await;
    let ready = world.condition("untrusted", "Ready", "False", "EndpointUnreachable").await;
    assert!(ready.message.contains("certificate"), "{}", ready.message);
    spec["connection"] = json!({"caBundle": {"name": "ca", "key": "bundle.pem"}});
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "DependencyMissing").await;
    assert_recorded("DependencyMissing", "the ConfigMap of spec.connection.caBundle does not exist", &stalled.message);
    world.config_map("ca", "bundle.pem", "no certificate").await;
    world.change("it", &json!({"spec": {"tokenLife": "50m"}})).await;
    eventually("the invalid bundle is reported", test_support::world::SHORT_TIMEOUT, async || {
        let stalled = world.condition("it", "Stalled", "True", "DependencyMissing").await;
        if stalled.message.contains("contains no PEM certificates") { Ok(()) } else { Err(stalled.message) }
    })
    .await;
    let ca = std::fs::read_to_string(identity.ca_file()).expect("the CA");
    world.config_map("ca", "bundle.pem", &ca).await;
    // ConfigMaps are not watched, but checked every 30 s.
    eventually("the fixed ConfigMap is found", Duration::from_secs(45), async || {
        let token = world.value("it", "access_token").await;
        if token.is_empty() { Err("no token".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn responses_of_all_shapes_can_be_used() {
    let world = World::new("shapes").await;
    world.credentials().await;
    let in_an_hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let expires_at = |value: Value| Reply::json(200, &json!({"access_token": "kanarie-token", "expires_at": value}));
    let by_expiry = json!({"expiresAt": "expires_at"});
    let form = "access_token=kanarie-token&scope=repo%2Cgist&token_type=bearer&expires_in=3600";
    let cases: Vec<(&str, Value, Reply)> = vec![
        ("a form", json!({}), Reply::text(200, form)),
        (
            "a token in a header",
            json!({"accessToken": "$headers.`x-auth-token`", "expiresIn": "$number($headers.`x-ttl`)"}),
            Reply::text(200, "").with_header("X-Auth-Token", "kanarie-token").with_header("X-TTL", "3600"),
        ),
        ("an expiry in RFC 3339", by_expiry.clone(), expires_at(json!(in_an_hour.to_string()))),
        ("an expiry in seconds", by_expiry.clone(), expires_at(json!(in_an_hour.as_second()))),
        ("an expiry in milliseconds", by_expiry.clone(), expires_at(json!(in_an_hour.as_millisecond()))),
        ("an expiry in seconds, as text", by_expiry, expires_at(json!(in_an_hour.as_second().to_string()))),
        (
            "a status in the body",
            json!({"success": "status = 0", "accessToken": "body.token", "expiresIn": "body.ttl"}),
            Reply::json(200, &json!({"status": 0, "body": {"token": "kanarie-token", "ttl": 3600}})),
        ),
        (
            "by the status code",
            json!({"accessToken": "$status = 201 ? token : nothing", "expiresIn": "3600"}),
            Reply::json(201, &json!({"token": "kanarie-token"})),
        ),
    ];
    for (number, (case, response, reply)) in cases.into_iter().enumerate() {
        let endpoint = Endpoint::start(move |_| reply.clone());
        let name = format!("it-{number}");
        let mut spec = client_credentials(&endpoint.url());
        spec["response"] = response;
        world.integration(&name, &spec).await;
        world.ready(&name).await;
        assert_eq!(world.value(&name, "access_token").await, "kanarie-token", "{case}");
        let status = world.get(&name).await.status.expect("a status");
        let (issued, expires) =
            (status.issued_at.expect("an issue time").0, status.expires_at.expect("an expiry time").0);
        let lifetime = expires.duration_since(issued).as_secs();
        assert!((3540..=3600).contains(&lifetime), "{case}: {lifetime}");
    }
}

#[tokio::test]
async fn an_error_in_a_200_response_is_a_rejection() {
    let response = json!({"ok": false, "error": "invalid_client_id", "access_token": "not-a-token"});
    let endpoint = Endpoint::start(move |_| Reply::json(200, &response));
    let world = World::new("error-in-200").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["response"] = json!({"success": "ok"});
    world.integration("it", &spec).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(
        ready.message.contains("(ok) is not true: invalid_client_id; check spec.response.success"),
        "{}",
        ready.message
    );
    assert!(world.values("it").await.is_none(), "nothing is written");
}

#[tokio::test]
async fn values_of_the_response_are_written_kept_and_removed() {
    let world = World::new("data").await;
    world.credentials().await;
    let response = json!({
        "access_token": "kanarie-token", "expires_in": 3600, "instance_url": "https://eu1.example.com",
        "limits": {"calls": 100}, "quota": 5, "nothing": null,
    });
    let endpoint = Endpoint::start(move |_| Reply::json(200, &response));
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"data": {
        "instance_url": "response.instance_url", "limits.json": "response.limits", "quota": "response.quota",
        "nothing": "response.nothing",
    }});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let values = world.values("it").await.expect("the target");
    assert_eq!(values["instance_url"], "https://eu1.example.com");
    assert_eq!((values["limits.json"].as_str(), values["quota"].as_str()), (r#"{"calls":100}"#, "5"));
    assert!(!values.contains_key("nothing"), "an expression without a result is not written");
    // The operator owns these values like the token: changes by others are reverted.
    world
        .secrets()
        .patch("it", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&json!({"data": {"quota": "Ng=="}})))
        .await
        .expect("a patch");
    eventually("the changed value is restored", test_support::world::SHORT_TIMEOUT, async || {
        match world.value("it", "quota").await {
            value if value == "5" => Ok(()),
            value => Err(value),
        }
    })
    .await;
    world.change("it", &json!({"spec": {"target": {"data": {"quota": null, "limits.json": null}}}})).await;
    eventually("values that were removed from the spec are deleted", test_support::world::SHORT_TIMEOUT, async || {
        let values = world.values("it").await.expect("the target");
        if values.contains_key("quota") || values.contains_key("limits.json") {
            Err(format!("{:?}", values.keys()))
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(world.value("it", "instance_url").await, "https://eu1.example.com");
}

/// A login that returns refresh tokens, and a separate refresh endpoint, each with its own parameters.
#[tokio::test]
async fn the_refresh_token_of_a_grant_is_used_until_it_is_rejected() {
    let rejects = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let rejecting = Arc::clone(&rejects);
    let endpoint = Endpoint::start(move |request| match request.path.as_str() {
        "/login" => Reply::json(
            200,
            &json!({"access_token": "kanarie-by-login", "refresh_token": "kanarie-first", "expires_in": 9, "tenant": "evox"}),
        ),
        _ if rejecting.swap(false, std::sync::atomic::Ordering::SeqCst) => {
            Reply::rejected(400, "invalid_grant", "ended")
        }
        // The response omits the unchanged values.
        _ => Reply::json(200, &json!({"access_token": format!("by-{}", request.parameter("token")), "expires_in": 9})),
    });
    let world = World::new("strategy").await;
    world.secret("credentials", &[("username", "ada"), ("password", "kanarie-word")]).await;
    let base = format!("http://{}", endpoint.address());
    let spec = json!({
        "tokenEndpoint": format!("{base}/login"),
        "grantType": "user_password",
        "credentials": {"secretName": "credentials"},
        "request": {"parameterNames": {"username": "email", "password": "pass"}},
        "target": {"data": {"tenant": "response.tenant"}},
        "renewal": {"strategy": "refresh_token", "refresh": {
            "tokenEndpoint": format!("{base}/refresh"), "format": "form", "parameterNames": {"refresh_token": "token"},
            "parameters": {"grant_type": ""},
        }},
    });
    world.integration("it", &spec).await;
    world.ready("it").await;
    let login = endpoint.requests()[0].clone();
    assert_eq!(login.json(), json!({"email": "ada", "pass": "kanarie-word"}));
    world.wait_for_change("it", "access_token", "kanarie-by-login").await;
    let refresh = endpoint.requests()[1].clone();
    assert_eq!((refresh.path.as_str(), refresh.body.as_str()), ("/refresh", "token=kanarie-first"));
    let values = world.values("it").await.expect("the target");
    assert_eq!(
        (values["refresh_token"].as_str(), values["tenant"].as_str()),
        ("kanarie-first", "evox"),
        "values that the response omits are kept"
    );
    // After a rejection, the grant is run again in the same attempt.
    rejects.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("the user logs in again", Duration::from_secs(30), async || {
        let logins = endpoint.requests().iter().filter(|request| request.path == "/login").count();
        if logins == 2 { Ok(()) } else { Err(format!("{logins}")) }
    })
    .await;
    world.ready("it").await;
    let warned = world.events("it").await.iter().any(|event| event.reason.as_deref() == Some("FallbackUsed"));
    assert!(!warned, "the rejection of a refresh token causes no warning");
    // Another spec causes a new grant: the refresh token belongs to the old one.
    let before = endpoint.requests().len();
    world.change("it", &json!({"spec": {"scope": "order"}})).await;
    world.ready("it").await;
    let next = endpoint.requests()[before..].iter().find(|request| request.json()["scope"] == "order").cloned();
    assert_eq!(next.map(|request| request.path), Some("/login".to_owned()));
}

#[tokio::test]
async fn a_server_that_always_requires_a_new_nonce_receives_two_requests() {
    let endpoint = Endpoint::start(|request| {
        let nonce = format!("nonce-{}", request.headers.get("dpop").map_or(0, String::len));
        Reply::rejected(400, "use_dpop_nonce", "again").with_header("DPoP-Nonce", &nonce)
    });
    let world = World::new("nonces").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["dpop"] = json!({});
    world.integration("it", &spec).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("use_dpop_nonce"), "{}", ready.message);
    assert_eq!(endpoint.count(), 2);
    let proofs: Vec<_> = endpoint.requests().iter().map(|request| request.headers["dpop"].clone()).collect();
    assert_ne!(proofs[0], proofs[1], "a proof was reused");
}

#[tokio::test]
async fn clock_skew_is_reported_for_signed_requests() {
    let behind = |_: &Request| {
        Reply::rejected(401, "invalid_client", "token used before issued")
            .with_header("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
    };
    let endpoint = Endpoint::start(behind);
    let world = World::new("clocks").await;
    let key = keys::rsa().pem;
    world
        .secret("credentials", &[("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("private_key", &key)])
        .await;
    let mut spec = client_credentials(&endpoint.url());
    world.integration("unsigned", &spec).await;
    spec["clientAuthentication"] = json!({"method": "private_key_jwt"});
    world.integration("signed", &spec).await;
    let signed = world.condition("signed", "Ready", "False", "RequestRejected").await.message;
    assert!(signed.contains("s behind this machine's: set the clocks"), "{signed}");
    let unsigned = world.condition("unsigned", "Ready", "False", "RequestRejected").await.message;
    assert!(!unsigned.contains("clocks"), "{unsigned}");
}

/// Each error is reported with its reason and the field to change; no request is sent, and the existing token is kept.
#[tokio::test]
async fn invalid_input_is_reported_and_the_token_is_kept() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("bad-input").await;
    let good = keys::rsa().pem;
    world.secret("credentials", &[("client_id", "c"), ("private_key", &good)]).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["clientAuthentication"] = json!({"method": "private_key_jwt"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    let sent = endpoint.count();
    world.secret("credentials", &[("client_id", "c"), ("private_key", "not a key CANARY")]).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    assert!(stalled.message.contains("spec.credentials.keys.privateKey"), "{}", stalled.message);
    assert_eq!((world.value("it", "access_token").await, endpoint.count()), (token.clone(), sent));
    world.secret("credentials", &[("client_id", "c"), ("private_key", "")]).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert!(stalled.message.contains("private_key"), "{}", stalled.message);
    assert_eq!((world.value("it", "access_token").await, endpoint.count()), (token, sent));
    assert!(!world.observable_output().await.contains("CANARY"));
}

/// A custom login endpoint does not use the error codes of RFC 6749.
#[tokio::test]
async fn a_refresh_that_is_rejected_with_a_custom_error_also_leads_to_the_grant() {
    let endpoint = Endpoint::start(|request| match request.path.as_str() {
        "/login" => Reply::json(
            200,
            &json!({"access_token": "kanarie-by-login", "refresh_token": "kanarie-first", "expires_in": 9}),
        ),
        _ => Reply::json(401, &json!({"message": "refresh token expired"})),
    });
    let world = World::new("custom-error").await;
    world.secret("credentials", &[("username", "ada"), ("password", "kanarie-word")]).await;
    let base = format!("http://{}", endpoint.address());
    let spec = json!({
        "tokenEndpoint": format!("{base}/login"), "grantType": "user_password",
        "credentials": {"secretName": "credentials"},
        "renewal": {"strategy": "refresh_token", "refresh": {"tokenEndpoint": format!("{base}/refresh")}},
    });
    world.integration("it", &spec).await;
    world.ready("it").await;
    let path = |at: usize| endpoint.requests().get(at).map(|request| request.path.clone());
    eventually("the user logs in again", Duration::from_secs(30), async || {
        if endpoint.count() >= 3 { Ok(()) } else { Err(endpoint.count().to_string()) }
    })
    .await;
    assert_eq!((path(1).as_deref(), path(2).as_deref()), (Some("/refresh"), Some("/login")));
    world.ready("it").await;
    assert_eq!(world.get("it").await.status.and_then(|status| status.last_failure), None);
}

/// The response is an error, but the server has already invalidated the old refresh token.
#[tokio::test]
async fn a_new_refresh_token_next_to_an_error_is_kept() {
    let server = test_support::endpoint::RotatingTokenServer::new(3600);
    let first = server.first();
    let responding = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| match responding.reply(request) {
        // The first response rotates the token although it is an error.
        Reply::Http(200, headers, body) if responding.renewed() == 1 => {
            Reply::Http(200, headers, body.replace("{", "{\"ok\":false,"))
        }
        Reply::Http(200, headers, body) => Reply::Http(200, headers, body.replace("{", "{\"ok\":true,")),
        other => other,
    });
    let world = World::new("beside-an-error").await;
    let values = [("client_id", "c"), ("client_secret", "kanarie-client-secret"), ("refresh_token", first.as_str())];
    world.secret("credentials", &values).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["grantType"] = json!("refresh_token");
    spec["response"] = json!({"success": "ok"});
    world.integration("it", &spec).await;
    let ready = world.condition("it", "Ready", "False", "RequestRejected").await;
    assert!(ready.message.contains("(ok) is not true"), "{}", ready.message);
    world.request_renewal("it", "now").await;
    world.ready("it").await;
    assert!(server.reused().is_empty(), "{:?}", server.reused());
}

#[tokio::test]
async fn several_resources_are_requested_in_one_form() {
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let world = World::new("resources").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["request"] = json!({"format": "form"});
    spec["resource"] = json!({"key": "resource", "values": ["https://a.example.com", "https://b.example.com"]});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let body = endpoint.requests()[0].body.clone();
    assert!(body.ends_with("&resource=https%3A%2F%2Fa.example.com&resource=https%3A%2F%2Fb.example.com"), "{body}");
}
