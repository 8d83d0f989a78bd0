//! The endpoints to which the owner of credentials allows them to be sent: the protection against a confused deputy.
//! Pure.
//!
//! A user who may write an integration is not necessarily allowed to read the Secret that it names. With the
//! annotation, the owner of the Secret defines the endpoints to which the operator may send it.

#![deny(clippy::disallowed_methods)]

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests;

use url::Url;

/// Annotation on a credentials Secret or a ServiceAccount: URLs separated by spaces or commas.
pub const ALLOWED_ENDPOINTS: &str = "oauth.evolutionx.io/allowed-endpoints";
/// A second annotation on the same object: `"true"` allows integrations to use a custom CA bundle. Without it they
/// must not, because a custom CA can impersonate the endpoint.
pub const ALLOW_CA_BUNDLE: &str = "oauth.evolutionx.io/allow-ca-bundle";

/// Headers that a spec may add if a path is pinned: content negotiation, caching, API versions, and keys and
/// identifiers of a client.
const PLAIN_HEADERS: [&str; 14] = [
    "accept",
    "accept-charset",
    "accept-language",
    "api-version",
    "cache-control",
    "ocp-apim-subscription-key",
    "pragma",
    "prefer",
    "user-agent",
    "x-api-key",
    "x-api-version",
    "x-correlation-id",
    "x-github-api-version",
    "x-request-id",
];

/// Headers with credentials that a spec may add if a path is pinned.
const SECRET_HEADERS: [&str; 3] = ["authorization", "ocp-apim-subscription-key", "x-api-key"];

/// How much of an entry of an annotation is shown, in characters.
const MAX_SHOWN: usize = 100;

/// An entry, for a message. What is before an `@` may be a password.
fn shown(entry: &str) -> String {
    if entry.contains('@') {
        return "an entry with a username".to_owned();
    }
    format!("{:?}", entry.chars().take(MAX_SHOWN).collect::<String>())
}

/// An annotation cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the annotation {ALLOWED_ENDPOINTS} of {owner} contains {entry}, which is not an absolute http or https URL: write https://host/path, or https://host for the whole host"
)]
pub struct InvalidAnnotation {
    owner: String,
    entry: String,
}

/// The endpoints to which the credentials of one object may be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedEndpoints {
    /// The pinned object, for messages.
    pub of: String,
    /// Its name if it is a Secret.
    pub secret: Option<String>,
    /// The endpoints, and all below them.
    pub endpoints: Vec<Url>,
    /// Whether the spec may use a custom CA bundle.
    pub allow_ca_bundle: bool,
}

impl AllowedEndpoints {
    /// Parses an annotation.
    ///
    /// # Errors
    ///
    /// A message that names the object with the invalid annotation.
    pub fn parse(of: &str, secret: Option<&str>, text: &str, allow_ca_bundle: bool) -> Result<Self, InvalidAnnotation> {
        let endpoints = text
            .split([' ', ',', '\n', '\t'])
            .filter(|part| !part.is_empty())
            .map(|part| match Url::parse(part) {
                Ok(url)
                    if matches!(url.scheme(), "https" | "http")
                        && url.host().is_some()
                        && url.username().is_empty()
                        && url.password().is_none() =>
                {
                    Ok(url)
                }
                _ => Err(InvalidAnnotation { owner: of.to_owned(), entry: shown(part) }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { of: of.to_owned(), secret: secret.map(ToOwned::to_owned), endpoints, allow_ca_bundle })
    }

    /// Whether an endpoint is one of the allowed ones, or below one: same scheme, host and port, a path that begins
    /// with the whole pinned path, and the same query if one is pinned.
    #[must_use]
    pub fn admits(&self, url: &Url) -> bool {
        self.admitting(url).next().is_some()
    }

    /// Whether the spec may add a header. If a path is pinned, only headers are allowed that cannot change the path
    /// for any gateway: other headers may have a meaning for some gateway.
    #[must_use]
    pub fn admits_header(&self, url: &Url, name: &str) -> bool {
        let is_plain = PLAIN_HEADERS.iter().any(|plain| plain.eq_ignore_ascii_case(name));
        is_plain || self.admitting(url).any(|pinned| path(pinned).is_empty())
    }

    /// Whether the spec may add a header whose value is a credential. If a path is pinned, only those that are known to
    /// carry one.
    #[must_use]
    pub fn admits_secret_header(&self, url: &Url, name: &str) -> bool {
        let is_known = SECRET_HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name));
        is_known || self.admitting(url).any(|pinned| path(pinned).is_empty())
    }

    /// Whether every pin that admits this endpoint contains a query.
    #[must_use]
    pub fn pins_query(&self, url: &Url) -> bool {
        self.admitting(url).all(|pinned| pinned.query().is_some())
    }

    fn admitting(&self, url: &Url) -> impl Iterator<Item = &Url> {
        self.endpoints.iter().filter(|pinned| {
            let below = url.path().strip_prefix(path(pinned));
            pinned.origin() == url.origin()
                && pinned.query().is_none_or(|query| url.query() == Some(query))
                && below.is_some_and(|rest| path(pinned).is_empty() || rest.is_empty() || stays_below(rest))
        })
    }

    /// The endpoints, for a message.
    #[must_use]
    pub fn list(&self) -> String {
        self.endpoints.iter().map(Url::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The path of a pinned endpoint, without the trailing slash; empty if the whole origin is pinned.
fn path(pinned: &Url) -> &str {
    pinned.path().trim_end_matches('/')
}

/// Whether the rest of a path stays below the pinned part for every server and gateway, no matter what they decode
/// and how often: it must contain no encoded characters. An endpoint with other characters in its path must be pinned
/// with its whole path.
fn stays_below(rest: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@:".contains(&byte);
    // Servers that drop the characters after dots treat a segment that begins with dots as the parent directory.
    rest.starts_with('/') && rest.split('/').all(|segment| !segment.starts_with('.') && segment.bytes().all(is_plain))
}
