//! The token request as data: bodies, lives, redaction, answers, expressions. No server, no clock.

#![allow(missing_docs)]
// A test that cannot go on has failed.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use common::spec::validated;
use jiff::{SignedDuration, Timestamp};
use jsonata_core::value::JValue;
use oauth_operator::api::{Class, OAuthIntegrationSpec, Reason};
use oauth_operator::error::Failure;
use oauth_operator::oauth::body::{self, Member};
use oauth_operator::oauth::expression::Bindings;
use oauth_operator::oauth::jwt::Fresh;
use oauth_operator::oauth::life::{self, Known, Life, Spread};
use oauth_operator::oauth::prepare::{Purpose, prepare};
use oauth_operator::oauth::redact::shown;
use oauth_operator::oauth::response::{self, Evaluated, Raw};
use oauth_operator::oauth::{Answer, Ask, Credential, Credentials, Expression};
use oauth_operator::validated::Validated;
use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z, which is now in all tests.
const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// What a spec asks for; what is left out of it is filled in.
fn ask(spec: Value) -> Ask {
    validated(spec).ask
}

fn members(values: &[(&str, &str)]) -> Vec<Member> {
    values.iter().map(|(name, value)| ((*name).to_owned(), SecretString::from(*value))).collect()
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

mod bodies {
    use super::*;

    type Pair = (&'static str, &'static str);
    type Pairs = Vec<Pair>;

    fn credentials() -> Credentials {
        [
            (Credential::ClientId, "id"),
            (Credential::ClientSecret, "secret"),
            (Credential::Username, "ada"),
            (Credential::Password, "word"),
            (Credential::RefreshToken, "refresh"),
            (Credential::SubjectToken, "subject"),
            (Credential::ActorToken, "actor"),
        ]
        .into_iter()
        .map(|(credential, value)| (credential, SecretString::from(value)))
        .collect()
    }

    fn with(credential: Credential, value: Option<&str>) -> Credentials {
        let mut credentials = credentials();
        credentials.set(credential, value.map(SecretString::from));
        credentials
    }

    fn sent(spec: Value, credentials: &Credentials) -> Vec<Member> {
        let fresh = Fresh { now: NOW, id: "fresh".to_owned() };
        prepare(&ask(spec), credentials, &Purpose::Token, &fresh).expect("a request").members
    }

    fn exposed(members: &[Member]) -> Vec<(&str, &str)> {
        members.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect()
    }

    #[test]
    fn each_grant_sends_its_members_in_their_order() {
        let resource = json!({"key": "audience", "value": "https://erp"});
        let client = [("client_id", "id"), ("client_secret", "secret")];
        let cases: [(&str, Value, Pairs); 6] = [
            (
                "client credentials send grant type and client",
                json!({}),
                [&[("grant_type", "client_credentials")][..], &client].concat(),
            ),
            (
                "resource and scope come after the client",
                json!({"resource": resource, "scope": "a b"}),
                [
                    &[("grant_type", "client_credentials")][..],
                    &client,
                    &[("audience", "https://erp"), ("scope", "a b")],
                ]
                .concat(),
            ),
            (
                "user and password send neither grant type nor client",
                json!({"grantType": "user_password"}),
                vec![("username", "ada"), ("password", "word")],
            ),
            (
                "user and password send resource and scope where they are set",
                json!({"grantType": "user_password", "resource": resource, "scope": "a"}),
                vec![("username", "ada"), ("password", "word"), ("audience", "https://erp"), ("scope", "a")],
            ),
            (
                "a refresh sends the client and the refresh token",
                json!({"grantType": "refresh_token"}),
                [&[("grant_type", "refresh_token")][..], &client, &[("refresh_token", "refresh")]].concat(),
            ),
            (
                "a refresh sends resource and scope where they are set",
                json!({"grantType": "refresh_token", "resource": resource, "scope": "a"}),
                [
                    &[("grant_type", "refresh_token")][..],
                    &client,
                    &[("refresh_token", "refresh"), ("audience", "https://erp"), ("scope", "a")],
                ]
                .concat(),
            ),
        ];
        for (case, spec, expected) in cases {
            assert_eq!(exposed(&sent(spec, &credentials())), expected, "{case}");
        }
    }

    #[test]
    fn parameters_add_win_and_take_out() {
        let cases: &[(&str, Value, &[&str], &[Pair])] = &[
            ("a new one is added", json!({"tenant": "evox"}), &[], &[("tenant", "evox")]),
            ("one of the grant's wins", json!({"grant_type": "custom"}), &[], &[("grant_type", "custom")]),
            ("an empty one takes the grant's out", json!({"scope": ""}), &["scope"], &[]),
            ("an empty one takes the resource out", json!({"resource": ""}), &["resource"], &[]),
            ("an empty one that nobody sends changes nothing", json!({"tenant": ""}), &["tenant"], &[]),
        ];
        for (case, parameters, absent, present) in cases {
            let resource = json!({"key": "resource", "value": "https://erp"});
            let spec = json!({"scope": "a", "resource": resource, "request": {"parameters": parameters}});
            let members = sent(spec, &credentials());
            let members = exposed(&members);
            assert!(members.iter().all(|(name, _)| !absent.contains(name)), "{case}: {members:?}");
            for (name, value) in *present {
                let found: Vec<_> = members.iter().filter(|(known, _)| known == name).collect();
                assert_eq!(found, [&(*name, *value)], "{case}");
            }
        }
    }

    #[test]
    fn a_member_without_a_value_is_not_there() {
        let refresh = || json!({"grantType": "refresh_token"});
        let public = sent(refresh(), &with(Credential::ClientSecret, None));
        assert!(!exposed(&public).iter().any(|(name, _)| *name == "client_secret"), "a public client has no secret");
        let empty = sent(refresh(), &with(Credential::ClientSecret, Some("")));
        assert_eq!(exposed(&empty), exposed(&public));
    }

    #[test]
    fn both_formats_carry_every_character() {
        let difficult = "a&b=c d+e/\"ü\n\u{1f511}";
        let sent = members(&[("password", difficult)]);
        let json: Value = serde_json::from_str(&body::encode(ask(json!({})).format, &sent, &[])).expect("JSON");
        assert_eq!(json, json!({"password": difficult}));
        let form = body::encode(ask(json!({"request": {"format": "form"}})).format, &sent, &[]);
        let read: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        assert_eq!(read, [("password".to_owned(), difficult.to_owned())]);
    }

    #[test]
    fn nothing_secret_is_printed_for_debugging() {
        let sent = sent(json!({}), &credentials());
        let text = format!("{sent:?} {:?}", credentials());
        for secret in ["\"secret\"", "\"id\"", "\"ada\"", "\"word\"", "\"refresh\""] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

mod lives {
    use super::*;

    /// A JWT with these claims; the signature is not looked at.
    fn jwt(claims: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    }

    fn jwt_for(life: i64) -> String {
        jwt(&json!({"exp": NOW.as_second() + life}).to_string())
    }

    #[test]
    fn the_life_is_the_smallest_that_is_known() {
        let too_long = Some(Reason::TokenLifeTooLong);
        let unknown = Some(Reason::TokenLifeUnknown);
        let opaque = String::from("opaque");
        let cases = [
            ("nothing is known: five minutes, and that is told", None, None, opaque.clone(), (300, unknown)),
            ("only tokenLife is known", Some(3600), None, opaque.clone(), (3600, None)),
            ("only expiresIn is known", None, Some(60), opaque.clone(), (60, None)),
            ("only exp is known", None, None, jwt_for(90), (90, None)),
            ("tokenLife is shorter than expiresIn", Some(30), Some(60), opaque.clone(), (30, None)),
            ("tokenLife is as long as expiresIn", Some(60), Some(60), opaque.clone(), (60, None)),
            ("tokenLife is longer than expiresIn", Some(61), Some(60), opaque.clone(), (60, too_long)),
            ("tokenLife is longer than exp", Some(100), None, jwt_for(90), (90, too_long)),
            ("exp is smaller than expiresIn", None, Some(100), jwt_for(90), (90, None)),
            ("expiresIn is smaller than exp", None, Some(80), jwt_for(90), (80, None)),
            ("tokenLife is the smallest of the three", Some(70), Some(80), jwt_for(90), (70, None)),
            ("an exp in the past says that a clock is off", None, None, jwt_for(-10), (300, unknown)),
            ("an exp in the past leaves tokenLife", Some(60), None, jwt_for(-10), (60, None)),
            ("an exp of this very moment is as good as none", None, Some(60), jwt_for(0), (60, None)),
            ("an expiresIn of nothing is as good as none", None, Some(0), opaque.clone(), (300, unknown)),
            ("more than a year is not believed", None, Some(i64::MAX), opaque, (8760 * 3600, None)),
        ];
        for (case, token_life, expires_in, access_token, (length, warning)) in cases {
            let known = Known {
                issued_at: NOW,
                token_life: token_life.map(seconds),
                expires_in: expires_in.map(seconds),
                expires_at: None,
                access_token: &access_token,
            };
            assert_eq!(life::of(&known), Life { length: seconds(length), warning }, "{case}");
        }
    }

    #[test]
    fn exp_is_read_of_a_jwt_and_of_nothing_else() {
        let padded = format!("e30.{}.sig", URL_SAFE.encode(r#"{"exp":1767225601} "#));
        assert!(padded.contains('='), "the case is about padding");
        let at = |second| Some(Timestamp::from_second(second).expect("a time"));
        let cases = [
            ("a JWT", jwt(r#"{"exp":1767225601}"#), at(1_767_225_601)),
            ("a JWT with padding, which RFC 7515 forbids and some write", padded, at(1_767_225_601)),
            ("a fraction of a second", jwt(r#"{"exp":1767225601.9}"#), at(1_767_225_601)),
            ("a number as a power of ten", jwt(r#"{"exp":1.7672256e9}"#), at(1_767_225_600)),
            ("exp before 1970", jwt(r#"{"exp":-1}"#), at(-1)),
            ("exp beyond all times", jwt(r#"{"exp":99999999999999}"#), None),
            ("exp beyond all numbers", jwt(r#"{"exp":1e300}"#), None),
            ("exp as text", jwt(r#"{"exp":"1767225601"}"#), None),
            ("no exp", jwt("{}"), None),
            ("claims that are a list", jwt("[1]"), None),
            ("claims that are not JSON", jwt("exp"), None),
            ("claims nested too deep", jwt(&"[".repeat(60_000)), None),
            ("not base64", "e30.?.sig".to_owned(), None),
            ("two parts", jwt(r#"{"exp":1767225601}"#).replace(".sig", ""), None),
            ("five parts, an encrypted JWT", jwt(r#"{"exp":1767225601}"#) + ".a.b", None),
            ("an opaque token", "opaque".to_owned(), None),
            ("an empty token", String::new(), None),
        ];
        for (case, token, expected) in cases {
            assert_eq!(life::jwt_exp(&token), expected, "{case}");
        }
    }

    #[test]
    fn renew_before_is_kept_to_and_a_third_where_it_cannot_be() {
        let cases = [
            ("no renewBefore: a third", 3600, None, 1200),
            ("a renewBefore", 3600, Some(600), 600),
            ("a renewBefore just below the life", 3600, Some(3599), 3599),
            ("a renewBefore as long as the real life: a third", 60, Some(60), 20),
            ("a renewBefore longer than the real life: a third", 60, Some(600), 20),
        ];
        for (case, life, before, expected) in cases {
            let times = life::times("uid", NOW, seconds(life), before.map(seconds), Spread::Usual);
            let jitter = times.expires_at.duration_since(times.renew_at) - seconds(expected);
            assert!(!jitter.is_negative() && jitter <= seconds(life) / 10, "{case}: jitter {jitter:?}");
            assert!(times.renew_at > NOW, "{case}: the token is used for a while");
        }
    }

    #[test]
    fn tokens_of_one_age_spread_out() {
        for (spread, part) in [(Spread::Usual, 10), (Spread::Wide, 3)] {
            let renewal = |number| life::times(&format!("uid-{number}"), NOW, seconds(3600), None, spread).renew_at;
            let renewals: Vec<i64> = (0..1000).map(|number| renewal(number).as_second()).collect();
            // Ten slots over the part of the life: each gets its share.
            for slot in 0..10 {
                let width = 360 / part;
                let from = NOW.as_second() + 2400 - 3600 / part + slot * width;
                let here = renewals.iter().filter(|at| (from..from + width).contains(*at)).count();
                assert!((50..200).contains(&here), "{spread:?}: slot {slot} has {here} of 1000");
            }
        }
    }

    proptest! {
        #[test]
        fn with_defaults_at_least_half_of_a_life_is_used_a_third_of_the_first_and_never_all(
            uid in ".*", issued in -1_000_000_000_i64..4_000_000_000, millis in 1_i64..=31_536_000_000,
        ) {
            let (issued_at, life) = (Timestamp::from_second(issued).unwrap(), SignedDuration::from_millis(millis));
            for (spread, used) in [(Spread::Usual, life / 2), (Spread::Wide, life / 3)] {
                let times = life::times(&uid, issued_at, life, None, spread);
                prop_assert_eq!(times.issued_at, issued_at);
                prop_assert_eq!(times.expires_at.duration_since(issued_at), life);
                prop_assert!(times.renew_at.duration_since(issued_at) >= used - SignedDuration::from_millis(1));
                prop_assert!(times.renew_at < times.expires_at);
            }
        }

        #[test]
        fn a_renewal_is_between_issue_and_end_whatever_renew_before_says(
            uid in ".*", millis in 1_i64..=31_536_000_000, before_millis in 0_i64..=31_536_000_000,
        ) {
            let (life, before) = (SignedDuration::from_millis(millis), SignedDuration::from_millis(before_millis));
            for (spread, most) in [(Spread::Usual, life / 10), (Spread::Wide, life / 3)] {
                let times = life::times(&uid, NOW, life, Some(before), spread);
                prop_assert!(times.renew_at > NOW);
                prop_assert!(times.renew_at <= times.expires_at);
                let taken = if before < life { before } else { life / 3 };
                let jitter = times.expires_at.duration_since(times.renew_at) - taken;
                prop_assert!(!jitter.is_negative() && jitter <= most, "{:?}", jitter);
            }
        }

        #[test]
        fn the_jitter_is_the_same_for_one_uid(uid in ".*", life in 1_i64..=31_536_000) {
            let times = || life::times(&uid, NOW, seconds(life), None, Spread::Usual);
            prop_assert_eq!(times(), times());
            prop_assert!((0.0..=1.0).contains(&life::fraction(&uid)));
        }

        #[test]
        fn no_token_makes_exp_panic(token in "[A-Za-z0-9._=-]*|.*") {
            let _ = life::jwt_exp(&token);
        }
    }
}

mod host_patterns {
    use oauth_operator::oauth::reach::{HostPattern, Reach};

    #[test]
    fn a_pattern_admits_its_host_or_what_is_below_its_domain() {
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
            let reach = Reach { hosts, ..Reach::default() };
            let url = url::Url::parse(url).expect("a URL");
            assert_eq!(reach.judge(&url).is_ok(), admitted, "{pattern} and {url}");
        }
    }

    /// Found by fuzzing: what stands before a host was left out.
    #[test]
    fn what_is_no_host_is_no_pattern() {
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
            assert!(text.parse::<HostPattern>().is_err(), "{text:?} is taken");
        }
    }
}

mod durations {
    use super::*;
    use oauth_operator::api;

    #[test]
    fn what_the_api_server_takes_is_read() {
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
            let read: api::Duration = text.parse().unwrap_or_else(|problem| panic!("{problem}"));
            let (read, seconds) = (Duration::from(read), Duration::from_secs_f64(seconds));
            assert!(read.abs_diff(seconds) < Duration::from_nanos(10), "{text} is {read:?}");
        }
    }

    /// Found by fuzzing: kube's own reader panics where a number is negative or too large, and drops the sign of all.
    #[test]
    fn what_is_no_duration_or_too_long_is_told_as_such() {
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
            let problem = text.parse::<api::Duration>().expect_err(text);
            assert!(problem.contains("such as 90s or 1h30m"), "{text}: {problem}");
        }
    }
}

mod redaction {
    use super::*;

    const SECRET: &str = "s3cr et/ü\"&1";

    #[test]
    fn what_was_sent_is_taken_out_in_every_form() {
        let percent = "s3cr%20et%2F%C3%BC%22%261";
        let base64 = STANDARD_NO_PAD.encode(SECRET);
        let cases = [
            ("as it is", format!("no {SECRET}!"), "no [client_secret]!"),
            ("more than once", format!("{SECRET}{SECRET}"), "[client_secret][client_secret]"),
            ("as a form writes it", "no s3cr+et%2F%C3%BC%22%261!".to_owned(), "no [client_secret]!"),
            ("as a URL writes it", format!("no {percent}!"), "no [client_secret]!"),
            ("percent-encoded in small letters", format!("no {}!", percent.to_lowercase()), "no [client_secret]!"),
            ("as JSON writes it", r#"{"a":"s3cr et/ü\"&1"}"#.to_owned(), r#"{"a":"[client_secret]"}"#),
            ("as base64", format!("no {base64}!"), "no [client_secret]!"),
            ("with invisible marks inside", "no s3cr\u{200b} et/ü\u{7}\"&1!".to_owned(), "no [client_secret]!"),
        ];
        for (case, text, expected) in cases {
            assert_eq!(shown(&text, &members(&[("client_secret", SECRET)])), expected, "{case}");
        }
    }

    #[test]
    fn a_text_that_repeats_a_value_in_another_way_is_not_shown() {
        let secret = "hunter2-hunter2";
        let sent = members(&[("client_secret", secret)]);
        let escaped = |lead: &str, width: usize| -> String {
            secret.chars().map(|c| format!("{lead}{:0width$x}", u32::from(c))).collect()
        };
        let base64 = STANDARD_NO_PAD.encode(format!("a longer text with {secret} in it"));
        let cases = [
            ("each character escaped", escaped("\\u", 4)),
            ("escaped as in a program", escaped("\\x", 2)),
            ("some characters escaped", secret.replace('h', "\\u0068")),
            ("percent-encoded, each character", escaped("%", 2)),
            ("percent-encoded twice", escaped("%25", 2)),
            ("as HTML", secret.chars().map(|c| format!("&#{};", u32::from(c))).collect()),
            ("as HTML in hexadecimal", secret.chars().map(|c| format!("&#x{:x};", u32::from(c))).collect()),
            ("in hexadecimal", hex::encode(secret)),
            ("in hexadecimal between letters", format!("x{}FVoss", hex::encode(secret))),
            ("inside base64", base64.clone()),
            ("inside base64 whose beginning was cut off", base64[1..].to_owned()),
            ("inside base64 behind a name", format!("authorization={base64}")),
            ("inside base64 with more behind it", format!("{base64}=ter2")),
            ("inside base64 for URLs", base64.replace('+', "-").replace('/', "_")),
            ("behind the cut", format!("{} {}", "x".repeat(190), hex::encode(secret))),
        ];
        for (case, text) in cases {
            let result = shown(&format!("no: {text}"), &sent);
            assert_eq!(result, "[withheld: it repeats what was sent]", "{case}");
        }
        for harmless in
            ["the client is disabled", "trace 4bf92f3577b34da6a3ce929d0e0e4736", "50% of 100%", "a &amp; b \\u00e4"]
        {
            assert_eq!(shown(harmless, &sent), harmless);
        }
    }

    /// Found by the search for canaries: of a value in base64 all but its first character was shown.
    #[test]
    fn a_text_that_repeats_a_piece_of_a_value_is_not_shown() {
        let token = format!("eyJhbGciOiJSUzI1NiJ9.{}", "abcdefghijklmnop0123456789".repeat(20));
        let sent = members(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_secret", "hunter2-hunter2"),
            ("assertion", &token),
            ("scope", "customer order add.order"),
            ("resource", "https://orders.example.com/v1"),
        ]);
        let cases = [
            ("the beginning of a token", format!("the token {}... has expired", &token[..20])),
            ("a part of its middle", format!("bad segment {}", &token[100..112])),
            ("all but the first character", "no: unter2-hunter2".to_owned()),
            ("all but the first character, in base64", STANDARD_NO_PAD.encode("unter2-hunter2")),
        ];
        for (case, text) in cases {
            assert_eq!(shown(&text, &sent), "[withheld: it repeats what was sent]", "{case}");
        }
        for harmless in [
            "urn:ietf:params:oauth:token-type:jwt is not supported",
            "customer order is not allowed",
            "https://orders.example.com is not known",
            "hunter2 is not a client",
        ] {
            assert_eq!(shown(harmless, &sent), harmless);
        }
    }

    #[test]
    fn values_that_hold_others_are_taken_out_whole() {
        let sent = members(&[("client_id", "erp"), ("client_secret", "erp-secret"), ("username", "client")]);
        let cases = [
            ("the longest first", "erp-secret of erp", "[client_secret] of [client_id]"),
            ("what is put in is not looked at again", "client erp", "[username] [client_id]"),
        ];
        for (case, text, expected) in cases {
            assert_eq!(shown(text, &sent), expected, "{case}");
        }
    }

    #[test]
    fn a_value_with_a_line_break_is_taken_out_without_it_too() {
        let sent = members(&[("password", "word1234\n")]);
        assert_eq!(shown("word1234 is wrong", &sent), "[password] is wrong");
        assert_eq!(shown("word1234\nis wrong", &sent), "[password] is wrong");
    }

    /// Found by fuzzing.
    #[test]
    fn a_value_with_what_is_not_printable_is_found_without_it() {
        let sent = members(&[("password", "\u{1} \u{5}word1234\u{0}")]);
        assert_eq!(shown("word1234 is wrong", &sent), "[password] is wrong");
        let base64 = STANDARD_NO_PAD.encode("user:word1234");
        assert_eq!(shown(&base64, &sent), "[withheld: it repeats what was sent]");
    }

    #[test]
    fn a_text_is_cut_after_what_is_secret_was_taken_out() {
        let secret = "x".repeat(100);
        let text = format!("{}{secret}", "y".repeat(195));
        let result = shown(&text, &members(&[("password", &secret)]));
        assert!(!result.contains('x'), "half of a value would be shown: {result}");
        assert_eq!(result.chars().count(), 201);
        assert!(result.ends_with('…'));
        assert_eq!(shown(&"ü".repeat(200), &[]), "ü".repeat(200), "200 characters are not cut");
        assert_eq!(shown(&"ü".repeat(201), &[]), format!("{}…", "ü".repeat(200)));
    }

    #[test]
    fn what_is_not_printable_is_left_out() {
        let cases = [
            ("control characters", "a\u{0}b\u{1b}[31mc\u{7f}\u{9b}d", "ab[31mcd"),
            ("line breaks and tabs become blanks", "a\r\nb\tc\u{2028}d", "a  b c d"),
            ("marks that turn the text around", "a\u{202e}b\u{2066}c\u{2069}d", "abcd"),
            ("marks of no width", "a\u{200b}b\u{feff}c\u{200f}d", "abcd"),
            ("letters of all scripts stay", "Schlüssel 鍵 🔑", "Schlüssel 鍵 🔑"),
        ];
        for (case, text, expected) in cases {
            assert_eq!(shown(text, &[]), expected, "{case}");
        }
    }

    #[test]
    fn the_grant_type_and_empty_values_are_no_secrets() {
        let sent = members(&[("grant_type", "refresh_token"), ("client_secret", "")]);
        assert_eq!(shown("refresh_token is not supported", &sent), "refresh_token is not supported");
    }

    proptest! {
        #[test]
        fn no_value_that_was_sent_is_ever_shown(secret in "[!-~]{4,40}", before in "[a-z ]*", after in "[a-z ]*") {
            let sent = members(&[("p", &secret)]);
            let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            for echoed in [&secret, &form] {
                let result = shown(&format!("{before} {echoed} {after}"), &sent);
                prop_assert!(!result.contains(secret.as_str()) || "[p]".contains(&secret), "{}", result);
            }
        }
    }
}

mod answers {
    use super::*;

    fn raw(status: u16, body: &str) -> Raw {
        raw_with(status, &[], body)
    }

    fn raw_with(status: u16, headers: &[(&str, &str)], body: &str) -> Raw {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Raw { status, headers, body: body.as_bytes().to_vec().into() }
    }

    fn read(raw: &Raw, ask: &Ask) -> Result<Answer, Failure> {
        let sent = members(&[("client_id", "the-client"), ("client_secret", "the-client-secret")]);
        response::read(raw, ask, &sent, NOW, &Evaluated::default())
    }

    fn failure(raw: &Raw, ask: &Ask) -> Failure {
        read(raw, ask).err().unwrap_or_else(|| panic!("{} was taken for a token", raw.status))
    }

    #[test]
    fn a_token_is_found_where_the_spec_says() {
        let rfc = r#"{"access_token":"at","refresh_token":"rt","expires_in":120,"token_type":"Bearer","scope":"a b"}"#;
        let cases = [
            ("the members of RFC 6749", rfc, Some("rt"), Some(120)),
            ("only an access token", r#"{"access_token":"at"}"#, None, None),
            ("an empty refresh token", r#"{"access_token":"at","refresh_token":""}"#, None, None),
            ("null", r#"{"access_token":"at","refresh_token":null,"expires_in":null}"#, None, None),
            ("expires_in as text", r#"{"access_token":"at","expires_in":" 120 "}"#, None, Some(120)),
            ("expires_in of zero", r#"{"access_token":"at","expires_in":0}"#, None, None),
            ("expires_in below zero", r#"{"access_token":"at","expires_in":-5}"#, None, None),
            ("expires_in that is no number", r#"{"access_token":"at","expires_in":"soon"}"#, None, None),
            ("expires_in of the wrong type", r#"{"access_token":"at","expires_in":{}}"#, None, None),
            ("expires_in beyond all numbers", r#"{"access_token":"at","expires_in":1e300}"#, None, None),
            ("expires_in that is not a number", r#"{"access_token":"at","expires_in":"NaN"}"#, None, None),
            ("an error beside a token", r#"{"access_token":"at","error":"none"}"#, None, None),
            ("a list with one object in it", r#"[{"access_token":"at"}]"#, None, None),
        ];
        for (case, body, refresh, life) in cases {
            let answer = read(&raw(200, body), &ask(json!({}))).unwrap_or_else(|why| panic!("{case}: {why:?}"));
            assert_eq!(answer.access_token.expose_secret(), "at", "{case}");
            assert_eq!(answer.refresh_token.as_ref().map(ExposeSecret::expose_secret), refresh, "{case}");
            assert_eq!(answer.expires_in, life.map(seconds), "{case}");
        }
        let answer = read(&raw(201, rfc), &ask(json!({}))).expect("201 is as good as 200");
        assert_eq!((answer.token_type.as_deref(), answer.scope.as_deref()), (Some("Bearer"), Some("a b")));
    }

    #[test]
    fn a_body_of_another_shape_is_read_by_its_expressions() {
        let body = json!({"data": {
            "session": {"jwt": "at"},
            "tokens": [{"kind": "id", "value": "it"}, {"kind": "refresh", "value": "rt"}],
            "ttl": 2,
        }});
        let ask = ask(json!({"response": {
            "accessToken": "data.session.jwt",
            "refreshToken": "data.tokens[kind='refresh'].value",
            "expiresIn": "data.ttl * 60",
        }}));
        let answer = read(&raw(200, &body.to_string()), &ask).expect("a token");
        assert_eq!(answer.access_token.expose_secret(), "at");
        assert_eq!(answer.refresh_token.expect("a refresh token").expose_secret(), "rt");
        assert_eq!(answer.expires_in, Some(seconds(120)));
    }

    #[test]
    fn an_answer_without_a_usable_token_says_where_it_was_looked_for() {
        let nested = "[".repeat(60_000);
        let cases: &[(&str, &str, &[&str])] = &[
            ("an empty body", "", &["is empty", "spec.tokenEndpoint"]),
            ("a page of HTML", "<html>", &["is not JSON", "spec.tokenEndpoint"]),
            ("JSON nested 60,000 deep", &nested, &["is not JSON"]),
            ("bytes that follow the JSON", r#"{"access_token":"at"} trailing"#, &["is not JSON"]),
            ("no access token", "{}", &["spec.response.accessToken (access_token) yields nothing"]),
            ("an error with 200", r#"{"ok":false,"error":"invalid_auth"}"#, &["yields nothing", "invalid_auth"]),
            (
                "an error with its description",
                r#"{"error":"e1","error_description":"the-client-secret is old"}"#,
                &["e1: [client_secret] is old"],
            ),
            ("null", r#"{"access_token":null}"#, &["yields nothing"]),
            ("an empty token", r#"{"access_token":""}"#, &["yields nothing"]),
            ("a number", r#"{"access_token":12345678}"#, &["a number instead of a string"]),
            ("a boolean", r#"{"access_token":true}"#, &["a boolean instead of a string"]),
            ("a list", r#"{"access_token":["a","b"]}"#, &["a list instead of a string"]),
            ("an object", r#"{"access_token":{"value":"x"}}"#, &["an object instead of a string"]),
            ("a line break", r#"{"access_token":"a\r\nX-Injected: b"}"#, &["characters", "RFC 6749"]),
            ("a NUL", r#"{"access_token":"a\u0000b"}"#, &["characters", "RFC 6749"]),
            ("a letter that is not ASCII", r#"{"access_token":"schlüssel"}"#, &["characters", "RFC 6749"]),
            (
                "a refresh token of the wrong type",
                r#"{"access_token":"at","refresh_token":7}"#,
                &["spec.response.refreshToken"],
            ),
            ("a body that is a text", r#""access_token""#, &["yields nothing"]),
        ];
        for (case, body, expected) in cases {
            let failure = failure(&raw(200, body), &ask(json!({})));
            assert_eq!((failure.reason, failure.retry_after), (Reason::InvalidResponse, None), "{case}");
            for part in *expected {
                assert!(failure.message.contains(part), "{case}: {}", failure.message);
            }
        }
    }

    #[test]
    fn the_refresh_token_of_an_answer_that_is_of_no_use_is_handed_on() {
        let cases = [
            ("no access token", 200, r#"{"refresh_token":"rt-1"}"#, Some("rt-1")),
            ("an access token of the wrong type", 200, r#"{"access_token":5,"refresh_token":"rt-1"}"#, Some("rt-1")),
            ("a refresh token of the wrong type", 200, r#"{"access_token":"at","refresh_token":5}"#, None),
            ("a refresh token with a line break", 200, r#"{"refresh_token":"rt\n1"}"#, None),
            ("neither", 200, "{}", None),
            ("a refusal", 400, r#"{"refresh_token":"rt-1"}"#, None),
        ];
        for (case, status, body, expected) in cases {
            let failure = failure(&raw(status, body), &ask(json!({"grantType": "refresh_token"})));
            assert!(!format!("{failure:?}").contains("rt-1"), "{case}: {failure:?}");
            let kept = failure.refresh_token.as_ref().map(|kept| kept.0.expose_secret());
            assert_eq!(kept, expected, "{case}");
        }
    }

    #[test]
    fn nothing_of_a_body_is_shown_but_its_error() {
        let bodies = [
            r#"{"access_token":["hidden"],"refresh_token":"hidden"}"#,
            r#"{"access_token":{"hidden":"hidden"}}"#,
            r#"{"access_token":"hid\nden hidden"}"#,
            r#"{"access_token":5,"id_token":"hidden","error":"shown","message":"hidden"}"#,
            "hidden",
        ];
        for body in bodies {
            for status in [200, 302, 400, 401, 429, 500] {
                let message = failure(&raw(status, body), &ask(json!({}))).message;
                assert!(!message.contains("hid"), "{status} {body}: {message}");
            }
        }
    }

    #[test]
    fn each_status_has_its_class() {
        let (refused, passing) = (Class::Refused, Class::Passing);
        let cases: &[(u16, Reason, Class)] = &[
            (199, Reason::RequestRefused, refused),
            (301, Reason::Redirected, refused),
            (302, Reason::Redirected, refused),
            (307, Reason::Redirected, refused),
            (400, Reason::RequestRefused, refused),
            (401, Reason::RequestRefused, refused),
            (403, Reason::RequestRefused, refused),
            (404, Reason::RequestRefused, refused),
            (408, Reason::EndpointUnavailable, passing),
            (415, Reason::RequestRefused, refused),
            (429, Reason::EndpointUnavailable, passing),
            (500, Reason::EndpointUnavailable, passing),
            (503, Reason::EndpointUnavailable, passing),
            (599, Reason::EndpointUnavailable, passing),
        ];
        for (status, reason, class) in cases {
            let failure = failure(&raw(*status, r#"{"access_token":"at"}"#), &ask(json!({})));
            assert_eq!((failure.reason, failure.reason.class()), (*reason, *class), "{status}");
            assert!(failure.message.contains(&status.to_string()), "{status}: {}", failure.message);
        }
    }

    #[test]
    fn a_refusal_says_what_to_change() {
        let form = json!({"request": {"format": "form"}});
        let json_ = json!({});
        let cases: &[(&str, &Value, u16, &str, &str)] = &[
            ("JSON is no valid request", &json_, 400, "invalid_request", "spec.request.format: form"),
            ("JSON has no grant type", &json_, 400, "unsupported_grant_type", "spec.request.format: form"),
            ("JSON is no media type", &json_, 415, "x", "spec.request.format: form"),
            ("a form has no grant type", &form, 400, "unsupported_grant_type", "spec.request.format: json"),
            ("a form is no media type", &form, 415, "x", "spec.request.format: json"),
            ("the client is not known", &form, 401, "invalid_client", "client secret in the credentials Secret"),
            (
                "the client is not allowed",
                &json_,
                400,
                "unauthorized_client",
                "client secret in the credentials Secret",
            ),
            ("401 in other words", &json_, 401, "x", "client secret in the credentials Secret"),
            ("there is nothing", &json_, 404, "x", "spec.tokenEndpoint"),
            ("there is no POST", &json_, 405, "x", "spec.tokenEndpoint"),
        ];
        for (case, spec, status, error, expected) in cases {
            let body = json!({"error": error, "error_description": "why"}).to_string();
            let message = failure(&raw(*status, &body), &ask((*spec).clone())).message;
            assert!(message.contains(expected), "{case}: {message}");
            assert!(message.contains(&format!("{error}: why")), "{case}: {message}");
        }
    }

    #[test]
    fn the_words_of_the_rfc_are_shown_whatever_was_sent() {
        let sent = members(&[("client_id", "client"), ("scope", "invalid")]);
        let body = r#"{"error":"invalid_client","error_description":"client is unknown"}"#;
        let failure =
            response::read(&raw(400, body), &ask(json!({})), &sent, NOW, &Evaluated::default()).expect_err("a failure");
        assert!(failure.message.contains("invalid_client: [client_id] is unknown"), "{}", failure.message);
        assert!(failure.message.contains("credentials Secret"), "{}", failure.message);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let day = 86_400;
        let cases: &[(&str, &str, Option<u64>)] = &[
            ("seconds", "30", Some(30)),
            ("no time at all", "0", Some(0)),
            ("blanks around", " 30 ", Some(30)),
            ("a date", "Thu, 01 Jan 2026 00:01:30 GMT", Some(90)),
            ("a date that has passed", "Wed, 31 Dec 2025 23:59:00 GMT", None),
            ("more than a day", "100000", Some(day)),
            ("a date beyond a day", "Thu, 01 Jan 2032 00:00:00 GMT", Some(day)),
            ("below zero", "-5", None),
            ("nothing", "", None),
            ("words", "in a while", None),
            ("more than a number holds", "99999999999999999999999", None),
        ];
        for (case, header, expected) in cases {
            for status in [400, 429, 503] {
                let raw = raw_with(status, &[("retry-after", header)], "");
                let asked = failure(&raw, &ask(json!({}))).retry_after;
                assert_eq!(asked, expected.map(Duration::from_secs), "{case} with {status}");
            }
        }
    }

    #[test]
    fn a_date_is_counted_by_the_clock_of_the_endpoint() {
        let ahead = "Thu, 01 Jan 2026 01:00:00 GMT";
        let raw = raw_with(503, &[("retry-after", "Thu, 01 Jan 2026 01:01:30 GMT"), ("date", ahead)], "");
        assert_eq!(failure(&raw, &ask(json!({}))).retry_after, Some(Duration::from_secs(90)));
        let raw = raw_with(200, &[("date", ahead)], r#"{"access_token": "a"}"#);
        let answer = read(&raw, &ask(json!({}))).expect("an answer");
        assert_eq!(answer.date, Some("2026-01-01T01:00:00Z".parse().expect("a time")));
    }

    #[test]
    fn invalid_grant_is_known_as_such() {
        for (error, known) in [("invalid_grant", true), ("invalid_client", false)] {
            let failure = failure(&raw(400, &json!({"error": error}).to_string()), &ask(json!({})));
            assert_eq!(failure.invalid_grant, known, "{error}");
        }
        assert!(
            !failure(&raw(500, r#"{"error": "invalid_grant"}"#), &ask(json!({}))).invalid_grant,
            "a server in trouble"
        );
    }

    proptest! {
        #[test]
        fn no_answer_makes_reading_panic(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..200), header in prop::option::of(".*")) {
            let headers = header.map(|value| ("retry-after".to_owned(), value)).into_iter().collect();
            let _ = read(&Raw { status, headers, body: body.into() }, &ask(json!({})));
        }
    }
}

mod expressions {
    use super::*;

    fn evaluated(text: &str, body: &str) -> Result<JValue, String> {
        let body = JValue::from_json_str(body).expect("JSON");
        Expression::parse(text).unwrap_or_else(|why| panic!("{text}: {why}")).evaluate(&body, NONE)
    }

    const NONE: Bindings<'static> = Bindings { status: 200, headers: &[] };

    #[test]
    fn a_path_of_names_needs_no_thread_of_its_own() {
        for (text, is_path) in [
            ("access_token", true),
            ("data.token", true),
            ("a.b.c_1", true),
            ("", false),
            ("a.", false),
            ("1a", false),
            ("a[0]", false),
            ("$f()", false),
            ("a & b", false),
            ("a.*", false),
            ("a.**", false),
            ("`a b`", false),
        ] {
            let parsed = Expression::parse(text);
            assert_eq!(parsed.is_ok_and(|expression| expression.is_path()), is_path, "{text}");
        }
    }

    #[test]
    fn bodies_of_all_shapes_can_be_read() {
        let cases = [
            ("a path", "data.token", r#"{"data":{"token":"at"}}"#),
            ("a name that needs quoting", "`x-token`", r#"{"x-token":"at"}"#),
            (
                "a filter",
                "tokens[kind='access'].value",
                r#"{"tokens":[{"kind":"id","value":"x"},{"kind":"access","value":"at"}]}"#,
            ),
            ("the first of several", "tokens[0]", r#"{"tokens":["at","x"]}"#),
            ("one or the other", "token ? token : jwt", r#"{"jwt":"at"}"#),
            ("a part of a text", "$substringAfter(header, 'Bearer ')", r#"{"header":"Bearer at"}"#),
        ];
        for (case, text, body) in cases {
            let value = evaluated(text, body).unwrap_or_else(|why| panic!("{case}: {why}"));
            assert_eq!(value.as_str(), Some("at"), "{case}");
        }
    }

    #[test]
    fn what_does_not_parse_is_refused_with_the_field() {
        for text in ["data.", "[", "$$(", "a b", "\"open", "{"] {
            assert!(Expression::parse(text).is_err(), "{text} parses");
            for field in ["accessToken", "refreshToken", "expiresIn"] {
                let spec = json!({
                    "tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials",
                    "credentials": {"secretName": "credentials"}, "response": {field: text},
                });
                let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
                let message = Validated::parse("it", &spec).expect_err("no expression");
                assert!(message.contains(&format!("spec.response.{field}")), "{text}: {message}");
            }
        }
    }

    #[test]
    fn what_does_not_parse_is_refused_with_its_code_and_its_place() {
        let cases = [
            ("data.", "S0207", 5),
            ("[", "S0207", 1),
            ("a b", "S0201", 3),
            ("tokens[kind=].value", "S0", 13),
            ("\"open", "S0101", 5),
            ("a.b.(c", "S0203", 6),
            ("token)", "S0201", 6),
            ("a + * b", "S0201", 7),
            ("a ? b :", "S0207", 7),
            ("tokens[0", "S0203", 8),
            ("`open", "S0105", 5),
            ("ü.ö b", "S0201", 5),
        ];
        for (text, code, place) in cases {
            let message = Expression::parse(text).expect_err(text);
            assert!(message.contains(code), "{text}: {message}");
            assert!(message.ends_with(&format!("(at character {place})")), "{text}: {message}");
        }
    }

    #[test]
    fn a_text_nested_deep_is_refused_or_read_but_ends_nothing() {
        for (open, close) in [("(", ")"), ("[", "]"), ("{\"a\":", "}"), ("-", "1"), ("$not(", ")")] {
            // 4,096 characters are the most that the API admits.
            let depth = 4096 / (open.len() + close.len());
            let _ = Expression::parse(&format!("{}1{}", open.repeat(depth), close.repeat(depth)));
        }
    }

    #[test]
    fn an_evaluation_that_fails_shows_the_code_and_no_value() {
        let body = r#"{"token":"hidden","list":["hidden"]}"#;
        for text in ["token + 1", "$number(token)", "$error(token)", "token()", "$sum(list)", "$toMillis(token)"] {
            let error = evaluated(text, body).expect_err(text);
            assert!(!error.contains("hidden"), "{text}: {error}");
            assert!(error.contains("JSONata error"), "{text}: {error}");
        }
        let ask = ask(json!({"response": {"accessToken": "$number(token)"}}));
        let raw = Raw { status: 200, headers: vec![], body: body.as_bytes().to_vec().into() };
        let failure = response::read(&raw, &ask, &[], NOW, &Evaluated::default()).expect_err("a failure");
        assert!(failure.message.contains("spec.response.accessToken ($number(token))"), "{}", failure.message);
        assert!(!failure.message.contains("hidden"), "{}", failure.message);
    }

    #[test]
    fn what_would_never_end_is_ended() {
        let cases = [
            ("recursion without an end", "($f := function($x) { $f($x + 1) + 1 }; $f(1))"),
            ("recursion in the last place", "($f := function($x) { $f($x + 1) }; $f(1))"),
            ("a list too long", "[1..9999999]"),
            ("lists of lists", "[1..3000].[1..3000]"),
            ("a pattern that looks back", "$match($join([1..40].'a') & '!', /^(a+)+$/)"),
        ];
        for (case, text) in cases {
            let started = Instant::now();
            let _ = evaluated(text, "{}");
            assert!(started.elapsed() < Duration::from_secs(5), "{case}: {:?}", started.elapsed());
        }
    }

    #[test]
    fn an_answer_is_not_run_as_an_expression() {
        let body = r#"{"access_token":"($f := function() { $f() }; $f())"}"#;
        let value = evaluated("access_token", body).expect("a value");
        assert_eq!(value.as_str(), Some("($f := function() { $f() }; $f())"));
    }
}

#[test]
fn a_refusal_names_what_this_grant_has_sent() {
    for (grant, error, advice) in [
        ("client_credentials", "invalid_client", "client id and client secret"),
        ("user_password", "invalid_client", "user name and password"),
        ("refresh_token", "invalid_client", "client id and client secret"),
        ("refresh_token", "invalid_grant", "put a new one into the credentials Secret"),
    ] {
        let spec: OAuthIntegrationSpec = serde_json::from_value(json!({
            "tokenEndpoint": "https://login.example.com/token",
            "grantType": grant,
            "credentials": {"secretName": "credentials"},
        }))
        .expect("a spec");
        let ask = Validated::parse("it", &spec).expect("a valid spec").ask;
        let raw = Raw { status: 400, headers: vec![], body: json!({"error": error}).to_string().into_bytes().into() };
        let failure =
            response::read(&raw, &ask, &[], Timestamp::UNIX_EPOCH, &Evaluated::default()).expect_err("a refusal");
        assert!(failure.message.contains(advice), "{grant}, {error}: {}", failure.message);
    }
}
