//! Turns a failed write of the target Secret into the error of an attempt.

use secrecy::SecretString;

use crate::api::reason::Reason;
use crate::controller::cache::state::PendingWrite;
use crate::error_report::chain;
use crate::kube_api::call::ApiError;
use crate::oauth::error::RequestError;
use crate::oauth::redaction::redact::redact;

/// Why a Secret was not written.
pub(crate) struct NotWritten {
    /// Its name.
    pub(crate) secret: String,
    pub(crate) error: ApiError,
    /// Whether the operator knew it.
    pub(crate) is_known: bool,
}

pub(crate) fn write_error(not_written: &NotWritten, pending: &PendingWrite) -> RequestError {
    let NotWritten { secret: name, error, .. } = not_written;
    let secrets = pending.secret_values();
    let problem = describe_api_error(error, &secrets);
    RequestError::new(
        Reason::TargetWriteFailed,
        format!(
            "the token was received but Secret {name} could not be written ({problem}); it is kept in memory and written when possible"
        ),
    )
}

impl PendingWrite {
    /// The values that must not be shown.
    pub(crate) fn secret_values(&self) -> Vec<(String, SecretString)> {
        let content = &self.issued.content;
        let mut secrets: Vec<(String, SecretString)> = Vec::new();
        secrets.extend(content.access_token.clone().map(|token| ("access_token".to_owned(), token)));
        secrets.extend(content.refresh_token.clone().map(|token| ("refresh_token".to_owned(), token)));
        secrets.extend(content.dpop_key.clone().map(|key| ("dpop_key".to_owned(), key)));
        // Not named by their keys, because some keys are names of public parameters, which are not redacted.
        let data = content.data.values().filter_map(|data| data.value.clone());
        secrets.extend(
            data.chain(content.previous.iter().map(|previous| previous.token.clone()))
                .map(|value| ("data".to_owned(), value)),
        );
        secrets
    }
}

/// The message of the API server, or of the connection to it, without secrets.
pub(crate) fn describe_api_error(error: &ApiError, secrets: &[(String, SecretString)]) -> String {
    redact(&error.status().map_or_else(|| chain(error), |status| status.message.clone()), secrets)
}
