//! Values that were sent are never shown, in whatever encoding an endpoint repeats them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use oauth_operator::oauth::redaction::redact::redact;
use proptest::prelude::*;
use test_support::cpu::thread_time;

use super::members;

const SECRET: &str = "s3cr et/ü\"&1";
const WITHHELD: &str = "[withheld: it repeats data from the request]";

#[test]
fn a_text_that_repeats_a_secret_in_any_encoding_is_withheld() {
    let percent = "s3cr%20et%2F%C3%BC%22%261";
    let base64 = STANDARD_NO_PAD.encode(SECRET);
    let cases = [
        ("unchanged", format!("no {SECRET}!")),
        ("more than once", format!("{SECRET}{SECRET}")),
        ("form-encoded", "no s3cr+et%2F%C3%BC%22%261!".to_owned()),
        ("percent-encoded", format!("no {percent}!")),
        ("percent-encoded in lower case", format!("no {}!", percent.to_lowercase())),
        ("as a JSON string", r#"{"a":"s3cr et/ü\"&1"}"#.to_owned()),
        ("as base64", format!("no {base64}!")),
        ("with invisible characters inside", "no s3cr\u{200b} et/ü\u{7}\"&1!".to_owned()),
    ];
    for (case, text) in cases {
        assert_eq!(redact(&text, &members(&[("client_secret", SECRET)])), WITHHELD, "{case}");
    }
}

#[test]
fn a_short_secret_is_withheld_too() {
    let sent = members(&[("password", "w/rd")]);
    for text in
        ["no w/rd!", "no w%2Frd!", "no w%2frd!", r"no w\/rd!", "no dy9yZA!", "no dTp3L3Jk", "no u0077/rd \\u0077/rd"]
    {
        assert_eq!(redact(text, &sent), WITHHELD, "{text}");
    }
    assert_eq!(redact("no!", &members(&[("password", "!")])), WITHHELD);
    assert_eq!(redact("no", &members(&[("password", "!")])), "no");
}

#[test]
fn a_text_that_repeats_a_value_in_another_encoding_is_not_shown() {
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
        ("inside base64 whose start was cut off", base64[1..].to_owned()),
        ("inside base64 after a name", format!("authorization={base64}")),
        ("inside base64 with a suffix", format!("{base64}=ter2")),
        ("inside base64 for URLs", base64.replace('+', "-").replace('/', "_")),
        ("beyond the length limit", format!("{} {}", "x".repeat(190), hex::encode(secret))),
    ];
    for (case, text) in cases {
        let result = redact(&format!("no: {text}"), &sent);
        assert_eq!(result, WITHHELD, "{case}");
    }
    for harmless in
        ["the client is disabled", "trace 4bf92f3577b34da6a3ce929d0e0e4736", "50% of 100%", "a &amp; b \\u00e4"]
    {
        assert_eq!(redact(harmless, &sent), harmless);
    }
}

/// Found by the search for canaries: all but the first character of a value in base64 was shown.
#[test]
fn a_text_that_repeats_a_part_of_a_value_is_not_shown() {
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
        ("the start of a token", format!("the token {}... has expired", &token[..20])),
        ("a part of its middle", format!("bad segment {}", &token[100..112])),
        ("all but the first character", "no: unter2-hunter2".to_owned()),
        ("all but the first character, in base64", STANDARD_NO_PAD.encode("unter2-hunter2")),
    ];
    for (case, text) in cases {
        assert_eq!(redact(&text, &sent), WITHHELD, "{case}");
    }
    for harmless in [
        "urn:ietf:params:oauth:token-type:jwt is not supported",
        "customer order is not allowed",
        "https://orders.example.com is not known",
        "hunter2 is not a client",
    ] {
        assert_eq!(redact(harmless, &sent), harmless);
    }
}

