//! Error messages of calls, without the content of responses.

use kube::runtime::watcher;

use crate::error_report::chain;

/// Whether the text of an error quotes the response, as the errors of parsers do; the response may be a Secret.
#[must_use]
pub fn quotes(error: &kube::Error) -> bool {
    matches!(error, kube::Error::SerdeError(_) | kube::Error::FromUtf8(_))
}

/// The log message for a failed watch.
#[must_use]
pub fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error)
            if quotes(error) =>
        {
            "failed to parse the API server's response".to_owned()
        }
        error => chain(error),
    }
}
