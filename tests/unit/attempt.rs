//! Guarantee: an attempt sends the request of the spec, uses the fallback only if the refresh token was rejected, and
//! never sends a second request if another replica may have taken over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use oauth_operator::acquisition::attempt::{Attempt, IssuedToken, Progress};
use oauth_operator::api::reason::Reason;
use oauth_operator::api::spec::OAuthIntegration;
use oauth_operator::decision::observed::{CredentialsState, Observed, StoredTokens};
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::response::token::TokenResponse;
use oauth_operator::spec::validated::ValidatedSpec;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const SHORT_TIMEOUT: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_hours(1);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

/// An integration with these fields and a stored refresh token, if any, whose credentials contain `values`.
fn observed(fields: &Value, values: &[(Credential, &str)], stored: Option<&str>) -> (Observed, Arc<ValidatedSpec>) {
    let mut spec = json!({
        "tokenEndpoint": "https://login.example.com/token",
        "grantType": "refresh_token",
        "credentials": {"secretName": "credentials"},
    });
    let map = spec.as_object_mut().expect("an object");
    map.extend(fields.as_object().expect("an object").clone());
    let integration = OAuthIntegration::new("it", serde_json::from_value(spec).expect("a spec"));
    let spec = Arc::new(ValidatedSpec::parse("it", &integration.spec).expect("a valid spec"));
    let credentials: Credentials = values.iter().map(|(credential, value)| (*credential, (*value).into())).collect();
    let observed = Observed {
        credentials: CredentialsState::Resolved(Arc::new(credentials), "1".to_owned()),
        stored: StoredTokens { refresh_token: stored.map(Into::into), ..StoredTokens::default() },
        ..Observed::new(&integration, Ok(Arc::clone(&spec)), now())
    };
    (observed, spec)
}

fn fallback() -> Value {
    json!({"renewal": {"fallback": {"grantType": "password"}}})
}

const CLIENT: [(Credential, &str); 2] = [(Credential::ClientId, "client"), (Credential::ClientSecret, "secret")];
const ALL: [(Credential, &str); 4] =
    [CLIENT[0], CLIENT[1], (Credential::Username, "user"), (Credential::Password, "password")];

fn token(refresh_token: Option<&str>) -> TokenResponse {
    TokenResponse {
        access_token: "access".into(),
        is_verbatim: true,
        refresh_token: refresh_token.map(Into::into),
        expires_in: Some(SignedDuration::from_mins(10)),
        token_type: None,
        scope: None,
        expires_at: None,
        extra: BTreeMap::new(),
        date: None,
    }
}

fn invalid_grant() -> RequestError {
    RequestError { invalid_grant: true, ..RequestError::new(Reason::RequestRejected, "invalid_grant") }
}

/// The grant and the refresh token of the next request.
fn next(attempt: &Attempt<'_>) -> (&'static str, Option<String>) {
    let (request, credentials) = attempt.next_request();
    let token = credentials.get(Credential::RefreshToken).map(|token| token.expose_secret().to_owned());
    (request.grant.kind().as_str(), token)
}

fn done(progress: Progress) -> Result<IssuedToken, RequestError> {
    match progress {
        Progress::Done(result) => result.map(|issued| *issued),
        Progress::Continue => panic!("the attempt is not over"),
    }
}

#[test]
fn a_stored_refresh_token_is_sent_and_kept_if_the_response_has_none() {
    for (response, expected) in [(None, "stored"), (Some("rotated"), "rotated")] {
        let (observed, spec) = observed(&json!({}), &CLIENT, Some("stored"));
        let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
        assert_eq!(next(&attempt), ("refresh_token", Some("stored".to_owned())));
        let issued = done(attempt.record(Ok(token(response)), now(), SHORT_TIMEOUT)).expect("a token");
        let kept = issued.content.refresh_token.expect("a refresh token");
        assert_eq!(kept.expose_secret(), expected);
        assert_eq!(issued.warning, None);
    }
}

#[test]
fn a_rejected_refresh_token_leads_to_the_fallback_and_its_use_is_reported() {
    let (observed, spec) = observed(&fallback(), &ALL, Some("stored"));
    let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
    assert!(matches!(attempt.record(Err(invalid_grant()), now(), SHORT_TIMEOUT), Progress::Continue));
    assert_eq!(next(&attempt), ("password", None), "the rejected token is not sent again");
    let issued = done(attempt.record(Ok(token(Some("new"))), now(), SHORT_TIMEOUT)).expect("a token");
    assert_eq!(issued.warning, Some(Reason::FallbackUsed));
}

#[test]
fn any_other_error_ends_the_attempt() {
    let cases = [
        ("no fallback", json!({}), invalid_grant(), SHORT_TIMEOUT),
        (
            "a rejection for another reason",
            fallback(),
            RequestError::new(Reason::RequestRejected, "invalid_scope"),
            SHORT_TIMEOUT,
        ),
        ("no response", fallback(), RequestError::new(Reason::EndpointUnreachable, "refused"), SHORT_TIMEOUT),
        ("a process that was suspended in the meantime", fallback(), invalid_grant(), NEVER),
    ];
    for (case, fields, error, elapsed) in cases {
        let (observed, spec) = observed(&fields, &ALL, Some("stored"));
        let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
        let failed = done(attempt.record(Err(error.clone()), now(), elapsed)).expect_err(case);
        assert_eq!(failed, error, "{case}");
    }
}

#[test]
fn a_fallback_without_its_credentials_reports_the_missing_credentials() {
    let (observed, spec) = observed(&fallback(), &CLIENT, Some("stored"));
    let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
    let error = done(attempt.record(Err(invalid_grant()), now(), SHORT_TIMEOUT)).expect_err("no fallback");
    let missing = "needs client ID and username and password: add them to the credentials Secret";
    assert_eq!(error.reason, Reason::RequestRejected, "the cause is the rejected token");
    assert!(error.message.starts_with("invalid_grant; ") && error.message.ends_with(missing), "{}", error.message);

    let (observed, spec) = self::observed(&fallback(), &CLIENT, None);
    let error = Attempt::new(&observed, &spec, None).expect_err("nothing can be sent");
    assert_eq!(error.reason, Reason::CredentialsMissing);
    assert!(error.message.ends_with(missing), "{}", error.message);
}

#[test]
fn the_error_of_a_fallback_names_both_failures() {
    let (observed, spec) = observed(&fallback(), &ALL, Some("stored"));
    let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
    assert!(matches!(attempt.record(Err(invalid_grant()), now(), SHORT_TIMEOUT), Progress::Continue));
    let locked = RequestError::new(Reason::RequestRejected, "the account is locked");
    let error = done(attempt.record(Err(locked), now(), SHORT_TIMEOUT)).expect_err("both failed");
    assert_eq!(error.message, "the refresh token is no longer valid, and the fallback failed: the account is locked");
}

#[test]
fn without_a_refresh_token_the_fallback_is_used_without_a_warning() {
    let (observed, spec) = observed(&fallback(), &ALL, None);
    let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
    assert_eq!(next(&attempt), ("password", None));
    let issued = done(attempt.record(Ok(token(Some("new"))), now(), SHORT_TIMEOUT)).expect("a token");
    assert_eq!(issued.warning, None);
}

#[test]
fn without_credentials_nothing_is_sent() {
    let (observed, spec) = observed(&json!({}), &CLIENT, None);
    let observed = Observed { credentials: CredentialsState::NotRead(None), ..observed };
    let error = Attempt::new(&observed, &spec, None).expect_err("no attempt");
    assert_eq!(error.reason, Reason::CredentialsMissing);
}
