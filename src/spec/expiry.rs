//! When credentials expire at the provider, as an annotation of their Secret says. Pure.

#![deny(clippy::disallowed_methods)]

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::names::CREDENTIALS_EXPIRE_AT;

/// The maximum length of the annotation, in bytes; a longer one is treated as absent, like those of an integration.
const MAX_LENGTH: usize = 1 << 10;
/// The length of a date, such as `2027-03-01`.
const DATE_LENGTH: usize = 10;

/// What the annotation of a credentials Secret says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeclaredExpiry {
    /// There is no annotation.
    #[default]
    None,
    /// The credentials expire at this time, in whole seconds.
    At(Timestamp),
    /// The annotation is neither a time nor a date.
    Invalid,
}

impl DeclaredExpiry {
    /// Reads the annotation.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        match meta.annotations.as_ref().and_then(|all| all.get(CREDENTIALS_EXPIRE_AT)) {
            Some(text) if text.len() <= MAX_LENGTH => parse(text.trim()).map_or(Self::Invalid, Self::At),
            Some(_) | None => Self::None,
        }
    }

    /// The time, if there is a valid one.
    #[must_use]
    pub const fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::None | Self::Invalid => None,
        }
    }
}

/// A time as in RFC 3339, or a date, which means its begin in UTC.
fn parse(text: &str) -> Option<Timestamp> {
    // A date and time without an offset is also a date for the parser, which would drop the time.
    let is_date = text.len() == DATE_LENGTH && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    let at = if is_date {
        text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()
    } else {
        text.parse::<Timestamp>().ok()?
    };
    // A status has whole seconds, and the API server accepts no year before 0.
    Timestamp::from_second(at.as_second()).ok().filter(|at| *at >= Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn declared(text: &str) -> DeclaredExpiry {
        let annotations = [(CREDENTIALS_EXPIRE_AT.to_owned(), text.to_owned())].into();
        DeclaredExpiry::of(&ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() })
    }

    #[test]
    fn the_annotation_is_a_time_or_a_date() {
        let at = |text: &str| DeclaredExpiry::At(text.parse().expect("a time"));
        for (text, expected) in [
            ("2027-03-01T00:00:00Z", at("2027-03-01T00:00:00Z")),
            ("2027-03-01T02:30:00.75+02:30", at("2027-03-01T00:00:00Z")),
            ("2027-03-01", at("2027-03-01T00:00:00Z")),
            (" 2027-03-01\n", at("2027-03-01T00:00:00Z")),
            ("1970-01-01", at("1970-01-01T00:00:00Z")),
            ("9999-12-30", at("9999-12-30T00:00:00Z")),
        ] {
            assert_eq!(declared(text), expected, "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_invalid_and_a_long_text_is_ignored() {
        for text in [
            "",
            "soon",
            "2027-03-01T00:00:00",
            "2027-03-01T00:00",
            "2027-02-30",
            "2027-3-1",
            "01.03.2027",
            "2027-W09-1",
            "1803772800",
            "1969-12-31",
            "-000001-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "\u{1F980}\u{1F980}\u{1F980}",
        ] {
            assert_eq!(declared(text), DeclaredExpiry::Invalid, "{text:?}");
        }
        assert_eq!(declared(&"x".repeat(MAX_LENGTH)), DeclaredExpiry::Invalid);
        assert_eq!(declared(&"x".repeat(MAX_LENGTH + 1)), DeclaredExpiry::None);
        assert_eq!(DeclaredExpiry::of(&ObjectMeta::default()), DeclaredExpiry::None);
    }
}
