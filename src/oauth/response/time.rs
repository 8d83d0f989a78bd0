//! Lifetimes and expiries as servers write them. Pure.

#![deny(clippy::disallowed_methods)]

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::api::reason::Reason;
use crate::oauth::expression::value::Value;
use crate::oauth::response::raw::http_date;

/// A longer lifetime is implausible: the number is probably in milliseconds.
const MAX_PLAUSIBLE: SignedDuration = SignedDuration::from_hours(400 * 24);
/// A number of seconds that is Unix time, and not a lifetime: 31 years, or September 2001.
const MIN_UNIX_TIME: f64 = 1e9;
/// Unix time in seconds is smaller (until the year 5138), in milliseconds it is larger (since March 1973).
const MIN_MILLISECONDS: f64 = 1e11;

/// A time in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// There is none, or the server says that it does not know: 0, -1 and `null`.
    Missing,
    /// From now.
    In(SignedDuration),
    /// From now, for longer than is plausible.
    Implausible(SignedDuration),
    /// A point in time, by the endpoint's own clock.
    At(Timestamp),
    /// A point in time where a lifetime should be.
    AtInsteadOfIn(Timestamp),
    /// Something else.
    Invalid,
}

impl Time {
    pub(crate) const fn length(&self) -> Option<SignedDuration> {
        match self {
            Self::In(length) | Self::Implausible(length) => Some(*length),
            _ => None,
        }
    }

    pub(crate) const fn end(&self) -> Option<Timestamp> {
        match self {
            Self::At(end) | Self::AtInsteadOfIn(end) => Some(*end),
            _ => None,
        }
    }

    pub(crate) const fn problem(&self) -> Option<Reason> {
        match self {
            Self::Invalid => Some(Reason::TokenLifetimeInvalid),
            Self::Implausible(_) | Self::AtInsteadOfIn(_) => Some(Reason::TokenLifetimeImplausible),
            _ => None,
        }
    }
}

/// A lifetime: seconds as a number or as text, or text with a unit (`3600s`, `1h`, `PT1H`).
#[must_use]
pub fn lifetime(value: &Value) -> Time {
    let number = match value {
        Value::Nothing | Value::Null => return Time::Missing,
        Value::Number(number) => *number,
        Value::Text(text) if text.trim().is_empty() => return Time::Missing,
        Value::Text(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => return lifetime_with_unit(text.trim()),
        },
        _ => return Time::Invalid,
    };
    if number >= MIN_UNIX_TIME {
        return unix_time(number).map_or(Time::Invalid, Time::AtInsteadOfIn);
    }
    match SignedDuration::try_from_secs_f64(number) {
        Ok(length) if !length.is_positive() => Time::Missing,
        Ok(length) if length > MAX_PLAUSIBLE => Time::Implausible(length),
        Ok(length) => Time::In(length),
        Err(_) => Time::Invalid,
    }
}

fn lifetime_with_unit(text: &str) -> Time {
    match text.parse::<SignedDuration>() {
        Ok(length) if length.is_positive() => Time::In(length),
        Ok(_) => Time::Missing,
        Err(_) => timestamp(text).map_or(Time::Invalid, Time::AtInsteadOfIn),
    }
}

/// An expiry: RFC 3339, RFC 9110 (`Thu, 01 Jan 2026 00:00:00 GMT`), without a zone (then UTC), `/Date(…)/` as .NET
/// writes it, or Unix time in seconds or milliseconds.
#[must_use]
pub fn expiry(value: &Value) -> Time {
    match value {
        Value::Nothing | Value::Null => Time::Missing,
        Value::Number(number) if *number <= 0.0 => Time::Missing,
        Value::Number(number) => unix_time(*number).map_or(Time::Invalid, Time::At),
        Value::Text(text) if text.trim().is_empty() => Time::Missing,
        Value::Text(text) => timestamp(text.trim()).map_or(Time::Invalid, Time::At),
        _ => Time::Invalid,
    }
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let net = || text.strip_prefix("/Date(")?.strip_suffix(")/")?.split(['+', '-']).next()?.parse().ok();
    let milliseconds = |number: f64| unix_time(number.max(MIN_MILLISECONDS));
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<DateTime>().ok().and_then(utc))
        .or_else(|| http_date(text))
        .or_else(|| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp()))
        .or_else(|| net().and_then(milliseconds))
        .or_else(|| text.parse().ok().and_then(unix_time))
}

fn unix_time(number: f64) -> Option<Timestamp> {
    let seconds = if number.abs() < MIN_MILLISECONDS { number } else { number / 1_000.0 };
    Timestamp::UNIX_EPOCH.checked_add(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}
