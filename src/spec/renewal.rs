//! The parsed `spec.renewal`.

use crate::oauth::request::TokenRequest;

/// How a token is obtained if the refresh token was rejected, or if there is none.
#[derive(Clone, Debug)]
pub enum Renewal {
    /// It is not obtained: there is no other request.
    Grant,
    /// With `spec.renewal.fallback`. Its use is reported, because users rely on the refresh token.
    WithFallback(TokenRequest),
    /// `spec.renewal.strategy: refresh_token`: with the grant itself. An expired refresh token is normal with this
    /// strategy.
    RefreshFirst(TokenRequest),
}

impl Renewal {
    /// The request to send instead.
    #[must_use]
    pub const fn fallback(&self) -> Option<&TokenRequest> {
        match self {
            Self::Grant => None,
            Self::WithFallback(request) | Self::RefreshFirst(request) => Some(request),
        }
    }

    /// Whether the refresh token comes from the grant, and not from the credentials.
    #[must_use]
    pub const fn is_refresh_first(&self) -> bool {
        matches!(self, Self::RefreshFirst(_))
    }
}
