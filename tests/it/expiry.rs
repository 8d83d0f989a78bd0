//! Guarantee: credentials that expire at the provider are reported in time, although nothing is renewed, and never
//! cause or prevent a token request.

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use oauth_operator::api::status::OAuthIntegrationStatus;
use serde_json::{Value, json};
use test_support::control_plane::Calls;
use test_support::endpoint::{Endpoint, Reply, canary};
use test_support::keycloak::Keycloak;
use test_support::world::{SHORT_TIMEOUT, client_credentials};
use test_support::{ControlPlane, Operator, World, eventually};

/// 90 days, in seconds.
const LONG: u64 = 90 * 86_400;

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// A time in whole seconds, as it is written into the annotation.
fn from_now(duration: SignedDuration) -> Timestamp {
    Timestamp::from_second((Timestamp::now() + duration).as_second()).expect("a time")
}

/// Sets or removes the annotation.
async fn annotate(world: &World, secret: &str, expiry: Option<&str>) {
    let patch = json!({"metadata": {"annotations": {"oauth.evolutionx.io/credentials-expire-at": expiry}}});
    world.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("an annotation");
}

/// Waits until the status shows this time, or none.
async fn shown(world: &World, name: &str, expected: Option<Timestamp>) -> OAuthIntegrationStatus {
    eventually(&format!("{name} shows {expected:?}"), SHORT_TIMEOUT, async || {
        let status = world.get(name).await.status.unwrap_or_default();
        let found = status.credentials_expire_at.as_ref().map(|at| at.0);
        // A second after the last request, the changed Secret is read.
        let is_read = status.reason.as_deref() != Some("RateLimited");
        if found == expected && is_read { Ok(status) } else { Err(format!("{status:?}\n{}", world.operator.logs())) }
    })
    .await
}

/// Waits until an event says this, and returns the notes of all events with its reason.
async fn reported(world: &World, name: &str, reason: &str, text: &str) -> Vec<String> {
    eventually(&format!("{reason} of {name}: {text}"), SHORT_TIMEOUT, async || {
        let events = world.events(name).await;
        let of_reason = events.iter().filter(|event| event.reason.as_deref() == Some(reason));
        let mut notes = Vec::new();
        for event in of_reason {
            assert_eq!(event.type_.as_deref(), Some("Warning"));
            notes.push(event.note.clone().unwrap_or_default());
        }
        if notes.iter().any(|note| note.contains(text)) { Ok(notes) } else { Err(format!("{notes:?}")) }
    })
    .await
}

fn ready(status: &OAuthIntegrationStatus) -> &str {
    assert_eq!((status.ready.as_deref(), status.reason.as_deref()), (Some("True"), Some("TokenValid")));
    &status.conditions[0].message
}

async fn metric_is(world: &World, name: &str, expected: Option<Timestamp>) {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let expected = expected.map(|at| at.as_second() as f64);
    let labels = format!("namespace=\"{}\",name=\"{name}\"", world.namespace);
    eventually("the metric", SHORT_TIMEOUT, async || {
        let found = world.operator.metric("oauth_operator_credentials_expiry_timestamp_seconds", &labels);
        if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
    })
    .await;
}

/// A separate control plane, so that its counters include nothing else.
async fn counted() -> (ControlPlane, World) {
    let control_plane = ControlPlane::start();
    test_support::manifests::install_crd(&control_plane);
    test_support::manifests::install_permissions(&control_plane);
    let namespace = control_plane.namespace("expiry").await;
    let kubeconfig = test_support::operator::kubeconfig(&control_plane).await;
    let operator = Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
    let world = World { client: control_plane.client().await, namespace, operator, kubeconfig };
    (control_plane, world)
}

