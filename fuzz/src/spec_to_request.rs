//! From a spec to the request. The input: a spec in JSON.

use std::sync::LazyLock;

use oauth_operator::api::request::Format;
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::oauth::body;
use oauth_operator::oauth::body::{JsonTypes, Parameter};
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::jwt::JwtStamp;
use oauth_operator::oauth::parameters::{RequestKind, build_request};
use oauth_operator::oauth::request::{Endpoint, TokenRequest};
use oauth_operator::oauth::revocation::RevocationRequest;
use oauth_operator::oauth::signing_key::SigningKey;
use oauth_operator::spec::validated::ValidatedSpec;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{NOW, SECRET, check_message};

static CREDENTIALS: LazyLock<Credentials> = LazyLock::new(|| {
    let key = SigningKey::generate().expect("a key");
    let value = |credential: &Credential| match credential {
        Credential::PrivateKey => (*credential, key.clone()),
        other => (*other, SecretString::from(SECRET)),
    };
    let mut credentials: Credentials = Credential::ALL.iter().map(value).collect();
    credentials.service_account_token = Some(SECRET.into());
    credentials
});

/// Builds the request of a spec.
pub fn spec_to_request(data: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<OAuthIntegrationSpec>(data) else { return };
    let validated = match ValidatedSpec::parse("it", &spec) {
        Ok(validated) => validated,
        Err(problem) => {
            assert!(problem.contains("spec."), "{problem} does not name a field");
            return;
        }
    };
    let again = ValidatedSpec::parse("it", &spec).expect("the second parse succeeds too");
    assert_eq!(again.spec_hash, validated.spec_hash);
    for token_request in [Some(&validated.token_request), validated.renewal.fallback()].into_iter().flatten() {
        check_request(token_request);
    }
}

fn check_request(token_request: &TokenRequest) {
    let fresh = JwtStamp { now: *NOW, id: "0123456789abcdef".to_owned() };
    let mut credentials = CREDENTIALS.clone();
    let keys = token_request.parameters_from.values().chain(token_request.headers_from.values());
    credentials.others = keys.map(|key| (key.clone(), SECRET.into())).collect();
    let prepared = match build_request(token_request, &credentials, &RequestKind::Token, &fresh) {
        Ok(prepared) => prepared,
        Err(failure) => return check_message(&failure.message),
    };
    let members = &prepared.parameters;
    assert!(members.iter().all(|(_, value)| !value.expose_secret().is_empty()), "a member without a value");
    if let Some(authorization) = &prepared.authorization {
        assert!(authorization.header().expose_secret().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
    }
    let in_spec =
        token_request.parameters.iter().filter(|(name, _)| !token_request.parameters_from.contains_key(*name));
    for (name, value) in in_spec {
        let found: Vec<&str> = members.iter().filter(|(known, _)| known == name).map(text).collect();
        assert!(found == [value.as_str()] || (value.is_empty() && found.is_empty()), "{name} is {found:?}");
    }
    check_form(members);
    check_json(members);
    check_endpoint(token_request);
    check_revocation(token_request, &fresh);
}

/// The endpoint is an http(s) URL without secrets.
fn check_endpoint(token_request: &TokenRequest) {
    let Endpoint { url, issuer, resource, .. } = &token_request.endpoint;
    let resource = resource.as_ref().map(|resource| &resource.url);
    for url in [url, issuer, &token_request.proxy].into_iter().flatten().chain(resource) {
        assert!(matches!(url.scheme(), "https" | "http") && url.has_host(), "{url}");
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    }
}

/// RFC 7009, section 2.1: the request contains the token once, under its name, independent of the spec.
fn check_revocation(token_request: &TokenRequest, fresh: &JwtStamp) {
    let revocation = RevocationRequest { endpoint: None, token: "the-token".into(), hint: "refresh_token" };
    match build_request(token_request, &CREDENTIALS, &RequestKind::Revocation(&revocation), fresh) {
        Ok(prepared) => {
            let tokens: Vec<&str> = prepared.parameters.iter().filter(|(name, _)| name == "token").map(text).collect();
            assert_eq!(tokens, ["the-token"]);
        }
        Err(failure) => check_message(&failure.message),
    }
}

fn text((_, value): &Parameter) -> &str {
    value.expose_secret()
}

/// A server reads the intended parameters from the form.
fn check_form(members: &[Parameter]) {
    let form = body::encode(Format::Form, members, JsonTypes::default());
    let read: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
    let intended: Vec<(String, String)> =
        members.iter().map(|member| (member.0.clone(), text(member).to_owned())).collect();
    assert_eq!(read, intended);
}

/// A server reads the intended parameters from the JSON.
fn check_json(members: &[Parameter]) {
    let json = body::encode(Format::Json, members, JsonTypes::default());
    let read: serde_json::Map<String, Value> = serde_json::from_slice(&json).expect("JSON");
    for (name, value) in &read {
        let intended: Vec<&str> = members.iter().filter(|(known, _)| known == name).map(text).collect();
        match value {
            Value::String(value) => assert_eq!(intended, [value.as_str()]),
            Value::Array(values) => {
                assert!(
                    intended.len() > 1 && values.iter().map(Value::as_str).eq(intended.iter().map(|text| Some(*text)))
                )
            }
            other => panic!("{name} is {other}"),
        }
    }
    assert!(members.iter().all(|(name, _)| read.contains_key(name)), "a member is missing");
}
