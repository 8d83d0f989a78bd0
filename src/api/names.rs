//! Names shared by clients and the operator: the API group, annotations, the finalizer, the field manager.

/// The API group, also the prefix of every annotation.
pub const GROUP: &str = "oauth.evolutionx.io";
/// Annotation on an integration: a new value requests an immediate renewal.
pub const RENEW_REQUESTED_AT: &str = "oauth.evolutionx.io/renew-requested-at";
/// Annotation on a credentials Secret: when the credentials expire at the provider, as a time (RFC 3339) or a date.
pub const CREDENTIALS_EXPIRE_AT: &str = "oauth.evolutionx.io/credentials-expire-at";
/// Annotation on a workload: the names of the target Secrets after whose changes it is restarted, comma-separated.
pub const RESTART_ON_RENEWAL: &str = "oauth.evolutionx.io/restart-on-renewal";
/// Annotation on a workload: the minimum interval between two restarts, such as `30m`.
pub const RESTART_AT_MOST_EVERY: &str = "oauth.evolutionx.io/restart-at-most-every";
/// Annotation on a workload, written by the operator: the hashes of its Secrets at the last restart.
pub const RESTARTED_FOR: &str = "oauth.evolutionx.io/restarted-for";
/// Annotation on a workload, written by the operator: when that was.
pub const RESTARTED_AT: &str = "oauth.evolutionx.io/restarted-at";
/// Annotation in a pod template, written by the operator: the hash of what the pods were restarted for.
pub const TOKEN_HASH: &str = "oauth.evolutionx.io/token-hash";
/// Finalizer of an integration whose tokens are revoked when it is deleted.
pub const FINALIZER: &str = "oauth.evolutionx.io/revocation";
/// The field manager of every server-side apply, and the value of the `managed-by` label.
pub const MANAGER: &str = "oauth-operator";
