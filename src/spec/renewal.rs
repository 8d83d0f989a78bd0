//! The parsed `spec.renewal`.

use crate::oauth::request::TokenRequest;

/// How a token is obtained where the refresh token was rejected, or there is none.
#[derive(Clone, Debug)]
pub enum Renewal {
    /// Not at all: there is only this request.
    Grant,
    /// By `spec.renewal.fallback`. People rely on the refresh token, so that its use is reported.
    WithFallback(TokenRequest),
    /// `spec.renewal.strategy: refresh_token`: by the grant itself. That a refresh token expires belongs to this strategy.
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
