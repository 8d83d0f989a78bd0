//! Guarantee: a Secret that is taken over keeps its tokens, which are renewed when they are due.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use oauth_operator::acquisition::adopted;
use oauth_operator::api::reason::Reason;
use oauth_operator::api::spec::{OAuthIntegration, OAuthIntegrationSpec};
use oauth_operator::decision::observed::{CredentialsState, Observed, StoredTokens, TargetState};
use oauth_operator::fingerprint;
use oauth_operator::oauth::credentials::Credential;
use oauth_operator::spec::validated::ValidatedSpec;
use oauth_operator::target::adoption::Adoptable;
use oauth_operator::target::content::TargetContent;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().expect("a time")
}

fn minutes(count: i64) -> Timestamp {
    now() + SignedDuration::from_mins(count)
}

fn jwt(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// An integration whose target is handed over with these values, and the content that is written.
fn taken_over(changes: &Value, values: &Value) -> (Observed, TargetContent) {
    let mut spec = json!({
        "tokenEndpoint": "https://login.example.com/token", "grantType": "refresh_token",
        "credentials": {"secretName": "credentials"}, "target": {"keys": {"expiresAt": "expires_at"}},
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
    let validated = Arc::new(ValidatedSpec::parse("it", &spec).expect("valid"));
    let data: serde_json::Map<String, Value> = values
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, text)| {
            let text = base64::engine::general_purpose::STANDARD.encode(text.as_str().expect("a text"));
            (key.clone(), json!(text))
        })
        .collect();
    let secret = serde_json::from_value(json!({"data": data, "type": validated.template.type_})).expect("a Secret");
    let adoptable = Adoptable::of(&secret, "uid", &validated.template).expect("nothing prevents it");
    let credentials = [
        (Credential::ClientId, "client"),
        (Credential::ClientSecret, "secret"),
        (Credential::RefreshToken, "initial-token"),
    ];
    let credentials = credentials.into_iter().map(|(credential, value)| (credential, value.into())).collect();
    let observed = Observed {
        credentials: CredentialsState::Resolved(Arc::new(credentials), "1".to_owned()),
        stored: StoredTokens { refresh_token: adoptable.tokens.refresh_token.clone(), ..StoredTokens::default() },
        target: TargetState::Adoptable(Arc::new(adoptable.clone())),
        target_was_read: true,
        ..Observed::new(&OAuthIntegration::new("it", spec), Ok(Arc::clone(&validated)), now())
    };
    let content = adopted::content(&observed, &validated, &adoptable.tokens).expect("the credentials are known");
    (observed, content)
}

#[test]
fn a_token_whose_expiry_is_known_is_kept() {
    let in_an_hour = json!({"exp": minutes(60).as_second()});
    let by_key = json!({"access_token": "opaque", "expires_at": "2026-11-27T14:00:00+01:00"});
    let by_jwt = json!({"access_token": jwt(&in_an_hour)});
    let by_both = json!({"access_token": jwt(&in_an_hour), "expires_at": "2026-11-27T15:00:00Z"});
    for values in [by_key, by_jwt, by_both] {
        let (_, content) = taken_over(&json!({}), &values);
        let times = content.times;
        assert_eq!((times.issued_at, times.expires_at, times.warning), (now(), minutes(60), None), "{values}");
        assert!(minutes(20) <= times.renew_at && times.renew_at <= minutes(40), "{values}: {}", times.renew_at);
    }
    // Neither is longer than the rest of the lifetime by mistake.
    for (changes, renew_at) in [(json!({"tokenLife": "8h"}), None), (json!({"renewBefore": "2h"}), Some(now()))] {
        let (_, content) = taken_over(&changes, &json!({"access_token": jwt(&in_an_hour)}));
        assert_eq!((content.times.expires_at, content.times.warning), (minutes(60), None), "{changes}");
        assert!(renew_at.is_none_or(|at| content.times.renew_at == at), "{changes}: {}", content.times.renew_at);
    }
    let (_, content) = taken_over(&json!({"tokenLife": "30m"}), &json!({"access_token": jwt(&in_an_hour)}));
    assert_eq!(content.times.expires_at, minutes(30));
}

#[test]
fn a_token_whose_expiry_is_unknown_or_past_is_renewed_at_once_and_stays_until_then() {
    let cases = [
        (json!({}), json!({"access_token": "opaque"})),
        (json!({}), json!({"access_token": "opaque", "expires_at": "1764331200"})),
        (json!({}), json!({"access_token": jwt(&json!({"exp": minutes(-1).as_second()}))})),
        (json!({}), json!({"expires_at": "2026-11-27T14:00:00Z"})),
        // A token that is bound to a key is of no use without it.
        (json!({"dpop": {}}), json!({"access_token": jwt(&json!({"exp": minutes(60).as_second()}))})),
    ];
    for (changes, values) in cases {
        let (_, content) = taken_over(&changes, &values);
        let times = content.times;
        assert!(
            times.expires_at <= now() && times.renew_at == now() && times.issued_at == times.expires_at,
            "{times:?}"
        );
        assert_eq!(times.warning, Some(Reason::TokenLifetimeUnknown));
        let kept = content.access_token.map(|token| token.expose_secret().to_owned());
        assert_eq!(kept.as_deref(), values["access_token"].as_str(), "{values}");
    }
    let bound = json!({"access_token": jwt(&json!({"exp": minutes(60).as_second()})), "dpop_key": "a key\n"});
    let (_, content) = taken_over(&json!({"dpop": {}}), &bound);
    assert_eq!(content.times.expires_at, minutes(60));
    assert_eq!(content.dpop_key.as_ref().map(ExposeSecret::expose_secret), Some("a key\n"));
}

#[test]
fn its_refresh_token_is_sent_first_and_the_initial_one_counts_as_used() {
    let (mut observed, content) =
        taken_over(&json!({}), &json!({"refresh_token": "rotated-token\n", "access_token": "a"}));
    let sent = observed.refresh_token().expect("a refresh token");
    assert_eq!(sent.expose_secret(), "rotated-token", "without the line break");
    assert!(observed.initial_refresh_token_to_send().is_none());
    let spec = observed.spec.clone().expect("valid");
    assert_eq!(content.provenance.binding, spec.binding, "bound to the endpoint of the time of adoption");
    let initial = content.provenance.refresh_token_hash.as_deref().expect("the initial token is known");
    assert!(fingerprint::matches(initial, &["initial-token"]));
    // As it is read back.
    observed.stored = StoredTokens {
        refresh_token: content.refresh_token.clone(),
        initial_refresh_token_hash: content.provenance.refresh_token_hash.clone(),
        credentials_name: content.provenance.credentials_name.clone(),
        binding: "of another endpoint".to_owned(),
        ..StoredTokens::default()
    };
    assert!(observed.refresh_token().is_none(), "neither of them is sent to another endpoint");
    assert!(observed.withholds_refresh_token());
}

#[test]
fn without_a_refresh_token_in_the_secret_the_initial_one_is_sent() {
    let (observed, content) = taken_over(&json!({}), &json!({"access_token": "a"}));
    assert_eq!(observed.refresh_token().expect("a refresh token").expose_secret(), "initial-token");
    assert!(content.refresh_token.is_none());
}