/// Asserts the calls of the operator since `before`: no write of a Secret, at most two reads for each report, and as
/// many writes of the status and events as expected.
async fn has_made(control_plane: &ControlPlane, before: &Calls, [statuses, events]: [u64; 2]) {
    let wanted = [
        ("APPLY", "secrets", "", 0..=0),
        ("GET", "secrets", "", 1..=2 * statuses),
        ("APPLY", "oauthintegrations", "status", statuses..=statuses),
        ("POST", "events", "", events..=events),
    ];
    // A call is counted shortly after its result can be seen.
    eventually("the calls", SHORT_TIMEOUT, async || {
        let now = control_plane.calls().await;
        for (verb, resource, subresource, expected) in &wanted {
            let call = ((*verb).to_owned(), (*resource).to_owned(), (*subresource).to_owned());
            let count = |calls: &Calls| calls.get(&call).copied().unwrap_or_default();
            let found = count(&now) - count(before);
            if !expected.contains(&found) {
                return Err(format!("{found} times {call:?} instead of {expected:?}"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_annotation_is_shown_and_each_threshold_is_reported_once_without_a_token_request() {
    let endpoint = Endpoint::start(|_| Reply::token(LONG));
    let (control_plane, mut world) = counted().await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    let status = world.ready("it").await.status.expect("a status");
    assert_eq!(status.credentials_expire_at, None);
    metric_is(&world, "it", None).await;
    // From then on, a changed Secret is read at once.
    let issued_at = status.issued_at.expect("a time").0;
    eventually("two seconds after the request", SHORT_TIMEOUT, async || {
        let passed = Timestamp::now().duration_since(issued_at);
        if passed.as_secs() >= 2 { Ok(()) } else { Err(format!("{passed:?}")) }
    })
    .await;

    // Far away: it is only shown.
    let before = control_plane.calls().await;
    let far = from_now(days(400));
    annotate(&world, "credentials", Some(&far.to_string())).await;
    assert!(!ready(&shown(&world, "it", Some(far)).await).contains("credentials"));
    metric_is(&world, "it", Some(far)).await;
    has_made(&control_plane, &before, [1, 0]).await;

    // Soon: the next thresholds are reached while nothing else happens.
    let before = control_plane.calls().await;
    let soon = from_now(days(3) + SignedDuration::from_secs(10));
    annotate(&world, "credentials", Some(&soon.to_string())).await;
    let first = format!("expire in less than 14 days, at {soon}");
    reported(&world, "it", "CredentialsExpiring", &first).await;
    assert!(ready(&shown(&world, "it", Some(soon)).await).contains(&first));
    let second = format!("expire in less than 3 days, at {soon}");
    assert_eq!(reported(&world, "it", "CredentialsExpiring", &second).await.len(), 2);
    has_made(&control_plane, &before, [2, 2]).await;

    // A restart repeats nothing.
    world.operator.kill();
    world.operator = Operator::start_with(&world.kubeconfig, &["--namespace", &world.namespace]).await;
    eventually("a reconciliation", SHORT_TIMEOUT, async || {
        let count = world.operator.sum("oauth_operator_reconciles_total", "TokenValid");
        if count >= 1.0 { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
    metric_is(&world, "it", Some(soon)).await;

    let past = from_now(SignedDuration::from_secs(8));
    annotate(&world, "credentials", Some(&past.to_string())).await;
    let notes = reported(&world, "it", "CredentialsExpiring", &format!("expired at {past}")).await;
    assert_eq!(notes.len(), 4, "one for each: {notes:?}");

    annotate(&world, "credentials", None).await;
    assert!(!ready(&shown(&world, "it", None).await).contains("credentials"));
    metric_is(&world, "it", None).await;
    assert_eq!(endpoint.count(), 1, "no token was requested");
}

#[tokio::test]
async fn an_annotation_that_is_not_a_time_is_reported_and_tokens_are_renewed() {
    let endpoint = Endpoint::start(|_| Reply::token(LONG));
    let world = World::new("expiry-invalid").await;
    world.credentials().await;
    annotate(&world, "credentials", Some("next spring")).await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    let status = world.ready("it").await.status.expect("a status");
    assert!(ready(&status).contains("is neither a time nor a date"), "{}", ready(&status));
    assert_eq!(status.credentials_expire_at, None);
    let before = world.value("it", "access_token").await;
    world.secret("credentials", &[("client_id", "the-client"), ("client_secret", &canary())]).await;
    world.wait_for_change("it", "access_token", &before).await;
    let notes = reported(&world, "it", "CredentialsExpiryInvalid", "neither a time nor a date").await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(!world.observable_output().await.contains("next spring"), "what a tenant writes there is not shown");
    // A date is enough.
    annotate(&world, "credentials", Some("2090-03-01")).await;
    let status = shown(&world, "it", Some("2090-03-01T00:00:00Z".parse().expect("a time"))).await;
    assert!(!ready(&status).contains("annotation"));
}

/// The Secret exists before the integration, whose watch has not kept anything of it; and a target is the credentials of
/// another integration.
#[tokio::test]
async fn the_annotation_of_any_secret_with_credentials_counts() {
    let endpoint = Endpoint::start(|_| Reply::token(LONG));
    let world = World::new("expiry-secrets").await;
    world.credentials().await;
    let (first, second) = (from_now(days(20)), from_now(days(30)));
    annotate(&world, "credentials", Some(&first.to_string())).await;
    world.integration("first", &client_credentials(&endpoint.url())).await;
    world.ready("first").await;
    shown(&world, "first", Some(first)).await;
    let mut spec = client_credentials(&endpoint.url());
    spec["clientId"] = json!("second");
    spec["credentials"] = json!({"secretName": "first", "keys": {"clientSecret": "access_token"}});
    world.integration("second", &spec).await;
    world.ready("second").await;
    assert_eq!(world.get("second").await.status.expect("a status").credentials_expire_at, None);
    annotate(&world, "first", Some(&second.to_string())).await;
    shown(&world, "second", Some(second)).await;
    shown(&world, "first", Some(first)).await;
    world.delete_secret("credentials").await;
    world.condition("first", "Stalled", "True", "CredentialsMissing").await;
    shown(&world, "first", None).await;
}

#[tokio::test]
async fn the_end_of_a_client_certificate_is_shown_and_the_earlier_time_counts() {
    let keycloak = Keycloak::shared();
    let world = World::new("expiry-certificate").await;
    world.config_map("ca", "ca.crt", &keycloak.ca.pem).await;
    let date = from_now(days(10)).to_zoned(jiff::tz::TimeZone::UTC).date();
    let ends: Timestamp = format!("{date}T00:00:00Z").parse().expect("a time");
    let write = async |certificate: &test_support::keys::Certificate| {
        let values = [("client_id", "certificate"), ("tls.crt", &certificate.pem), ("tls.key", &certificate.key)];
        world.secret("credentials", &values).await;
    };
    write(&keycloak.ca.client_until("keycloak-client", &date.to_string())).await;
    let spec: Value = json!({
        "issuer": keycloak.secure_issuer(),
        "grantType": "client_credentials",
        "clientAuthentication": {"method": "tls_client_auth"},
        "credentials": {"secretName": "credentials"},
        "request": {"format": "form"},
        "connection": {"caBundle": {"name": "ca"}},
        "tokenLife": "10m",
    });
    world.integration("it", &spec).await;
    world.ready("it").await;
    let status = shown(&world, "it", Some(ends)).await;
    assert!(ready(&status).contains(&format!("expires in less than 14 days, at {ends}: replace it")), "{status:?}");
    reported(&world, "it", "CredentialsExpiring", "the client certificate in Secret credentials expires").await;
    metric_is(&world, "it", Some(ends)).await;
    // The annotation does not cause a request, and the earlier time counts.
    let (later, earlier) = (from_now(days(40)), from_now(days(5)));
    annotate(&world, "credentials", Some(&later.to_string())).await;
    annotate(&world, "credentials", Some(&earlier.to_string())).await;
    assert!(ready(&shown(&world, "it", Some(earlier)).await).contains("annotation"));
    annotate(&world, "credentials", Some(&later.to_string())).await;
    shown(&world, "it", Some(ends)).await;
    assert_eq!(world.operator.token_requests(), (1.0, 1.0));
    // A replacement, as by cert-manager.
    write(&keycloak.ca.client("keycloak-client")).await;
    assert!(!ready(&shown(&world, "it", Some(later)).await).contains("certificate"));
    annotate(&world, "credentials", None).await;
    shown(&world, "it", Some("2090-01-01T00:00:00Z".parse().expect("a time"))).await;
}
