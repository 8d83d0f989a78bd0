//! An unparsed HTTP response.

use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::oauth::expression::jsonata::Bindings;

/// The maximum `Retry-After` that is respected: the next request is sent after no more than a day.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// A response as received.
#[derive(Debug)]
pub struct HttpResponse {
    /// The HTTP status code.
    pub status: u16,
    /// The headers: names in lower case, and values that are text.
    pub headers: Vec<(String, String)>,
    /// The body, up to `--max-response-size` bytes.
    pub body: Zeroizing<Vec<u8>>,
}

impl HttpResponse {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The variables that expressions may use in addition to the body.
    #[must_use]
    pub fn bindings(&self) -> Bindings<'_> {
        Bindings { status: self.status, headers: &self.headers }
    }
}

/// A date in any of the three formats that a recipient must accept (RFC 9110, section 5.6.7).
pub(crate) fn http_date(header: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(header.trim()).ok()?.try_into().ok()
}

/// Seconds or an HTTP date, as a delay from `now`; `now` is the `Date` of the endpoint if there is one.
pub(crate) fn retry_after(header: Option<&str>, now: Timestamp) -> Option<Duration> {
    let header = header?.trim();
    let wait = if let Ok(seconds) = header.parse() {
        Duration::from_secs(seconds)
    } else {
        Duration::try_from(http_date(header)?.duration_since(now)).ok()?
    };
    Some(wait.min(MAX_RETRY_AFTER))
}
