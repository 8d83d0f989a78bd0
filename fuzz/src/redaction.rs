//! What of a foreign text may be shown. The input: a secret, an empty line, a text in which `@0` to `@9` stand for the secret,
//! written in one way or another.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oauth_operator::oauth::redact::shown;

use crate::head_and_body;

/// What stands in for the secret.
const NAME: &str = "[the_name]";
/// The longest text that is shown, in characters, and the mark of a cut.
const LONGEST: usize = 200 + 1;
/// A shorter secret is found only as it is.
const LEAST: usize = 6;
/// Of a longer secret no piece of so many characters is shown.
const PIECE: usize = 12;

/// Takes a secret out of a text.
pub fn redaction(data: &[u8]) {
    let Some((secret, text)) = head_and_body(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let text = (0..=9).fold(text.to_owned(), |text, way| text.replace(&format!("@{way}"), &written(secret, way)));
    let shown = shown(&text, &[("the_name".to_owned(), secret.into())]);
    assert!(shown.chars().count() <= LONGEST, "{} characters", shown.chars().count());
    assert!(!shown.chars().any(char::is_control), "control characters in {shown:?}");
    if shown == "[withheld: it repeats what was sent]" {
        assert!(!is_harmless(&text, secret), "{text:?} does not hold {secret:?}, and is not shown");
        return;
    }
    // What stands in for it is not the secret, whatever that is.
    let rest = shown.replace(NAME, "\u{0}");
    // Nor is what the cut has left of that.
    let cut = (1..NAME.len()).rev().find_map(|length| rest.strip_suffix(&format!("{}…", &NAME[..length])));
    let rest = cut.unwrap_or(&rest);
    let secret = printable(secret);
    let secret = secret.trim();
    if secret.is_empty() {
        return;
    }
    assert!(!rest.contains(secret), "{secret:?} is in {shown:?}");
    if secret.len() >= LEAST && secret.is_ascii() {
        for (way, decoded) in decoded(rest) {
            assert!(!decoded.contains(secret), "{secret:?} is in {shown:?}, by {way}");
        }
    }
    // Servers quote the beginning of a token. Names of things are no secrets.
    if secret.is_ascii() && !secret.contains(":/") && !secret.starts_with("urn:") {
        for start in 0..(secret.len() + 1).saturating_sub(PIECE) {
            let piece = &secret[start..start + PIECE];
            assert!(!rest.contains(piece), "{piece:?} of {secret:?} is in {shown:?}");
        }
    }
}

/// Whether a text is of short words in small letters that the secret is none of: nothing can be encoded in it.
fn is_harmless(text: &str, secret: &str) -> bool {
    text.split(' ').all(|word| word.len() < LEAST && word.chars().all(|c| c.is_ascii_lowercase()))
        && !text.contains(secret.trim())
}

fn written(secret: &str, way: u32) -> String {
    let all = |format: fn(u32) -> String| secret.chars().map(u32::from).map(format).collect::<String>();
    match way {
        0 => secret.to_owned(),
        1 => STANDARD.encode(secret),
        2 => URL_SAFE_NO_PAD.encode(format!("x{secret}y")),
        3 => percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string(),
        4 => secret.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        5 => all(|code| format!("\\u{code:04x}")),
        6 => all(|code| format!("&#{code};")),
        7 => hex::encode(secret),
        8 => serde_json::Value::from(secret).to_string(),
        _ => STANDARD.encode(format!("client:{secret}")),
    }
}

/// The simplest readings of a text, made by others than those who took the secret out.
fn decoded(text: &str) -> Vec<(&'static str, String)> {
    let mut all = vec![("percent", percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned())];
    if let Ok(text) = serde_json::from_str(&format!("\"{text}\"")) {
        all.push(("JSON", text));
    }
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=-_".contains(c)) {
        let read = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        all.extend(STANDARD.decode(word).ok().map(|bytes| ("base64", read(bytes))));
        all.extend(URL_SAFE_NO_PAD.decode(word).ok().map(|bytes| ("base64url", read(bytes))));
        all.extend(hex::decode(word).ok().map(|bytes| ("hexadecimal", read(bytes))));
    }
    all
}

/// As the text is made printable before it is looked at.
fn printable(text: &str) -> String {
    let is_mark =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !c.is_control() && !is_mark(*c)).collect()
}
