//! Delays after failures. Pure: they are computed from the stored status.

use jiff::{SignedDuration, Timestamp};

use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::oauth::lifetime;

/// The delay before a configuration error that only an attempt can detect is checked again.
const STALLED_RECHECK: SignedDuration = SignedDuration::from_hours(1);
/// The maximum jitter added to a delay, so that integrations that failed together do not retry together.
const BACKOFF_JITTER: f64 = 0.25;

/// The minimum delay after a rejection while a token is valid.
const MIN_PAUSE_BEFORE_EXPIRY: SignedDuration = SignedDuration::from_secs(10);
/// The minimum delay after 429 (Too Many Requests) if the response does not request another one: at some servers, each
/// further request prolongs the limit.
pub(crate) const TOO_MANY_REQUESTS: SignedDuration = SignedDuration::from_mins(1);

/// The minimum interval between two token requests of one integration, doubled for each consecutive request.
const MIN_REQUEST_INTERVAL: SignedDuration = SignedDuration::from_secs(1);
/// The maximum of this interval.
pub const MAX_REQUEST_INTERVAL: SignedDuration = SignedDuration::from_mins(1);

pub(crate) fn request_interval(streak: u32) -> SignedDuration {
    MIN_REQUEST_INTERVAL.checked_mul(1 << streak.min(6)).unwrap_or(MAX_REQUEST_INTERVAL).min(MAX_REQUEST_INTERVAL)
}

/// The delay after this number of failures for a reason.
pub(crate) fn pause(reason: Reason, attempts: i32, uid: &str) -> SignedDuration {
    let Some((first, max)) = reason.backoff() else {
        return STALLED_RECHECK;
    };
    let doublings = u32::try_from(attempts.clamp(1, 32) - 1).unwrap_or_default();
    let pause = first.saturating_mul(2_u32.saturating_pow(doublings)).min(max);
    let jitter = lifetime::hash_fraction(&format!("{uid}/{attempts}")) * BACKOFF_JITTER;
    SignedDuration::try_from(pause.mul_f64(1.0 + jitter).min(max)).unwrap_or(STALLED_RECHECK)
}

/// The same, but while a token is valid, half of the time until it expires at most, so that there are further attempts
/// before that: some servers accept a renewal only shortly before a token expires.
pub(crate) fn pause_before_expiry(pause: SignedDuration, expires_at: Timestamp, now: Timestamp) -> SignedDuration {
    let left = expires_at.duration_since(now);
    // The delay of a transient failure may already be shorter.
    if left.is_positive() { pause.min((left / 2).max(MIN_PAUSE_BEFORE_EXPIRY)) } else { pause }
}

/// Whether a deletion has already waited this long.
#[must_use]
pub fn is_overdue(integration: &OAuthIntegration, now: Timestamp, max: SignedDuration) -> bool {
    let since = integration.metadata.deletion_timestamp.as_ref();
    since.is_some_and(|since| now.duration_since(since.0) > max)
}
