//! Guarantee: with the refresh token in a Secret of its own, a crash at any point loses no refresh token that has
//! reached the operator's first write, and none is sent twice.
//!
//! The table has a row for each action and each failpoint. The server replaces the refresh token with every response,
//! and a login with the password of the fallback shows that a token was lost.

use std::sync::Arc;

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, PASSWORD, RotatingTokenServer};
use test_support::world::{SHORT_TIMEOUT, World, rotating};
use test_support::{Operator, eventually};

/// The failpoints in their order, and whether a response that has arrived is lost there with the process: it has not
/// been written anywhere.
const FAILPOINTS: [(&str, bool); 8] = [
    ("after-reads", false),
    ("before-request", false),
    ("after-response", true),
    ("before-secret", true),
    ("after-refresh-token", false),
    ("after-secret", false),
    ("after-status", false),
    ("after-report", false),
];

/// What the operator does when it crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The first token is requested.
    Issue,
    Renew,
    /// The refresh token moves out of the target.
    MoveOut,
    /// The refresh token moves to another Secret.
    MoveOn,
    /// The refresh token moves back into the target.
    MoveBack,
    /// The refresh token moves out of the target, and a new token is requested, because the scope changes too.
    MoveOutAndRenew,
}

const ACTIONS: [Action; 6] =
    [Action::Issue, Action::Renew, Action::MoveOut, Action::MoveOn, Action::MoveBack, Action::MoveOutAndRenew];

impl Action {
    /// The Secret with the refresh token before and after it.
    fn holders(self) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Issue | Self::Renew => (Some("first"), Some("first")),
            Self::MoveOut | Self::MoveOutAndRenew => (None, Some("first")),
            Self::MoveOn => (Some("first"), Some("second")),
            Self::MoveBack => (Some("first"), None),
        }
    }

    /// The change that causes it.
    fn patch(self) -> Value {
        let mut patch = json!({"spec": {"target": {"refreshTokenSecretName": self.holders().1}}});
        match self {
            Self::Renew => {
                patch["metadata"] = json!({"annotations": {"oauth.evolutionx.io/renew-requested-at": "now"}});
            }
            Self::MoveOutAndRenew => patch["spec"]["scope"] = json!("orders"),
            _ => {}
        }
        patch
    }

    /// Whether a token is requested.
    fn requests(self) -> bool {
        matches!(self, Self::Issue | Self::Renew | Self::MoveOutAndRenew)
    }

    /// Whether the operator passes the failpoint: it writes no other Secret, and without a request there is no event.
    fn passes(self, failpoint: &str) -> bool {
        match failpoint {
            "after-refresh-token" => self.holders().1.is_some(),
            "before-request" | "after-response" | "before-secret" => self.requests(),
            _ => true,
        }
    }
}

fn operator(world: &World, failpoint: &str) -> Operator {
    let environment = [("OAUTH_OPERATOR_FAILPOINT".to_owned(), failpoint.to_owned())];
    Operator::start_in(&world.kubeconfig, &["--namespace", &world.namespace], &environment)
}

