//! A rejected request is not repeated until something changes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use serde_json::{Value, json};
use test_support::World;
use test_support::endpoint::{Endpoint, Reply, Request};

use super::{
    CANARY, Clock, assert_healthy_without_secrets, assert_reported, credentials, credentials_of, failed, last_failure,
    put_secret, request_renewal, spec, token,
};

// ---- Rejections by the endpoint: retried after a minute, or at once after a change. ----

/// A request that the endpoint rejects.
struct Rejected {
    name: &'static str,
    reply: fn(&Request) -> Reply,
    /// The fix in the spec; `None` if other credentials are the fix.
    fix: Option<Value>,
    parts: &'static [&'static str],
}

fn only_forms(request: &Request, error: &str) -> Reply {
    match request.headers["content-type"].as_str() {
        "application/x-www-form-urlencoded" => token(request),
        _ => Reply::rejected(400, error, "only forms"),
    }
}

fn rejections() -> Vec<Rejected> {
    let form = || Some(json!({"request": {"format": "form"}}));
    vec![
        Rejected {
            name: "invalid-client",
            reply: |request| Reply::rejected(401, "invalid_client", &format!("no such client in {}", request.body)),
            fix: None,
            parts: &["401: invalid_client", "client ID and client secret in the credentials Secret"],
        },
        Rejected {
            name: "invalid-grant",
            reply: |request| {
                let secret = url::form_urlencoded::byte_serialize(request.parameter("client_secret").as_bytes())
                    .collect::<String>();
                Reply::rejected(
                    400,
                    "invalid_grant",
                    &format!("{secret} {}", STANDARD.encode(request.parameter("client_id"))),
                )
            },
            fix: None,
            parts: &["400: invalid_grant: [withheld: it repeats data from the request]"],
        },
        Rejected { name: "forbidden", reply: |_| Reply::text(403, CANARY), fix: None, parts: &["403"] },
        Rejected {
            name: "invalid-request",
            reply: |request| only_forms(request, "invalid_request"),
            fix: form(),
            parts: &["invalid_request", "spec.request.format: form"],
        },
        Rejected {
            name: "unsupported-grant-type",
            reply: |request| only_forms(request, "unsupported_grant_type"),
            fix: form(),
            parts: &["unsupported_grant_type", "spec.request.format: form"],
        },
    ]
}

impl Rejected {
    async fn start(&self, world: &World) -> Endpoint {
        let endpoint = Endpoint::start(self.reply);
        put_secret(world, &credentials_of(self.name), &credentials("first")).await;
        world.integration(self.name, &spec(self.name, &endpoint.url(), &json!({}))).await;
        let last = failed(world, self.name, "False", "RequestRejected", 1).await;
        let pause = last.retry_at.0.duration_since(last.time.0).as_secs();
        assert!(
            (60..=77).contains(&pause),
            "{}: a minute and up to a quarter of jitter, rounded up: {pause} s",
            self.name
        );
        world.condition(self.name, "Reconciling", "True", "RequestRejected").await;
        assert_reported(world, self.name, "RequestRejected", self.parts).await;
        endpoint
    }

    /// After a first rejection: fixes the cause, lets a renewal be rejected while there is a token, and fixes it again.
    async fn fix(&self, world: &World, endpoint: &Endpoint) {
        let name = self.name;
        assert_eq!(endpoint.count(), 1, "{name}: one request in the first seconds");
        assert_eq!(world.values(name).await, None, "{name}");
        match &self.fix {
            Some(change) => drop(world.change(name, &json!({"spec": change})).await),
            None => {
                endpoint.respond(token);
                put_secret(world, &credentials_of(name), &credentials("second")).await;
            }
        }
        let recovered = world.ready(name).await;
        assert_eq!((last_failure(&recovered), endpoint.count()), (None, 2), "{name}: at once");
        let first = world.values(name).await.expect("a token");
        endpoint.respond(|request| Reply::rejected(401, "invalid_client", &request.body));
        request_renewal(world, name).await;
        failed(world, name, "True", "RequestRejected", 1).await;
        assert_eq!(world.values(name).await.as_ref(), Some(&first), "{name}: the valid token is kept");
        assert_eq!(endpoint.count(), 3, "{name}");
        endpoint.respond(token);
        put_secret(world, &credentials_of(name), &credentials("third")).await;
        world.wait_for_change(name, "access_token", &first["access_token"]).await;
        assert_eq!((last_failure(&world.ready(name).await), endpoint.count()), (None, 4), "{name}: at once");
    }
}

#[tokio::test]
async fn a_rejection_is_reported_and_not_retried_until_something_changes() {
    let world = World::new("rejected").await;
    let clock = Clock::start(&world).await;
    let cases = rejections();
    let endpoints = join_all(cases.iter().map(|case| case.start(&world))).await;
    clock.wait().await;
    join_all(cases.iter().zip(&endpoints).map(|(case, endpoint)| case.fix(&world, endpoint))).await;
    assert_healthy_without_secrets(&world).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new("redirect").await;
    let clock = Clock::start(&world).await;
    let final_address = Endpoint::start(token);
    let (location, mut endpoints) = (final_address.url(), Vec::new());
    for status in [301, 302, 303, 307, 308] {
        let (name, location) = (format!("redirect-{status}"), location.clone());
        let endpoint = Endpoint::start(move |_| Reply::text(status, "").with_header("Location", &location));
        put_secret(&world, &credentials_of(&name), &credentials("first")).await;
        world.integration(&name, &spec(&name, &endpoint.url(), &json!({}))).await;
        failed(&world, &name, "False", "UnexpectedRedirect", 1).await;
        assert_reported(
            &world,
            &name,
            "UnexpectedRedirect",
            &[&status.to_string(), "not followed", "spec.tokenEndpoint"],
        )
        .await;
        endpoints.push((name, endpoint));
    }
    clock.wait().await;
    assert_eq!(final_address.connections(), 0, "the redirect was followed");
    for (name, endpoint) in &endpoints {
        assert_eq!(endpoint.count(), 1, "{name}");
        world.change(name, &json!({"spec": {"tokenEndpoint": final_address.url()}})).await;
        world.ready(name).await;
    }
    assert_healthy_without_secrets(&world).await;
}
