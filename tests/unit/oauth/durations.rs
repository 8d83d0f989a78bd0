//! Durations as people write them.

use std::time::Duration;

use oauth_operator::api::duration;

#[test]
fn every_duration_that_the_api_server_accepts_is_parsed() {
    let cases = [
        ("90s", 90.0),
        ("1h30m", 5_400.0),
        ("1.5h", 5_400.0),
        ("+5s", 5.0),
        (".5h", 1_800.0),
        ("5.s", 5.0),
        ("1h1h", 7_200.0),
        ("1500ms", 1.5),
        ("5\u{b5}s", 5e-6),
        ("5\u{3bc}s", 5e-6),
        ("8760h", 31_536_000.0),
        ("31535999.999999999s", 31_536_000.0),
        ("0", 0.0),
    ];
    for (text, seconds) in cases {
        let read: duration::Duration = text.parse().unwrap_or_else(|problem| panic!("{problem}"));
        let (read, seconds) = (Duration::from(read), Duration::from_secs_f64(seconds));
        assert!(read.abs_diff(seconds) < Duration::from_nanos(10), "{text} is {read:?}");
    }
}

/// Found by fuzzing: the parser of kube panics on a sign inside or a too large number, and drops a leading sign.
#[test]
fn an_invalid_or_too_long_duration_is_an_error() {
    let long = "9h".repeat(20);
    let texts = [
        "",
        "+",
        "5",
        "5 s",
        "1d",
        "5s-3s",
        "-5s",
        "-0.5h",
        "8761h",
        "1e3s",
        "99999999999999999999999999h",
        &long,
        "infs",
        "NaNs",
        "1.2.3s",
    ];
    for text in texts {
        let problem = text.parse::<duration::Duration>().expect_err(text);
        assert!(problem.contains("such as 90s or 1h30m"), "{text}: {problem}");
    }
}