/// Waits until the refresh token is the current one, in the right Secret and nowhere else.
async fn settled(world: &World, server: &RotatingTokenServer, holder: Option<&str>, case: &str) {
    eventually(&format!("{case}: settled"), SHORT_TIMEOUT, async || {
        let mut all = Vec::new();
        for name in ["it", "first", "second"] {
            let token = world.values(name).await.and_then(|mut values| values.remove("refresh_token"));
            all.extend(token.map(|token| (name, server.is_current(&token))));
        }
        let wanted = [(holder.unwrap_or("it"), true)];
        if all == wanted { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    world.ready("it").await;
}

#[tokio::test]
async fn no_crash_loses_a_refresh_token_that_is_in_a_secret_of_its_own() {
    let mut wrong = Vec::new();
    for action in ACTIONS {
        for (failpoint, is_lost) in FAILPOINTS.into_iter().filter(|(failpoint, _)| action.passes(failpoint)) {
            let case = format!("{action:?}, killed {failpoint}");
            let server = RotatingTokenServer::new(3600);
            let responding = Arc::clone(&server);
            let endpoint = Endpoint::start(move |request| responding.reply(request));
            let mut world = World::new("apart").await;
            let first = server.first();
            let credentials =
                [("client_id", "c"), ("refresh_token", first.as_str()), ("username", "it"), ("password", PASSWORD)];
            world.secret("credentials", &credentials).await;
            let mut spec = rotating(&endpoint.url(), "credentials");
            spec["renewal"] = json!({"fallback": {"grantType": "user_password"}});
            let (before, after) = action.holders();
            spec["target"] = json!({"refreshTokenSecretName": before});
            if action != Action::Issue {
                world.integration("it", &spec).await;
                settled(&world, &server, before, &case).await;
            }
            world.operator.terminate(SHORT_TIMEOUT);
            if action == Action::Issue {
                world.integration("it", &spec).await;
            } else {
                world.change("it", &action.patch()).await;
            }
            let requests = endpoint.count();
            world.operator = operator(&world, failpoint);
            world.operator.wait_for_exit(SHORT_TIMEOUT);
            if matches!(after, Some(name) if before == Some(name)) {
                let values = world.values("it").await.unwrap_or_default();
                assert!(!values.contains_key("refresh_token"), "{case}: the target has a refresh token");
            }
            world.operator = operator(&world, "");
            world.operator.until_ready().await;
            settled(&world, &server, after, &case).await;
            // The refresh token that was kept is the one that the server accepts.
            let access = world.value("it", "access_token").await;
            world.request_renewal("it", "later").await;
            world.wait_for_change("it", "access_token", &access).await;
            settled(&world, &server, after, &case).await;
            let expected = usize::from(is_lost);
            let (lost, reused) = (server.logins(), server.reused().len());
            let sent = endpoint.count() - requests;
            println!("{case}: {lost} refresh tokens lost, {reused} sent twice, {sent} requests");
            // After the loss of a response, the token before it is sent again, once: nothing tells that it was used.
            if lost != expected || reused != expected {
                wrong.push(format!("{case}: {lost} lost, {reused} sent twice, {expected} expected"));
            }
            // A move does not need a token request: the only one is that of the last step.
            if !action.requests() && sent != 1 {
                wrong.push(format!("{case}: {sent} requests"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// After a crash between the two writes, someone reverts the change of the spec: the latest refresh token is in a Secret
/// that is no longer named.
#[tokio::test]
async fn a_reverted_change_does_not_lose_the_refresh_token_of_the_crash() {
    let server = RotatingTokenServer::new(3600);
    let responding = Arc::clone(&server);
    let endpoint = Endpoint::start(move |request| responding.reply(request));
    let mut world = World::new("apart-reverted").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", &server.first())]).await;
    world.integration("it", &rotating(&endpoint.url(), "credentials")).await;
    settled(&world, &server, None, "issued").await;
    world.operator.terminate(SHORT_TIMEOUT);
    world.change("it", &Action::MoveOutAndRenew.patch()).await;
    world.operator = operator(&world, "after-refresh-token");
    world.operator.wait_for_exit(SHORT_TIMEOUT);
    let revert = json!({"spec": {"scope": null, "target": {"refreshTokenSecretName": null}}});
    world.change("it", &revert).await;
    world.operator = operator(&world, "");
    world.operator.until_ready().await;
    settled(&world, &server, None, "reverted").await;
    let access = world.value("it", "access_token").await;
    world.request_renewal("it", "later").await;
    world.wait_for_change("it", "access_token", &access).await;
    settled(&world, &server, None, "renewed").await;
    assert_eq!(server.reused(), Vec::<String>::new());
    assert!(world.values("first").await.is_none(), "it is deleted after its token has been moved");
}
