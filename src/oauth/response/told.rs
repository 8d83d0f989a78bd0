//! What an endpoint tells of an error, and what to advise.

use jiff::{SignedDuration, Timestamp};
use jsonata_core::value::JValue;

use super::super::body::Member;
use super::super::redact::shown;
use super::super::{Ask, Grant};
use super::text;
use crate::api::{ClientAuthenticationMethod as Method, Format};

/// The errors of RFC 6749, section 5.2. They tell nothing of what was sent, not even where a client is called `client`.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// The OAuth error fields of a body (RFC 6749, section 5.2), made safe to be shown.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) error: Option<String>,
    description: Option<String>,
}

impl Told {
    pub(super) fn of(body: Option<&JValue>, sent: &[Member]) -> Self {
        let field = |name| body.and_then(|body| text(body, name));
        let error = field("error").map(|word| if ERRORS.contains(&word.as_str()) { word } else { shown(&word, sent) });
        Self { error, description: field("error_description").map(|text| shown(&text, sent)) }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.error, &self.description].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

/// The commonest mistake is the wrong body format, and endpoints do not say so in words that help.
pub(super) fn hint(status: u16, told: &Told, ask: &Ask) -> &'static str {
    match (ask.format, status, told.error.as_deref()) {
        (Format::Json, 415, _) | (Format::Json, _, Some("invalid_request" | "unsupported_grant_type")) => {
            "; the endpoint may not take JSON: try spec.request.format: form"
        }
        (Format::Form, 415, _) | (Format::Form, _, Some("unsupported_grant_type")) => {
            "; the endpoint may not take forms: try spec.request.format: json"
        }
        (_, _, Some("invalid_grant")) if ask.grant.is_refresh() => {
            "; the refresh token is not valid (any more): put a new one into the credentials Secret"
        }
        (_, _, Some("invalid_client" | "unauthorized_client")) | (_, 401, _) => match (&ask.grant, ask.client.method) {
            (Grant::UserPassword, _) => "; check user name and password in the credentials Secret",
            (_, Method::ClientSecretJwt | Method::ClientSecretBasic) => {
                "; check client id and client secret in the credentials Secret, and spec.clientAuthentication.method"
            }
            (_, Method::PrivateKeyJwt) => {
                "; check client id, private key, and spec.clientAuthentication.assertion (keyId, audience, algorithm)"
            }
            (_, Method::TlsClientAuth) => "; check client id and certificate, and that the server knows them",
            (_, Method::ServiceAccountToken) => {
                "; check client id and spec.serviceAccountToken.audience, and that the server trusts the cluster's issuer"
            }
            (_, Method::None) => "; the client may have to show who it is: set spec.clientAuthentication.method",
            (_, Method::ClientSecretPost) => "; check client id and client secret in the credentials Secret",
        },
        (_, 404 | 405, _) => "; check spec.tokenEndpoint",
        _ => "",
    }
}

/// What is signed with a time is refused by a server whose clock is another one, in words that seldom say so.
pub(super) fn clocks(date: Timestamp, now: Timestamp, ask: &Ask) -> String {
    const TOLERATED: SignedDuration = SignedDuration::from_secs(30);
    let ahead = date.duration_since(now);
    if !ask.signs() || ahead.abs() < TOLERATED {
        return String::new();
    }
    let direction = if ahead.is_positive() { "ahead of" } else { "behind" };
    format!("; the endpoint's clock is {} s {direction} this machine's: set the clocks", ahead.abs().as_secs())
}
