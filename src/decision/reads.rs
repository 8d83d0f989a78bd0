//! Determines which objects must still be read before a plan can be executed. Pure.

#![deny(clippy::disallowed_methods)]

use crate::decision::observed::{CredentialsState, Observed, TargetState};
use crate::decision::outcome::Plan;

/// The objects to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any combination of objects may be missing")]
pub struct Reads {
    /// The credentials Secret, and the other inputs of a request.
    pub credentials: bool,
    /// The target Secret.
    pub target: bool,
    /// The previous target, whose tokens are carried over.
    pub previous_target: bool,
    /// The Secrets for the refresh token. After the target, whose tokens they complete.
    pub refresh_tokens: bool,
}

/// The objects that a plan needs and that have not been read; `None` if there are none. Must be called again after
/// each read, which may lead to another plan with other needs.
#[must_use]
pub fn missing_reads(observed: &Observed, plan: &Plan) -> Option<Reads> {
    let spec = observed.spec.as_ref().ok()?;
    let is_absent = matches!(observed.target, TargetState::Absent);
    let needs_target = match plan {
        Plan::Wait { .. } | Plan::Stall { .. } => return None,
        Plan::Revoke { .. } => true,
        // The cache may lag behind, so a target that it does not contain is read before it is created.
        Plan::Renew { .. } => is_absent || spec.reads_target(),
        // Everything that is written again is what was read: a token that was not would be removed.
        Plan::Rewrite { .. } => is_absent || !observed.write_pending || spec.reads_target(),
    };
    let previous_target = is_absent && observed.target_was_read && observed.has_unread_previous_target();
    let target = needs_target && !observed.target_was_read;
    let is_unknown = spec.template.refresh_token_secret.is_some() && observed.refresh_token_snapshot().is_none();
    let needs_refresh_tokens = needs_target || is_unknown || observed.missing_refresh_token_secret().is_some();
    let reads = Reads {
        credentials: matches!(observed.credentials, CredentialsState::NotRead(_)),
        target,
        previous_target,
        refresh_tokens: needs_refresh_tokens
            && !(target || previous_target || observed.refresh_tokens_were_read)
            && !observed.refresh_token_secrets().is_empty(),
    };
    (reads != Reads::default()).then_some(reads)
}
