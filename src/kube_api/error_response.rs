//! Turns every error response into a `Status` of bounded size.
//!
//! A body that is not a `Status` (an error page of a proxy, or JSON that is nested too deeply) is replaced by a
//! generic `Status` without its text, because `kube` would put the whole text into an error message, which is logged.

use http::StatusCode;
use http::response::Parts;
use kube::core::Status;
use kube::core::response::reason;

/// Maximum size of an error response.
pub const MAX_BODY: usize = 64 << 10;
/// Maximum length of a message.
const MAX_MESSAGE: usize = 4 << 10;
/// Maximum number of causes.
const MAX_CAUSES: usize = 32;

/// The body to pass on: the original one, truncated, if it is a `Status`. `text` is `None` if the body was too large.
#[must_use]
pub fn body(parts: &Parts, text: Option<&[u8]>) -> Vec<u8> {
    let sent = text.and_then(|text| serde_json::from_slice::<Status>(text).ok()).filter(|status| status.code != 0);
    let status = sent.map_or_else(|| unknown(parts.status), bounded);
    serde_json::to_vec(&status).unwrap_or_default()
}

fn unknown(code: StatusCode) -> Status {
    let word = match code {
        StatusCode::NOT_FOUND => reason::NOT_FOUND,
        StatusCode::FORBIDDEN => reason::FORBIDDEN,
        StatusCode::CONFLICT => reason::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS => reason::TOO_MANY_REQUESTS,
        _ => "Unknown",
    };
    Status::failure(&format!("{code}, without a readable explanation"), word).with_code(code.as_u16())
}

fn bounded(mut status: Status) -> Status {
    cut(&mut status.message);
    cut(&mut status.reason);
    if let Some(details) = &mut status.details {
        details.causes.truncate(MAX_CAUSES);
        for cause in &mut details.causes {
            [&mut cause.message, &mut cause.reason, &mut cause.field].into_iter().for_each(cut);
        }
    }
    status
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    fn parsed(code: u16, text: Option<&[u8]>) -> Status {
        let (parts, ()) = http::Response::builder().status(code).body(()).expect("a response").into_parts();
        serde_json::from_slice(&body(&parts, text)).expect("a Status")
    }

    #[test]
    fn every_error_response_becomes_a_short_status() {
        let sent = serde_json::json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "m".repeat(9_000),
            "details": {"causes": vec![serde_json::json!({"field": "metadata.uid", "message": "x".repeat(9_000)}); 99]}});
        let status = parsed(409, Some(sent.to_string().as_bytes()));
        assert!(status.is_conflict());
        assert_eq!(status.message.len(), MAX_MESSAGE);
        let causes = status.details.expect("details").causes;
        assert_eq!((causes.len(), causes[0].field.as_str()), (MAX_CAUSES, "metadata.uid"));

        let deep = format!("{{\"secret\":{}{}}}", "[".repeat(500), "]".repeat(500));
        for text in [Some(deep.as_bytes()), Some(b"<html>secret</html>"), Some(b"\"secret\""), Some(b""), None] {
            let status = parsed(404, text);
            assert_eq!(status.code, 404);
            assert!(status.is_not_found());
            assert!(!status.message.contains("secret"), "{}", status.message);
        }
    }
}
