//! A token to revoke.

use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::oauth::credentials::Credentials;
use crate::oauth::http::custom_ca::CustomCa;
use crate::oauth::request::TokenRequest;
use crate::oauth::revocation::RevocationRequest;

/// The memory use of an entry apart from its texts, in bytes.
const OVERHEAD: usize = 1 << 10;

/// A token, and the request that revokes it.
#[derive(Clone, Debug)]
pub struct RevocationJob {
    /// The namespace of the integration.
    pub namespace: String,
    /// The name of the integration, for the log.
    pub name: String,
    /// The uid of the integration.
    pub uid: String,
    /// The token request: the client authenticates in the same way.
    pub token_request: TokenRequest,
    /// The credentials of the client.
    pub credentials: Arc<Credentials>,
    /// The token.
    pub revocation: RevocationRequest,
}

impl RevocationJob {
    /// Approximate memory use, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let others = self.credentials.others.values();
        let values = self.credentials.iter().map(|(_, value)| value).chain(others);
        let values = values.map(|value| value.expose_secret().len()).sum::<usize>();
        let bundle = self.credentials.ca_bundle.as_ref().map_or(0, CustomCa::size);
        // The debug text is about as long as the value, except for secrets, which are counted above.
        let request = format!("{:?}", self.token_request).len();
        values + bundle + request + self.revocation.token.expose_secret().len() + OVERHEAD
    }
}
