//! Where credentials may be sent, as their owner says: the pin against a confused deputy. Pure.
//!
//! Whoever may write an integration need not be allowed to read the Secret that it names. With the annotation, the owner of
//! the Secret says to which endpoints the operator may send it.

#![deny(clippy::disallowed_methods)]

use url::Url;

/// Annotation on a credentials Secret or a ServiceAccount: URLs with blanks or commas between them.
pub const ALLOWED_ENDPOINTS: &str = "oauth.evolutionx.io/allowed-endpoints";
/// Annotation beside it: `"true"` says that integrations may name the authorities to trust. Without it they may not, since with an
/// authority of one's own one can stand in the place of the endpoint.
pub const ALLOW_CA_BUNDLE: &str = "oauth.evolutionx.io/allow-ca-bundle";

/// The endpoints to which something may be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// What is pinned, for messages.
    pub of: String,
    /// Its name, where it is a Secret.
    pub secret: Option<String>,
    /// The endpoints, and all below them.
    pub endpoints: Vec<Url>,
    /// Whether the spec may name the authorities to trust.
    pub allow_ca_bundle: bool,
}

impl Pin {
    /// Reads an annotation.
    ///
    /// # Errors
    ///
    /// A sentence that names the text which is not a URL.
    pub fn parse(of: &str, secret: Option<&str>, text: &str, allow_ca_bundle: bool) -> Result<Self, String> {
        let endpoints = text
            .split([' ', ',', '\n', '\t'])
            .filter(|part| !part.is_empty())
            .map(|part| match Url::parse(part) {
                Ok(url) if matches!(url.scheme(), "https" | "http") && url.host().is_some() && url.username().is_empty() => {
                    Ok(url)
                }
                _ => Err(format!(
                    "the annotation {ALLOWED_ENDPOINTS} of {of} holds what is not an absolute http or https URL: correct it"
                )),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { of: of.to_owned(), secret: secret.map(ToOwned::to_owned), endpoints, allow_ca_bundle })
    }

    /// Whether an endpoint is one of those, or below one: same scheme, host and port, and a path that begins with the whole
    /// path given.
    #[must_use]
    pub fn admits(&self, url: &Url) -> bool {
        self.endpoints.iter().any(|pinned| {
            let path = pinned.path().trim_end_matches('/');
            let below = url.path().strip_prefix(path);
            // Some servers read these as a way up again.
            let leads_out = |rest: &str| {
                let rest = rest.to_ascii_lowercase();
                !path.is_empty() && ["%2f", "%5c", "%25", ";"].iter().any(|sign| rest.contains(sign))
            };
            pinned.origin() == url.origin()
                && below.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && !leads_out(rest)))
        })
    }

    /// The endpoints, for a message.
    #[must_use]
    pub fn list(&self) -> String {
        self.endpoints.iter().map(Url::as_str).collect::<Vec<_>>().join(", ")
    }
}
