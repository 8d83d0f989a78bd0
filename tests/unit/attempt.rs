//! Guarantee: an attempt sends the request of the spec, uses the fallback only if the refresh token was rejected, and
//! never sends a second request if another replica may have taken over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use oauth_operator::acquisition::attempt::{Attempt, IssuedToken, Progress};
use oauth_operator::acquisition::content::{content_with_rotated_refresh_token, rescheduled};
use oauth_operator::api::reason::Reason;
use oauth_operator::api::spec::OAuthIntegration;
use oauth_operator::decision::observed::{CredentialsState, Observed, StoredTokens, TargetState};
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::lifetime::TokenTimes;
use oauth_operator::oauth::response::token::TokenResponse;
use oauth_operator::spec::validated::ValidatedSpec;
use oauth_operator::target::secret::build_secret;
use oauth_operator::target::snapshot::TargetSnapshot;
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
        lifetime_problem: None,
        refresh_token_expires_in: None,
        refresh_token_expires_at: None,
        warning: None,
        access_token: "access".into(),
        is_verbatim: true,
        refresh_token: refresh_token.map(Into::into),
        expires_in: Some(SignedDuration::from_mins(10)),
        token_type: None,
        scope: None,
        expires_at: None,
        data: BTreeMap::new(),
        date: None,
        source: None,
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

/// A client certificate that ends on this day.
fn certificate((year, month, day): (i32, u8, u8)) -> String {
    let mut params = rcgen::CertificateParams::new(vec!["client".to_owned()]).expect("parameters");
    params.not_after = rcgen::date_time_ymd(year, month, day);
    params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate").pem()
}

#[test]
fn the_end_of_the_client_certificate_is_stored_with_the_token_and_stays_when_that_is_written_again() {
    let with_certificate = json!({"clientAuthentication": {"method": "tls_client_auth"}});
    let end = "2027-03-01T00:00:00Z".parse::<Timestamp>().expect("a time");
    // RFC 5280, section 4.1.2.5: the last day of 9999 means no end.
    for (last_day, expected) in [((2027, 3, 1), Some(end)), ((9999, 12, 31), None)] {
        let pem = certificate(last_day);
        let values = [CLIENT[0], (Credential::TlsCertificate, &pem), (Credential::TlsKey, "key")];
        let (observed, spec) = observed(&with_certificate, &values, Some("stored"));
        let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
        let issued = done(attempt.record(Ok(token(None)), now(), SHORT_TIMEOUT)).expect("a token");
        assert_eq!(issued.content.times.certificate_expires_at, expected);
        let secret = build_secret(
            "ns",
            &OwnerReference::default(),
            None,
            &spec.template,
            &issued.content,
            Timestamp::UNIX_EPOCH,
        );
        let stored = TargetSnapshot::of(&secret).times.expect("times");
        assert_eq!(stored, issued.content.times, "as it is read after a restart");
        let again = rescheduled(&observed, &spec, &issued.content).times;
        assert_eq!(again, TokenTimes { renew_at: again.renew_at, ..issued.content.times });
    }
}

