//! An unparsed HTTP response.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::oauth::expression::jsonata::Bindings;

/// The maximum `Retry-After` that is respected: the next request is sent after no more than a day.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The headers with the rest of a rate limit.
pub(crate) const REMAINING: [&str; 3] = ["ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining"];
/// The headers with the end of a rate limit.
pub(crate) const RESET: [&str; 3] = ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"];

/// A response as received. Its headers and its body are secret.
pub struct HttpResponse {
    /// The HTTP status code.
    pub status: u16,
    /// The headers: names in lower case, and values that are text.
    pub headers: Vec<(String, String)>,
    /// The body, up to `--max-response-size` bytes.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse").field("status", &self.status).finish_non_exhaustive()
    }
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
        let body = std::str::from_utf8(&self.body).unwrap_or_default();
        Bindings { status: self.status, headers: &self.headers, body }
    }
}

/// A date in any of the three formats that a recipient must accept (RFC 9110, section 5.6.7).
pub(crate) fn http_date(header: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(header.trim()).ok()?.try_into().ok()
}

/// The delay that an error response requests: `Retry-After`, or what else servers say about their rate limit.
/// `now` is the `Date` of the endpoint if there is one.
pub(crate) fn retry_after(raw: &HttpResponse, now: Timestamp) -> Option<Duration> {
    let wait = match raw.header("retry-after").map(str::trim) {
        Some(header) => seconds_or_date(header, now),
        None if is_rate_limited(raw) => rate_limit_reset(raw, now),
        None => None,
    };
    wait.map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// Seconds, or an HTTP date (RFC 9110, section 10.2.3).
fn seconds_or_date(header: &str, now: Timestamp) -> Option<Duration> {
    header
        .parse()
        .map(Duration::from_secs)
        .ok()
        .or_else(|| Duration::try_from(http_date(header)?.duration_since(now)).ok())
}

/// GitHub uses 403 if nothing remains.
fn is_rate_limited(raw: &HttpResponse) -> bool {
    let remaining = REMAINING.iter().find_map(|name| raw.header(name));
    raw.status == 429 || raw.status == 403 && remaining.is_some_and(|remaining| remaining.trim() == "0")
}

/// The end of the current limit: `RateLimit` (draft-ietf-httpapi-ratelimit-headers), or a header that no RFC defines,
/// in seconds or as Unix time.
fn rate_limit_reset(raw: &HttpResponse, now: Timestamp) -> Option<Duration> {
    /// Unix time in seconds exceeds it, a delay does not.
    const MAX_DELAY: i64 = 1_000_000_000;
    let structured = raw.header("ratelimit").and_then(|header| {
        let parameters = header.split([';', ',']).filter_map(|parameter| parameter.trim().split_once('='));
        parameters.into_iter().find(|(name, _)| matches!(*name, "t" | "reset")).map(|(_, value)| value)
    });
    let text = structured.or_else(|| RESET.iter().find_map(|name| raw.header(name)))?;
    let number: i64 = text.trim().parse().ok()?;
    let delay = if number > MAX_DELAY { number.checked_sub(now.as_second())? } else { number };
    u64::try_from(delay).ok().map(Duration::from_secs)
}
