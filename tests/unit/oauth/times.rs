//! Lifetimes and expiries as servers write them.

use oauth_operator::oauth::expression::value::Value;
use oauth_operator::oauth::response::time::{Time, expiry, lifetime};

use super::{NOW, seconds};

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn a_lifetime_is_understood_or_reported() {
    let at_now = Time::AtInsteadOfIn(NOW);
    let cases = [
        (Value::Number(3600.0), Time::In(seconds(3600))),
        (Value::Number(0.5), Time::In(jiff::SignedDuration::from_millis(500))),
        (text("3600"), Time::In(seconds(3600))),
        (text(" 3599 "), Time::In(seconds(3599))),
        (text("3599.0"), Time::In(seconds(3599))),
        (text("1e3"), Time::In(seconds(1000))),
        (text("3600s"), Time::In(seconds(3600))),
        (text("1h"), Time::In(seconds(3600))),
        (text("PT1H"), Time::In(seconds(3600))),
        // These mean that the lifetime is not known.
        (Value::Nothing, Time::Missing),
        (Value::Null, Time::Missing),
        (Value::Number(0.0), Time::Missing),
        (Value::Number(-1.0), Time::Missing),
        (text("0"), Time::Missing),
        (text(""), Time::Missing),
        // A time in its place.
        (Value::Number(1_767_225_600.0), at_now),
        (Value::Number(1_767_225_600_000.0), at_now),
        (text("1767225600"), at_now),
        (text("2026-01-01T00:00:00Z"), at_now),
        // Milliseconds.
        (Value::Number(86_399_992.0), Time::Implausible(seconds(86_399_992))),
        (text("3,599"), Time::Invalid),
        (text("soon"), Time::Invalid),
        (Value::Bool(true), Time::Invalid),
        (Value::Number(f64::NAN), Time::Invalid),
        (Value::Number(f64::INFINITY), Time::Invalid),
    ];
    for (value, expected) in cases {
        assert_eq!(lifetime(&value), expected, "{value:?}");
    }
}

#[test]
fn an_expiry_is_understood_or_reported() {
    for written in [
        "2026-01-01T00:00:00Z",
        "2026-01-01T01:00:00+01:00",
        "2026-01-01T00:00:00+0000",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00",
        "2026-01-01T00:00:00.000Z",
        "Thu, 01 Jan 2026 00:00:00 GMT",
        "Thu, 01 Jan 2026 01:00:00 +0100",
        "/Date(1767225600000)/",
        "/Date(1767225600000+0100)/",
        "1767225600",
        "1767225600000",
        " 1767225600 ",
    ] {
        assert_eq!(expiry(&text(written)), Time::At(NOW), "{written}");
    }
    assert_eq!(expiry(&Value::Number(1_767_225_600.0)), Time::At(NOW));
    assert_eq!(expiry(&Value::Number(1_767_225_600_000.0)), Time::At(NOW));
    for missing in [Value::Nothing, Value::Null, Value::Number(0.0), Value::Number(-1.0), text("")] {
        assert_eq!(expiry(&missing), Time::Missing, "{missing:?}");
    }
    for invalid in [text("tomorrow"), text("/Date(x)/"), text("01.01.2026"), Value::Bool(true)] {
        assert_eq!(expiry(&invalid), Time::Invalid, "{invalid:?}");
    }
}