/// Of a response that is otherwise unusable, the new refresh token is kept. It belongs to the credentials that were sent: under
/// the name of others, it would be withheld from these, and sent with those.
#[test]
fn a_rotated_refresh_token_is_stored_with_the_credentials_that_obtained_it() {
    let (mut observed, spec) = observed(&json!({}), &CLIENT, Some("stored"));
    let mut attempt = Attempt::new(&observed, &spec, None).expect("an attempt");
    let content = done(attempt.record(Ok(token(None)), now(), SHORT_TIMEOUT)).expect("a token").content;
    for (before, keeps_access_token) in [("credentials", true), ("others", false)] {
        let mut stored = content.clone();
        before.clone_into(&mut stored.provenance.credentials_name);
        observed.stored.content = Some(Arc::new(stored));
        let kept = content_with_rotated_refresh_token(&observed, &spec, "rotated".into(), now()).expect("content");
        assert_eq!(kept.provenance.credentials_name, "credentials", "{before}");
        assert_eq!(kept.refresh_token.expect("a token").expose_secret(), "rotated", "{before}");
        // Without the hash, the access token of other credentials counts as one of another spec.
        assert_eq!(kept.provenance.spec_hash == spec.spec_hash, keeps_access_token, "{before}");
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

fn invalid_client() -> RequestError {
    RequestError { invalid_client: true, ..RequestError::new(Reason::RequestRejected, "invalid_client") }
}

/// The client secret of the next request.
fn next_secret(attempt: &Attempt<'_>) -> String {
    let (_, credentials) = attempt.next_request();
    credentials.get(Credential::ClientSecret).expect("a secret").expose_secret().to_owned()
}

#[test]
fn a_rejected_client_secret_is_replaced_by_the_next_one_once() {
    let both = [&CLIENT[..], &[(Credential::NextClientSecret, "the-next-secret")]].concat();
    let (observed, spec) = observed(&json!({}), &both, Some("stored"));
    let attempt = || Attempt::new(&observed, &spec, None).expect("an attempt");
    let mut succeeding = attempt();
    let current = next_secret(&succeeding);
    assert!(matches!(succeeding.record(Err(invalid_client()), now(), SHORT_TIMEOUT), Progress::Continue));
    assert_eq!(next_secret(&succeeding), "the-next-secret");
    assert_eq!(next(&succeeding), ("refresh_token", Some("stored".to_owned())), "the refresh token was not used");
    let issued = done(succeeding.record(Ok(token(None)), now(), SHORT_TIMEOUT)).expect("a token");
    assert_eq!(issued.warning, Some(Reason::NextClientSecretUsed));
    assert!(issued.content.provenance.uses_next_secret);
    let mut failing = attempt();
    assert!(matches!(failing.record(Err(invalid_client()), now(), SHORT_TIMEOUT), Progress::Continue));
    done(failing.record(Err(invalid_client()), now(), SHORT_TIMEOUT)).expect_err("both are rejected");
    let mut other = attempt();
    done(other.record(Err(invalid_grant()), now(), SHORT_TIMEOUT)).expect_err("the client was not rejected");
    assert_eq!(next_secret(&attempt()), current, "each attempt begins with the current one until the next one works");
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

/// One renewal at a time: the response is written to the Secret and read back, and is the observation of the next one.
fn renew(observed: &mut Observed, spec: &ValidatedSpec, response: TokenResponse, at: Timestamp) -> TokenTimes {
    observed.now = at;
    let issued = {
        let mut attempt = Attempt::new(observed, spec, None).expect("an attempt");
        done(attempt.record(Ok(response), at, SHORT_TIMEOUT)).expect("a token")
    };
    let owner = OwnerReference { name: "it".to_owned(), uid: "uid".to_owned(), ..OwnerReference::default() };
    let secret = build_secret("ns", &owner, None, &spec.template, &issued.content, Timestamp::UNIX_EPOCH);
    observed.target = TargetState::Owned(Arc::new(TargetSnapshot::of(&secret)));
    observed.stored = StoredTokens { refresh_token: issued.content.refresh_token, ..StoredTokens::default() };
    let times = observed.snapshot().and_then(|snapshot| snapshot.times).expect("the times");
    assert_eq!(times, issued.content.times, "the annotations keep everything");
    times
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn lasting(token: TokenResponse, expires_in: i64, refresh_token_expires_in: Option<i64>) -> TokenResponse {
    TokenResponse {
        expires_in: (expires_in > 0).then(|| SignedDuration::from_secs(expires_in)),
        refresh_token_expires_in: refresh_token_expires_in.map(SignedDuration::from_secs),
        ..token
    }
}

/// Shape A40: the server returns the same token until it expires, with the rest of its lifetime.
#[test]
fn a_token_that_is_returned_again_is_used_until_it_expires_and_then_replaced_at_once() {
    let (mut observed, spec) = observed(&json!({"grantType": "client_credentials"}), &CLIENT, None);
    let (mut at, mut requests) = (now(), 0);
    let end = loop {
        requests += 1;
        let left = after(60).duration_since(at).as_secs();
        let times = renew(&mut observed, &spec, lasting(token(None), left, None), at);
        if requests == 1 {
            assert_eq!(times.expires_at, after(60));
        }
        // Lifetimes have whole seconds.
        let is_same = times.expires_at > after(59) && times.expires_at <= after(60);
        assert!(is_same, "a lifetime of {left} s: {}", times.expires_at);
        at = times.renew_at;
        if at > times.expires_at {
            break times.expires_at;
        }
    };
    assert_eq!(requests, 2, "one of them learns that the token is the same");
    assert_eq!(at, end + SignedDuration::from_secs(1));
    // `expires_in: 0` is not an unknown lifetime, because the token is known.
    let times = renew(&mut observed, &spec, lasting(token(None), 0, None), at);
    assert_eq!((times.expires_at, times.warning), (end, None));
    assert_eq!(times.renew_at, at + SignedDuration::from_secs(1));
    let next = TokenResponse { access_token: "another".into(), ..lasting(token(None), 60, None) };
    assert_eq!(renew(&mut observed, &spec, next, after(62)).expires_at, after(122));
}

/// ServiceNow extends a token instead of issuing another one.
#[test]
fn a_token_that_the_server_extends_does_not_cause_a_request_each_second() {
    let (mut observed, spec) = observed(&json!({"grantType": "client_credentials"}), &CLIENT, None);
    let (mut at, mut requests) = (now(), 0);
    while at < after(6_000) {
        requests += 1;
        at = renew(&mut observed, &spec, lasting(token(None), 600, None), at).renew_at;
    }
    assert!(requests <= 24, "{requests} requests in ten lifetimes");
}

#[test]
fn the_same_token_without_a_lifetime_stays_in_use() {
    for (spec, lifetime) in [
        (json!({"grantType": "client_credentials"}), 300),
        (json!({"grantType": "client_credentials", "tokenLife": "10m"}), 600),
    ] {
        let (mut observed, spec) = observed(&spec, &CLIENT, None);
        for round in 0..3 {
            let times = renew(&mut observed, &spec, lasting(token(None), 0, None), after(round * 200));
            assert_eq!(times.expires_at, after(round * 200 + lifetime));
        }
    }
}

/// Shape A44: the session at the server ends after 60 s, and with it every token of it.
#[test]
fn at_the_end_of_a_session_the_fallback_is_used_instead_of_ever_more_refreshes() {
    let cases = [
        ("a fallback", fallback(), "password"),
        ("the grant itself", json!({"grantType": "password", "renewal": {"strategy": "refresh_token"}}), "password"),
        ("neither", json!({}), ""),
    ];
    for (case, fields, grant) in cases {
        for shows_refresh_token in [true, false] {
            let (mut observed, spec) = observed(&fields, &ALL, Some("stored"));
            let (mut at, mut requests) = (now(), 0);
            while at < after(60) {
                observed.now = at;
                let used = next(&Attempt::new(&observed, &spec, None).expect("an attempt")).0;
                if used != "refresh_token" && requests > 0 {
                    assert_eq!(used, grant, "{case}");
                    break;
                }
                requests += 1;
                assert!(requests < 50, "{case}: too many requests, the last at {at}");
                let left = after(60).duration_since(at).as_secs();
                let response =
                    TokenResponse { access_token: format!("access-{requests}").into(), ..token(Some("rotated")) };
                let response = lasting(response, left.min(30), shows_refresh_token.then_some(left));
                at = renew(&mut observed, &spec, response, at).renew_at;
            }
            assert!((2..=7).contains(&requests), "{case}: {requests} requests");
            assert_eq!(at < after(60), !grant.is_empty(), "{case}: at {at}");
        }
    }
}

#[test]
fn renewals_in_quick_succession_are_not_the_end_of_a_session() {
    let (mut observed, spec) = observed(&fallback(), &ALL, Some("stored"));
    for (number, at) in [0, 1, 3, 4, 7].into_iter().enumerate() {
        let response = TokenResponse { access_token: format!("access-{number}").into(), ..token(Some("rotated")) };
        let times = renew(&mut observed, &spec, lasting(response, 600, Some(1_800)), after(at));
        assert!(!times.session_ends && times.renew_at < after(at + 600), "after {at} s");
    }
}

#[test]
fn a_token_is_renewed_before_its_refresh_token_expires() {
    let response = || lasting(token(Some("rotated")), 3600, Some(900));
    let (mut refreshing, spec) = observed(&json!({}), &CLIENT, Some("stored"));
    let times = renew(&mut refreshing, &spec, response(), now());
    assert_eq!(times.refresh_token_expires_at, Some(after(900)));
    assert_eq!((times.expires_at, times.renew_at), (after(3600), after(600)));
    // A response that repeats neither the refresh token nor its lifetime changes nothing about it.
    let times = renew(&mut refreshing, &spec, lasting(token(None), 3600, None), after(100));
    assert_eq!(times.refresh_token_expires_at, Some(after(900)));
    // The grant can be run again at any time.
    let fields = json!({"grantType": "password", "renewal": {"strategy": "refresh_token"}});
    let (mut with_grant, spec) = observed(&fields, &ALL, None);
    assert!(renew(&mut with_grant, &spec, response(), now()).renew_at > after(900));
}
