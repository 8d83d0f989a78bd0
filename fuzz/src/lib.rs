//! The checks of the fuzz targets: besides the absence of panics, they check properties of each piece of code that
//! reads untrusted input. Inputs are text, so that the corpora can be read and written by hand; only those of `key_files` are binary.

mod api_responses;
mod durations;
mod egress_policy;
mod expression;
mod jwt_exp;
mod key_files;
mod keys;
mod metadata;
mod redaction;
mod response;
mod spec_to_request;

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::oauth::body::Parameter;
use oauth_operator::spec::validated::ValidatedSpec;
use serde_json::{Value, json};

pub use api_responses::api_responses;
pub use durations::durations;
pub use egress_policy::egress_policy;
pub use expression::expression;
pub use jwt_exp::jwt_exp;
pub use key_files::key_files;
pub use keys::keys;
pub use metadata::metadata;
pub use redaction::redaction;
pub use response::response;
pub use spec_to_request::spec_to_request;

/// The secret that is sent; it must not appear in any output.
const SECRET: &str = "Kanarien/Vogel+4711=";

/// The current time in all targets.
static NOW: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::from_second(1_700_000_000).expect("a timestamp"));

/// The values that were sent with the request.
fn sent() -> Vec<Parameter> {
    [("grant_type", "client_credentials"), ("client_id", "the-client"), ("client_secret", SECRET)]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .to_vec()
}

/// A valid spec.
fn validated(spec: Value) -> ValidatedSpec {
    let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
    ValidatedSpec::parse("it", &spec).expect("a valid spec")
}

/// A typical spec.
fn usual() -> Value {
    json!({
        "tokenEndpoint": "https://login.example.com/token",
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    })
}

/// A message is short enough for an event, on one line, and does not contain the secret that was sent.
fn check_message(message: &str) {
    /// The note of an event has at most 1,024 bytes; quotes of an endpoint are truncated.
    const MAX_LENGTH: usize = 1_024;
    assert!(message.len() <= MAX_LENGTH, "a message of {} bytes: {message}", message.len());
    assert!(!message.chars().any(char::is_control), "a message with control characters: {message:?}");
    let written = [
        SECRET.to_owned(),
        STANDARD_NO_PAD.encode(SECRET),
        hex::encode(SECRET),
        url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect(),
    ];
    for secret in &written {
        assert!(!message.contains(secret), "a message with a secret: {message}");
    }
}

/// The lines before the first empty line, and the rest of the input.
fn head_and_body(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    Some((std::str::from_utf8(&data[..end]).ok()?, &data[end + 2..]))
}
