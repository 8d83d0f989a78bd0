//! The lifetime of a token, and when it is renewed. Pure.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::api::reason::Reason;

/// The assumed lifetime of a token whose lifetime is unknown.
pub const DEFAULT_LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// The maximum time for a rollout by which a token is renewed earlier for workloads that are restarted.
const MAX_ROLLOUT: SignedDuration = SignedDuration::from_mins(5);
/// The maximum lifetime: one year.
const MAX: SignedDuration = SignedDuration::from_hours(8_760);

/// The lifetime of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How long it is used, counted from `issued_at`.
    pub length: SignedDuration,
    /// The warning for the author of the spec.
    pub warning: Option<Reason>,
}

/// What is known about the lifetime of a token.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The time just before the request was sent; by the endpoint's own clock if that clock is off (`Date`; RFC 9110,
    /// section 6.6.1), because `exp` was set by that clock.
    pub issued_at: Timestamp,
    /// `spec.tokenLife`.
    pub token_lifetime: Option<SignedDuration>,
    /// The lifetime in the response.
    pub expires_in: Option<SignedDuration>,
    /// The expiry in the response.
    pub expires_at: Option<Timestamp>,
    /// What is wrong with them, if they are not what they should be.
    pub problem: Option<Reason>,
    /// Whether `expires_in` or `expires_at` was computed by an expression.
    pub is_computed: bool,
    /// The access token, whose `exp` is read if it is a JWT; empty if an expression computed the token.
    pub access_token: &'a str,
}

/// The minimum of `tokenLife`, `expiresIn`, `expiresAt` and the JWT's `exp`, as far as they are known; 5 minutes if
/// none is known.
///
/// An expiry in the past is ignored: it is more likely that one of the clocks is off than that the endpoint issues
/// expired tokens.
#[must_use]
pub fn resolve(known: &Known<'_>) -> Lifetime {
    let by_jwt = jwt_exp(known.access_token).map(|exp| exp.duration_since(known.issued_at));
    let by_end = known.expires_at.map(|end| end.duration_since(known.issued_at));
    let real = [known.expires_in, by_end, by_jwt]
        .into_iter()
        .flatten()
        .filter(SignedDuration::is_positive)
        .min()
        .map(|lifetime| lifetime.min(MAX))
        .map(|lifetime| if known.is_computed { rounded(lifetime) } else { lifetime });
    let (length, warning) = match (known.token_lifetime, real) {
        (Some(wanted), Some(real)) if wanted > real => (real, Some(Reason::TokenLifetimeTooLong)),
        (Some(wanted), _) => (wanted, None),
        (None, Some(real)) => (real, known.problem),
        (None, None) => (DEFAULT_LIFETIME, known.problem.or(Some(Reason::TokenLifetimeUnknown))),
    };
    Lifetime { length, warning }
}

/// A lifetime rounded down to four significant binary digits, and at least one second. Lifetimes are public: rounding
/// limits a lifetime that an expression has computed to about two hundred values, so that it reveals little of the
/// response.
#[must_use]
pub fn rounded(lifetime: SignedDuration) -> SignedDuration {
    const DIGITS: u32 = 4;
    let seconds = lifetime.as_secs().unsigned_abs();
    let dropped = seconds.checked_ilog2().unwrap_or_default().saturating_sub(DIGITS - 1);
    match seconds >> dropped << dropped {
        0 => SignedDuration::from_secs(1),
        seconds => SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)),
    }
}

/// When a token expires and when it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTimes {
    /// The time just before the request was sent.
    pub issued_at: Timestamp,
    /// When the access token expires.
    pub expires_at: Timestamp,
    /// When it is renewed: `expires_at` − `renewBefore` − jitter.
    pub renew_at: Timestamp,
    /// When the refresh token expires, if the endpoint says so.
    pub refresh_token_expires_at: Option<Timestamp>,
    /// When the client certificate expires with which the token was requested, if there is one.
    pub certificate_expires_at: Option<Timestamp>,
    /// Whether renewals with the refresh token no longer extend anything: the session at the endpoint ends.
    pub session_ends: bool,
    /// The warning about the lifetime for the author of the spec.
    pub warning: Option<Reason>,
}

/// How long before its expiry a token is renewed for workloads that are restarted at most every `interval`: a restart may
/// have to wait for that long, and the rollout takes some time.
#[must_use]
pub fn restart_margin(interval: SignedDuration) -> SignedDuration {
    interval.saturating_add((interval / 2).min(MAX_ROLLOUT))
}

/// The longest interval between two restarts for which tokens with this lifetime can be renewed in time: renewals are
/// advanced to half of the lifetime at most.
#[must_use]
pub fn max_restart_interval(lifetime: SignedDuration) -> SignedDuration {
    (lifetime / 2 - MAX_ROLLOUT).max(lifetime / 3)
}

impl TokenTimes {
    /// Times without anything else.
    #[must_use]
    pub const fn new(issued_at: Timestamp, expires_at: Timestamp, renew_at: Timestamp) -> Self {
        Self {
            issued_at,
            expires_at,
            renew_at,
            refresh_token_expires_at: None,
            certificate_expires_at: None,
            session_ends: false,
            warning: None,
        }
    }

