//! Names shared by clients and the operator: the API group, annotations, the finalizer, the field manager.

/// The API group, also the prefix of every annotation.
pub const GROUP: &str = "oauth.evolutionx.io";
/// Annotation on an integration: a new value requests an immediate renewal.
pub const RENEW_REQUESTED_AT: &str = "oauth.evolutionx.io/renew-requested-at";
/// Annotation on a credentials Secret: when the credentials expire at the provider, as a time (RFC 3339) or a date.
pub const CREDENTIALS_EXPIRE_AT: &str = "oauth.evolutionx.io/credentials-expire-at";
/// Finalizer of an integration whose tokens are revoked when it is deleted.
pub const FINALIZER: &str = "oauth.evolutionx.io/revocation";
/// The field manager of every server-side apply, and the value of the `managed-by` label.
pub const MANAGER: &str = "oauth-operator";
