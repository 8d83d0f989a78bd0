//! How long a token lives and when it is renewed. Pure.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::api::Reason;

/// The life of a token of which nothing is known.
pub const UNKNOWN: SignedDuration = SignedDuration::from_mins(5);
/// The longest life that is believed: a year.
const LONGEST: SignedDuration = SignedDuration::from_hours(8_760);

/// The life of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// How long it is used, counted from `issued_at`.
    pub length: SignedDuration,
    /// What the person who wrote the spec should be told about it.
    pub warning: Option<Reason>,
}

/// What is known of the life of a token.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The moment before the request was sent; by the endpoint's own clock where that is off (`Date`; RFC 9110, section
    /// 6.6.1), since it is by that clock that `exp` was set.
    pub issued_at: Timestamp,
    /// `spec.tokenLife`.
    pub token_life: Option<SignedDuration>,
    /// What the response told.
    pub expires_in: Option<SignedDuration>,
    /// The end that the response told.
    pub expires_at: Option<Timestamp>,
    /// The access token, whose `exp` is read where it is a JWT.
    pub access_token: &'a str,
}

/// The smallest known of `tokenLife`, `expiresIn`, `expiresAt` and the JWT's `exp`; 5 minutes where none is known.
///
/// An end that has passed already on this machine's clock says that one of the clocks is off rather than that
/// the endpoint hands out dead tokens; it is left out of account.
#[must_use]
pub fn of(known: &Known<'_>) -> Life {
    let by_jwt = jwt_exp(known.access_token).map(|exp| exp.duration_since(known.issued_at));
    let by_end = known.expires_at.map(|end| end.duration_since(known.issued_at));
    let real = [known.expires_in, by_end, by_jwt]
        .into_iter()
        .flatten()
        .filter(SignedDuration::is_positive)
        .min()
        .map(|life| life.min(LONGEST));
    let (length, warning) = match (known.token_life, real) {
        (Some(wanted), Some(real)) if wanted > real => (real, Some(Reason::TokenLifeTooLong)),
        (Some(wanted), _) => (wanted, None),
        (None, Some(real)) => (real, None),
        (None, None) => (UNKNOWN, Some(Reason::TokenLifeUnknown)),
    };
    Life { length, warning }
}

/// What to say about a warning of [`Life`].
#[must_use]
pub const fn advice(warning: Reason) -> &'static str {
    match warning {
        Reason::TokenLifeTooLong => {
            "the real life of the token is shorter than spec.tokenLife, which is used nowhere: lower it"
        }
        Reason::TokenLifeUnknown => "nothing tells the life of the token, which is taken as 5m: set spec.tokenLife",
        Reason::FellBack => {
            "the refresh token was refused (invalid_grant), and this one was had by spec.renewal.fallback: find out what ends the refresh tokens"
        }
        _ => "",
    }
}

/// When a token ends and when it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The moment before the request was sent.
    pub issued_at: Timestamp,
    /// When the access token ends.
    pub expires_at: Timestamp,
    /// When it is renewed: `expires_at` − `renewBefore` − jitter.
    pub renew_at: Timestamp,
}

/// By how much renewals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// One that came when it was due: up to a tenth of the life keeps it apart from the others.
    Usual,
    /// One that came out of turn, as the first does, or all after an outage or a change of credentials that many share. As
    /// likely as not it came together with many; up to a third of the life, once, takes them apart.
    Wide,
}

/// The times of a token.
///
/// `renew_before` is a third of the life where it is not given, or where the real life turned out to be no longer
/// than it. The jitter is fixed by `uid` and never takes more than half of what is left before the renewal, so that a
/// token is always used for a while.
#[must_use]
pub fn times(
    uid: &str,
    issued_at: Timestamp,
    life: SignedDuration,
    renew_before: Option<SignedDuration>,
    spread: Spread,
) -> Times {
    let before = renew_before.filter(|before| *before < life).unwrap_or(life / 3);
    let part = match spread {
        Spread::Usual => life / 10,
        Spread::Wide => life / 3,
    };
    let most = part.min((life - before) / 2);
    let jitter = most.mul_f64(fraction(uid));
    let expires_at = later(issued_at, life);
    let renew_at = expires_at - before - jitter;
    Times {
        issued_at,
        expires_at,
        renew_at: Timestamp::from_millisecond(renew_at.as_millisecond()).unwrap_or(renew_at),
    }
}

/// A moment later than `time`; the end of all times where there is no such moment.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A number from 0 to 1 that is always the same for one text and evenly spread over many.
#[must_use]
pub fn fraction(text: &str) -> f64 {
    let digest = Sha256::digest(text);
    let lead = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(lead) / f64::from(u32::MAX)
}

/// `exp` of a JWT (RFC 7519, section 4.1.4), read and not verified; `None` for any other token.
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
    // NumericDate may have a fraction; what is below a second is not worth being late for.
    #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates, and Timestamp checks its range")]
    let seconds = exp.as_i64().or_else(|| exp.as_f64().map(|float| float as i64))?;
    Timestamp::from_second(seconds).ok()
}
