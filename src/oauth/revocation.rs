//! The revocation request, RFC 7009.

use secrecy::SecretString;
use url::Url;

/// A request to revoke a token (RFC 7009).
#[derive(Clone, Debug)]
pub struct RevocationRequest {
    /// The revocation endpoint; `None`: the one in the issuer's metadata.
    pub endpoint: Option<Url>,
    /// The token to revoke.
    pub token: SecretString,
    /// `token_type_hint` (RFC 7009, section 2.1): `access_token` or `refresh_token`.
    pub hint: &'static str,
}
