//! The members of the request body, for each grant and format.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oauth_operator::oauth::body;
use oauth_operator::oauth::body::Parameter;
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::jwt::JwtStamp;
use oauth_operator::oauth::parameters::{RequestKind, build_request};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{NOW, members, request_of};

type Pair = (&'static str, &'static str);
type Pairs = Vec<Pair>;

fn credentials() -> Credentials {
    [
        (Credential::ClientId, "id"),
        (Credential::ClientSecret, "secret"),
        (Credential::Username, "ada"),
        (Credential::Password, "word"),
        (Credential::RefreshToken, "refresh"),
        (Credential::SubjectToken, "subject"),
        (Credential::ActorToken, "actor"),
    ]
    .into_iter()
    .map(|(credential, value)| (credential, SecretString::from(value)))
    .collect()
}

fn with(credential: Credential, value: Option<&str>) -> Credentials {
    let mut credentials = credentials();
    credentials.set(credential, value.map(SecretString::from));
    credentials
}

fn sent(spec: Value, credentials: &Credentials) -> Vec<Parameter> {
    let fresh = JwtStamp { now: NOW, id: "fresh".to_owned() };
    build_request(&request_of(spec), credentials, &RequestKind::Token, &fresh).expect("a request").parameters
}

fn exposed(members: &[Parameter]) -> Vec<(&str, &str)> {
    members.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect()
}

#[test]
fn each_grant_sends_its_parameters_in_order() {
    let resource = json!({"key": "audience", "value": "https://erp"});
    let client = [("client_id", "id"), ("client_secret", "secret")];
    let cases: [(&str, Value, Pairs); 6] = [
        (
            "client credentials send grant type and client",
            json!({}),
            [&[("grant_type", "client_credentials")][..], &client].concat(),
        ),
        (
            "resource and scope come after the client",
            json!({"resource": resource, "scope": "a b"}),
            [&[("grant_type", "client_credentials")][..], &client, &[("audience", "https://erp"), ("scope", "a b")]]
                .concat(),
        ),
        (
            "user and password send neither grant type nor client",
            json!({"grantType": "user_password"}),
            vec![("username", "ada"), ("password", "word")],
        ),
        (
            "user and password send resource and scope if they are set",
            json!({"grantType": "user_password", "resource": resource, "scope": "a"}),
            vec![("username", "ada"), ("password", "word"), ("audience", "https://erp"), ("scope", "a")],
        ),
        (
            "a refresh sends the client and the refresh token",
            json!({"grantType": "refresh_token"}),
            [&[("grant_type", "refresh_token")][..], &client, &[("refresh_token", "refresh")]].concat(),
        ),
        (
            "a refresh sends resource and scope if they are set",
            json!({"grantType": "refresh_token", "resource": resource, "scope": "a"}),
            [
                &[("grant_type", "refresh_token")][..],
                &client,
                &[("refresh_token", "refresh"), ("audience", "https://erp"), ("scope", "a")],
            ]
            .concat(),
        ),
    ];
    for (case, spec, expected) in cases {
        assert_eq!(exposed(&sent(spec, &credentials())), expected, "{case}");
    }
}

#[test]
fn parameters_are_added_overridden_and_removed() {
    let cases: &[(&str, Value, &[&str], &[Pair])] = &[
        ("a new parameter is added", json!({"tenant": "evox"}), &[], &[("tenant", "evox")]),
        ("a parameter of the grant is overridden", json!({"grant_type": "custom"}), &[], &[("grant_type", "custom")]),
        ("an empty value removes a parameter of the grant", json!({"scope": ""}), &["scope"], &[]),
        ("an empty value removes the resource", json!({"resource": ""}), &["resource"], &[]),
        ("an empty value of an unknown parameter has no effect", json!({"tenant": ""}), &["tenant"], &[]),
    ];
    for (case, parameters, absent, present) in cases {
        let resource = json!({"key": "resource", "value": "https://erp"});
        let spec = json!({"scope": "a", "resource": resource, "request": {"parameters": parameters}});
        let members = sent(spec, &credentials());
        let members = exposed(&members);
        assert!(members.iter().all(|(name, _)| !absent.contains(name)), "{case}: {members:?}");
        for (name, value) in *present {
            let found: Vec<_> = members.iter().filter(|(known, _)| known == name).collect();
            assert_eq!(found, [&(*name, *value)], "{case}");
        }
    }
}

#[test]
fn a_parameter_without_a_value_is_not_sent() {
    let refresh = || json!({"grantType": "refresh_token"});
    let public = sent(refresh(), &with(Credential::ClientSecret, None));
    assert!(!exposed(&public).iter().any(|(name, _)| *name == "client_secret"), "a public client has no secret");
    let empty = sent(refresh(), &with(Credential::ClientSecret, Some("")));
    assert_eq!(exposed(&empty), exposed(&public));
}

#[test]
fn basic_is_form_encoded_or_sent_as_it_is() {
    let header = |encoding: Value| {
        let mut authentication = json!({"method": "client_secret_basic"});
        authentication["basicEncoding"] = encoding;
        let fresh = JwtStamp { now: NOW, id: "fresh".to_owned() };
        let request = request_of(json!({"clientAuthentication": authentication}));
        let credentials = with(Credential::ClientSecret, Some("a+b/c%d ü"));
        let parts = build_request(&request, &credentials, &RequestKind::Token, &fresh).expect("a request");
        let header = parts.authorization.expect("a header").header();
        let encoded = header.expose_secret().strip_prefix("Basic ").expect("Basic").to_owned();
        String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("text")
    };
    assert_eq!(header(Value::Null), "id:a%2Bb%2Fc%25d+%C3%BC", "RFC 6749, section 2.3.1");
    assert_eq!(header(json!("form")), header(Value::Null));
    assert_eq!(header(json!("raw")), "id:a+b/c%d ü", "RFC 7617");
}

#[test]
fn both_formats_preserve_every_character() {
    let difficult = "a&b=c d+e/\"ü\n\u{1f511}";
    let sent = members(&[("password", difficult)]);
    let json: Value =
        serde_json::from_slice(&body::encode(request_of(json!({})).format, &sent, body::JsonTypes::default()))
            .expect("JSON");
    assert_eq!(json, json!({"password": difficult}));
    let form =
        body::encode(request_of(json!({"request": {"format": "form"}})).format, &sent, body::JsonTypes::default());
    let read: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
    assert_eq!(read, [("password".to_owned(), difficult.to_owned())]);
}

#[test]
fn debug_output_contains_no_secrets() {
    let sent = sent(json!({}), &credentials());
    let text = format!("{sent:?} {:?}", credentials());
    for secret in ["\"secret\"", "\"id\"", "\"ada\"", "\"word\"", "\"refresh\""] {
        assert!(!text.contains(secret), "{text}");
    }
}
