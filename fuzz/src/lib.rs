//! What the fuzz targets check: not only that nothing panics, but the promises made of each piece of code that reads what strangers
//! write. Inputs are texts, so that the corpora can be read and written by hand.

mod durations;
mod endpoint_gate;
mod expression;
mod jwt_exp;
mod keys;
mod metadata;
mod redaction;
mod response;
mod spec_to_request;

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use oauth_operator::api::OAuthIntegrationSpec;
use oauth_operator::oauth::body::Member;
use oauth_operator::validated::Validated;
use serde_json::{Value, json};

pub use durations::durations;
pub use endpoint_gate::endpoint_gate;
pub use expression::expression;
pub use jwt_exp::jwt_exp;
pub use keys::keys;
pub use metadata::metadata;
pub use redaction::redaction;
pub use response::response;
pub use spec_to_request::spec_to_request;

/// What is sent; it must come back nowhere.
const SECRET: &str = "Kanarien/Vogel+4711=";

/// The time of all targets.
static NOW: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::from_second(1_700_000_000).expect("a moment"));

/// What was sent with the request that is answered.
fn sent() -> Vec<Member> {
    [("grant_type", "client_credentials"), ("client_id", "the-client"), ("client_secret", SECRET)]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .to_vec()
}

/// A spec that can work.
fn validated(spec: Value) -> Validated {
    let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
    Validated::parse("it", &spec).expect("a spec that can work")
}

/// The spec that most have.
fn usual() -> Value {
    json!({
        "tokenEndpoint": "https://login.example.com/token",
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    })
}

/// A message is for people: short enough for an event, on one line, and holds nothing that was sent.
fn check_message(message: &str) {
    /// An event's note has at most 1,024 bytes; what is quoted of an endpoint is cut.
    const LONGEST: usize = 1_024;
    assert!(message.len() <= LONGEST, "a message of {} bytes: {message}", message.len());
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

/// The lines before the first empty one, and what follows it.
fn head_and_body(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    Some((std::str::from_utf8(&data[..end]).ok()?, &data[end + 2..]))
}