    /// The same, but renewed before the refresh token expires, by a third of its lifetime, if a renewal can
    /// extend it.
    #[must_use]
    pub fn renewed_before_refresh_token_expires(self) -> Self {
        // At the end of a session, a renewal does not extend it.
        let Some(end) = self.refresh_token_expires_at.filter(|_| !self.session_ends) else { return self };
        let latest = end - (end.duration_since(self.issued_at) / 3).max(SignedDuration::ZERO);
        Self { renew_at: self.renew_at.min(latest), ..self }
    }

    /// The same, but renewed so early that workloads that are restarted at most every `interval` have the new token
    /// before this one expires: by that interval, and some time for the rollout, before the expiry; by no more than half of
    /// the lifetime, so that it does not multiply requests. The jitter is added to that.
    ///
    /// `renewBefore` has precedence, because some servers accept a renewal only shortly before a token expires. So has a
    /// renewal that another request cannot advance: at the end of a session, or if the endpoint returns the same token
    /// until it expires.
    #[must_use]
    pub fn renewed_for_restarts(self, uid: &str, interval: SignedDuration, renewal: RenewalTime) -> Self {
        let lifetime = self.expires_at.duration_since(self.issued_at);
        if renewal.before.is_some() || self.renew_at >= self.expires_at || !lifetime.is_positive() {
            return self;
        }
        let before = restart_margin(interval).min(lifetime / 2);
        let jitter = renewal.max_jitter.map_or(lifetime / 10, |max| max.min(lifetime / 10)).mul_f64(hash_fraction(uid));
        let latest = self.expires_at - before - jitter;
        Self {
            renew_at: self.renew_at.min(Timestamp::from_millisecond(latest.as_millisecond()).unwrap_or(latest)),
            ..self
        }
    }

    /// The same, but renewed no earlier than `distance` after the token was issued.
    #[must_use]
    pub fn renewed_after(self, distance: SignedDuration) -> Self {
        Self { renew_at: self.renew_at.max(saturating_add(self.issued_at, distance)), ..self }
    }
}

/// How far renewals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// For a renewal that happened when it was due: up to a tenth of the lifetime.
    Narrow,
    /// For a renewal that was not scheduled, such as the first one, or those after an outage or after a change of
    /// shared credentials. It probably happened together with many others: up to a third of the lifetime, once.
    Wide,
}

/// When a token is renewed, as the spec wants it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenewalTime {
    /// `spec.renewBefore`.
    pub before: Option<SignedDuration>,
    /// `spec.renewal.jitter`.
    pub max_jitter: Option<SignedDuration>,
}

impl From<Option<SignedDuration>> for RenewalTime {
    fn from(before: Option<SignedDuration>) -> Self {
        Self { before, max_jitter: None }
    }
}

/// The times of a token.
///
/// `renewBefore` defaults to a third of the lifetime, which also applies if the actual lifetime is not longer than
/// `renewBefore`; there is a warning then. The jitter is derived from `uid`, and is never more than half of the time
/// between issue and renewal, so that every token is used for a while. With `renewBefore`, it is at most a tenth of that,
/// because some servers accept a renewal only shortly before a token expires.
#[must_use]
pub fn schedule(
    uid: &str,
    issued_at: Timestamp,
    lifetime: SignedDuration,
    renewal: RenewalTime,
    spread: Jitter,
) -> TokenTimes {
    let wanted = renewal.before.filter(|before| *before < lifetime);
    let before = wanted.unwrap_or(lifetime / 3);
    let part = match spread {
        Jitter::Narrow => lifetime / 10,
        Jitter::Wide => lifetime / 3,
    };
    let limits = [Some((lifetime - before) / 2), wanted.map(|before| before / 10), renewal.max_jitter];
    let max_jitter = limits.into_iter().flatten().fold(part, SignedDuration::min);
    let jitter = max_jitter.mul_f64(hash_fraction(uid));
    let expires_at = saturating_add(issued_at, lifetime);
    let renew_at = expires_at - before - jitter;
    let renew_at = Timestamp::from_millisecond(renew_at.as_millisecond()).unwrap_or(renew_at);
    let is_too_long = renewal.before.is_some() && wanted.is_none();
    let warning = is_too_long.then_some(Reason::RenewBeforeTooLong);
    TokenTimes { warning, ..TokenTimes::new(issued_at, expires_at, renew_at) }
}

/// `time` plus `by`, or the maximum timestamp on overflow.
fn saturating_add(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A number from 0 to 1, derived from the text and evenly distributed over many texts.
#[must_use]
pub fn hash_fraction(text: &str) -> f64 {
    let digest = Sha256::digest(text);
    let lead = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(lead) / f64::from(u32::MAX)
}

/// `exp` of a JWT (RFC 7519, section 4.1.4), without verifying the signature; `None` for any other token.
#[must_use]
pub fn jwt_exp(token: &str) -> Option<Timestamp> {
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    // A NumericDate may have a fraction; it is dropped, so that the renewal is early rather than late.
    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates, and Timestamp checks its range")]
    let seconds = exp.as_i64().or_else(|| exp.as_f64().map(|float| float as i64))?;
    Timestamp::from_second(seconds).ok()
}
