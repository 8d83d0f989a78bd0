//! Host patterns that administrators allow.

use oauth_operator::oauth::http::egress::{EgressPolicy, HostPattern};

#[test]
fn a_pattern_matches_its_host_or_the_subdomains_of_its_domain() {
    let cases = [
        ("login.example.com", "https://login.example.com/token", true),
        ("login.example.com", "https://LOGIN.example.com./token", true),
        ("login.example.com", "https://other.example.com/token", false),
        ("*.example.com", "https://a.b.example.com/token", true),
        ("*.example.com", "https://example.com/token", false),
        ("*.example.com", "https://badexample.com/token", false),
        ("bücher.example", "https://xn--bcher-kva.example/token", true),
        ("192.0.2.1", "https://192.0.2.1/token", true),
        ("[2001:db8::1]", "https://[2001:db8::1]/token", true),
    ];
    for (pattern, url, admitted) in cases {
        let hosts = vec![pattern.parse::<HostPattern>().unwrap_or_else(|problem| panic!("{problem}"))];
        let egress = EgressPolicy { hosts, ..EgressPolicy::default() };
        let url = url::Url::parse(url).expect("a URL");
        assert_eq!(egress.check_url(&url).is_ok(), admitted, "{pattern} and {url}");
    }
}

/// Found by fuzzing: characters before a host were ignored.
#[test]
fn an_invalid_host_is_an_invalid_pattern() {
    for text in [
        "",
        "*",
        "*.",
        "a.*.com",
        "https://a.example",
        "\\\\a.example",
        "//a.example",
        "a.example/",
        "a.example:443",
        "[2001:db8::1]:443",
        "me@a.example",
        "a\tb.example",
        "a b",
    ] {
        assert!(text.parse::<HostPattern>().is_err(), "{text:?} is accepted");
    }
}