#[test]
fn a_text_that_repeats_an_obfuscated_secret_is_not_shown() {
    let secret = "Kq7-Rw2x.Tb9_Zm4v";
    let sent = members(&[("client_id", "erp"), ("client_secret", secret), ("password", "hunter2")]);
    let reversed: String = secret.chars().rev().collect();
    let spaced: String = secret.chars().flat_map(|c| [c, ' ']).collect();
    let twice = |text: &str| STANDARD_NO_PAD.encode(STANDARD_NO_PAD.encode(text));
    let wide: String = "kq7rw2xtb9zm4v".chars().filter_map(|c| char::from_u32(u32::from(c) + 0xfee0)).collect();
    let cases = [
        ("in lower case", secret.to_lowercase()),
        ("in capital letters", secret.to_uppercase()),
        ("separated by spaces", spaced),
        ("without its punctuation", secret.replace(['-', '.', '_'], "")),
        ("with other punctuation", secret.replace(['-', '.', '_'], "/")),
        ("backwards", reversed.clone()),
        ("backwards in capital letters", reversed.to_uppercase()),
        ("in full-width letters", wide),
        ("its first half", secret[..10].to_owned()),
        ("in base64 twice", twice(secret)),
        ("in hexadecimal of base64", hex::encode(STANDARD_NO_PAD.encode(secret))),
        ("in base64 of hexadecimal", STANDARD_NO_PAD.encode(hex::encode(secret))),
        (
            "in base64, percent-encoded",
            STANDARD_NO_PAD.encode(secret).bytes().map(|byte| format!("%{byte:02x}")).collect(),
        ),
        ("in lower case, in base64", STANDARD_NO_PAD.encode(secret.to_lowercase())),
        ("masked in the middle", "Kq7****m4v".to_owned()),
        ("masked after its start", "secret=Kq7R...".to_owned()),
        ("masked before its end", "the secret ****Zm4v".to_owned()),
        ("with an ellipsis", "Kq7…4v".to_owned()),
        ("a short one in capital letters", "HUNTER2 is wrong".to_owned()),
        ("a short one separated by spaces", "h u n t e r 2".to_owned()),
    ];
    for (case, text) in cases {
        assert_eq!(redact(&format!("no: {text}"), &sent), WITHHELD, "{case}");
    }
    for harmless in [
        "the client is not allowed to use this grant type... see https://login.example.com/docs",
        "AADSTS700016: application was not found in the directory 'Contoso'",
        "rate limit exceeded -- try again in 30 s",
        "scope orders.read is not granted **",
    ] {
        assert_eq!(redact(harmless, &sent), harmless);
    }
}

/// The work is bounded by the searched part of a text and by the total size of the values that were sent.
#[test]
fn many_values_and_a_long_text_are_redacted_cheaply() {
    let big = "ab1".repeat(40_000);
    let sent = members(&[("client_secret", &big)]);
    let text = "the token endpoint has failed for reasons of its own; ".repeat(2_000);
    let started = thread_time();
    for _ in 0..20 {
        assert!(redact(&text, &sent).starts_with("the token endpoint has failed"));
    }
    let spent = thread_time() - started;
    assert!(spent < Duration::from_secs(4), "{spent:?} of CPU time");
    // Non-ASCII characters and escapes.
    let sent = members(&[("client_secret", &"aü1".repeat(30_000)), ("password", "!")]);
    let text = "\\/%41ü".repeat(500);
    let started = thread_time();
    for _ in 0..20 {
        assert!(redact(&text, &sent).starts_with("\\/%41ü"));
    }
    let spent = thread_time() - started;
    assert!(spent < Duration::from_secs(4), "{spent:?} of CPU time");
    let more = members(&[("client_secret", &"ab1".repeat(50_000))]);
    assert_eq!(redact("anything", &more), WITHHELD);
}

#[test]
fn client_id_scope_and_resource_are_not_secret() {
    let public =
        [("client_id", "erp-client-4711"), ("scope", "orders.read"), ("resource", "https://orders.example.com")];
    let text = "client erp-client-4711 may not use orders.read at https://orders.example.com";
    assert_eq!(redact(text, &members(&public)), text);
    let with_secret = [&public[..], &[("client_secret", "erp-client-4711-secret")]].concat();
    assert_eq!(redact(text, &members(&with_secret)), WITHHELD, "a fragment of the secret");
}

#[test]
fn a_username_is_withheld_as_a_whole() {
    let sent = members(&[("username", "joerg@company.example")]);
    for text in ["no joerg@company.example", "no joerg%40company.example"] {
        assert_eq!(redact(text, &sent), WITHHELD);
    }
    assert_eq!(redact("no user of company.example", &sent), "no user of company.example");
}

#[test]
fn a_value_with_a_line_break_is_also_redacted_without_it() {
    let sent = members(&[("password", "word1234\n")]);
    assert_eq!(redact("word1234 is wrong", &sent), WITHHELD);
    assert_eq!(redact("word1234\nis wrong", &sent), WITHHELD);
}

/// Found by fuzzing.
#[test]
fn a_value_with_unprintable_characters_is_found_without_them() {
    let sent = members(&[("password", "\u{1} \u{5}word1234\u{0}")]);
    assert_eq!(redact("word1234 is wrong", &sent), WITHHELD);
    let base64 = STANDARD_NO_PAD.encode("user:word1234");
    assert_eq!(redact(&base64, &sent), WITHHELD);
}

