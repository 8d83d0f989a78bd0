//! From a spec to the request. The input: a spec in JSON.

use std::sync::LazyLock;

use oauth_operator::api::{Format, OAuthIntegrationSpec};
use oauth_operator::oauth::body::{self, Member};
use oauth_operator::oauth::jwt::Fresh;
use oauth_operator::oauth::key::Key;
use oauth_operator::oauth::prepare::{Purpose, prepare};
use oauth_operator::oauth::{Ask, Credential, Credentials, Revocation};
use oauth_operator::validated::Validated;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{NOW, SECRET, check_message};

static CREDENTIALS: LazyLock<Credentials> = LazyLock::new(|| {
    let key = Key::generate().expect("a key");
    let value = |credential: &Credential| match credential {
        Credential::PrivateKey => (*credential, key.clone()),
        other => (*other, SecretString::from(SECRET)),
    };
    let mut credentials: Credentials = Credential::ALL.iter().map(value).collect();
    credentials.service_account_token = Some(SECRET.into());
    credentials
});

/// Makes the request of a spec.
pub fn spec_to_request(data: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<OAuthIntegrationSpec>(data) else { return };
    let validated = match Validated::parse("it", &spec) {
        Ok(validated) => validated,
        Err(problem) => {
            assert!(problem.contains("spec."), "{problem} names no field");
            return;
        }
    };
    let again = Validated::parse("it", &spec).expect("what can be parsed once can be parsed twice");
    assert_eq!(again.spec_hash, validated.spec_hash);
    for ask in [Some(&validated.ask), validated.fallback.as_ref()].into_iter().flatten() {
        check_request(ask);
    }
}

fn check_request(ask: &Ask) {
    let fresh = Fresh { now: *NOW, id: "0123456789abcdef".to_owned() };
    let prepared = match prepare(ask, &CREDENTIALS, &Purpose::Token, &fresh) {
        Ok(prepared) => prepared,
        Err(failure) => return check_message(&failure.message),
    };
    let members = &prepared.members;
    assert!(members.iter().all(|(_, value)| !value.expose_secret().is_empty()), "a member without a value");
    if let Some(authorization) = &prepared.authorization {
        assert!(authorization.expose_secret().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
    }
    for (name, value) in &ask.parameters {
        let found: Vec<&str> = members.iter().filter(|(known, _)| known == name).map(text).collect();
        assert!(found == [value.as_str()] || (value.is_empty() && found.is_empty()), "{name} is {found:?}");
    }
    check_form(members);
    check_json(members);
    check_endpoint(ask);
    check_revocation(ask, &fresh);
}

/// Where it goes is a URL of the web, and holds nothing secret.
fn check_endpoint(ask: &Ask) {
    for url in [&ask.endpoint.url, &ask.endpoint.issuer, &ask.proxy].into_iter().flatten() {
        assert!(matches!(url.scheme(), "https" | "http") && url.has_host(), "{url}");
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    }
}

/// RFC 7009, section 2.1: the token is there once, under its name, whatever else the spec says.
fn check_revocation(ask: &Ask, fresh: &Fresh) {
    let revocation = Revocation { endpoint: None, token: "the-token".into(), hint: "refresh_token" };
    match prepare(ask, &CREDENTIALS, &Purpose::Revocation(&revocation), fresh) {
        Ok(prepared) => {
            let tokens: Vec<&str> = prepared.members.iter().filter(|(name, _)| name == "token").map(text).collect();
            assert_eq!(tokens, ["the-token"]);
        }
        Err(failure) => check_message(&failure.message),
    }
}

fn text((_, value): &Member) -> &str {
    value.expose_secret()
}

/// What a server reads of a form is what was meant.
fn check_form(members: &[Member]) {
    let form = body::encode(Format::Form, members, &[]);
    let read: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    let meant: Vec<(String, String)> =
        members.iter().map(|member| (member.0.clone(), text(member).to_owned())).collect();
    assert_eq!(read, meant);
}

/// What a server reads of JSON is what was meant.
fn check_json(members: &[Member]) {
    let json = body::encode(Format::Json, members, &[]);
    let read: serde_json::Map<String, Value> = serde_json::from_str(&json).expect("JSON");
    for (name, value) in &read {
        let meant: Vec<&str> = members.iter().filter(|(known, _)| known == name).map(text).collect();
        match value {
            Value::String(value) => assert_eq!(meant, [value.as_str()]),
            Value::Array(values) => {
                assert!(meant.len() > 1 && values.iter().map(Value::as_str).eq(meant.iter().map(|text| Some(*text))))
            }
            other => panic!("{name} is {other}"),
        }
    }
    assert!(members.iter().all(|(name, _)| read.contains_key(name)), "a member is missing");
}