/// Found by fuzzing: many servers drop non-ASCII characters, before they repeat a secret or from the whole text.
#[test]
fn a_secret_is_found_without_its_non_ascii_characters() {
    let cases = [
        ("as fuzzing found it, backwards", "hux @=r1&@=@4e hunturA8tnurɡunuN", "no: unurunt8x"),
        ("a piece", "hüntёr-zwei-鍵-drei", "no: ntr-zwei"),
        ("full-width letters dropped", "hunterＡ2hunt", "no: hunter2h"),
        ("also dropped from the text", "hunterλ2hunt", "no: hunטter2h"),
        ("kept in the text", "hunterλ2hunt", "no: λ2hunt unterλ2h"),
        ("a short one, whole", "pässwört", "no: psswrt"),
        ("a short one, backwards", "pässwört", "no: trwssp"),
        ("a piece with punctuation", "$%&§/()=?!", "no: $%&/()=?"),
        ("a short one with punctuation", "§p$&/()§", "no: p$&/()"),
        ("masked", "häunter2", "no: hun***"),
        ("in base64", "hunterλ2hunt", &STANDARD_NO_PAD.encode("user:hunter2hunt")),
    ];
    for (case, secret, text) in cases {
        let result = redact(text, &members(&[("client_secret", secret)]));
        assert_eq!(result, WITHHELD, "{case}");
    }
    let sent = members(&[("client_secret", "пароль-鍵-short"), ("username", "jörg@company.example")]);
    for harmless in ["too short", "the pass word", "a user of @company.example", "Schlüssel 鍵 🔑"] {
        assert_eq!(redact(harmless, &sent), harmless);
    }
}

/// In earlier versions, a reader who decodes the text according to its format could see each of these secrets.
#[test]
fn a_secret_is_found_through_every_escape_of_json_html_and_urls() {
    let base64 = |text: &str| STANDARD_NO_PAD.encode(text);
    let cases = [
        ("a slash as escaped by PHP", "a/b/c/", r"no: a\/b\/c\/".to_owned()),
        ("quotes next to such a slash", r#"a"b/c""#, r#"no: a\"b\/c\""#.to_owned()),
        ("backslashes next to such a slash", r"a\b/c\", r"no: a\\b\/c\\".to_owned()),
        ("a line break inside", "hunter2-hunter2", r"no: hunter\n2hunter".to_owned()),
        ("a surrogate pair inside", "hunter2-hunter2", r"no: hunt\ud83d\ude00er2h".to_owned()),
        ("half of a pair inside", "hunter2-hunter2", r"no: hunt\ud83der2h".to_owned()),
        ("an escape of HTML next to one of JSON", "hunt65hunter2", r"no: hun\u0074&#65;hun".to_owned()),
        ("HTML entity names", "hun&ter<2hun>ter", "no: hun&amp;ter&lt;2h".to_owned()),
        ("a literal plus", "!+!+!!", "no: %21+!+!!".to_owned()),
        ("a NUL inside base64", "hunter2-hunter2", base64("hunt\u{0}er2h")),
        ("a zero-width character", "$%&\u{200b}/()=?!", "no: $%&/()=?".to_owned()),
    ];
    for (case, secret, text) in cases {
        let result = redact(&text, &members(&[("client_secret", secret)]));
        assert_eq!(result, WITHHELD, "{case}");
    }
}

#[test]
fn a_text_is_truncated_after_redaction() {
    let secret = "x".repeat(100);
    let text = format!("{}{secret}", "y".repeat(195));
    let result = redact(&text, &members(&[("password", &secret)]));
    assert_eq!(result, WITHHELD, "a part of a value would be shown");
    assert_eq!(redact(&"ü".repeat(500), &[]), "ü".repeat(500), "200 characters are not truncated");
    assert_eq!(redact(&"ü".repeat(501), &[]), format!("{}…", "ü".repeat(500)));
}

#[test]
fn unprintable_characters_are_removed() {
    let cases = [
        ("control characters", "a\u{0}b\u{1b}[31mc\u{7f}\u{9b}d", "ab[31mcd"),
        ("line breaks and tabs become spaces", "a\r\nb\tc\u{2028}d", "a  b c d"),
        ("characters that reverse the text direction", "a\u{202e}b\u{2066}c\u{2069}d", "abcd"),
        ("zero-width characters", "a\u{200b}b\u{feff}c\u{200f}d", "abcd"),
        ("letters of all scripts are kept", "Schlüssel 鍵 🔑", "Schlüssel 鍵 🔑"),
    ];
    for (case, text, expected) in cases {
        assert_eq!(redact(text, &[]), expected, "{case}");
    }
}

#[test]
fn the_grant_type_and_empty_values_are_not_secret() {
    let sent = members(&[("grant_type", "refresh_token"), ("client_secret", "")]);
    assert_eq!(redact("refresh_token is not supported", &sent), "refresh_token is not supported");
}

proptest! {
    #[test]
    fn a_value_that_was_sent_is_never_shown(secret in "[!-~]{4,40}", before in "[a-z ]*", after in "[a-z ]*") {
        let sent = members(&[("p", &secret)]);
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for echoed in [&secret, &form] {
            let result = redact(&format!("{before} {echoed} {after}"), &sent);
            prop_assert_eq!(result, WITHHELD);
        }
    }
}
