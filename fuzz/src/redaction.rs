//! Which parts of an untrusted text may be shown. The input: a secret, an empty line, and a text in which `@0` to `@9`
//! stand for the secret in different encodings.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use oauth_operator::oauth::redaction::redact::redact;

use crate::head_and_body;

/// Maximum length of the text that is shown, in characters, and the mark of truncation.
const MAX_LENGTH: usize = 500 + 1;
/// A shorter secret is found only in its plain form.
const MIN_LENGTH: usize = 6;
/// No part of a longer secret with this many letters and digits is shown, in upper or lower case, forwards or
/// backwards.
const PIECE: usize = 8;

/// Redacts a secret in a text.
pub fn redaction(data: &[u8]) {
    let Some((secret, text)) = head_and_body(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let text = (0..=9).fold(text.to_owned(), |text, way| text.replace(&format!("@{way}"), &written(secret, way)));
    let shown = redact(&text, &[("the_name".to_owned(), secret.into())]);
    assert!(shown.chars().count() <= MAX_LENGTH, "{} characters", shown.chars().count());
    assert!(!shown.chars().any(char::is_control), "control characters in {shown:?}");
    if shown == "[withheld: it repeats data from the request]" {
        assert!(!is_harmless(&text, secret), "{text:?} does not contain {secret:?} and is withheld");
        return;
    }
    // The mark of truncation may itself be the secret.
    let is_truncated = shown.chars().count() == MAX_LENGTH;
    let shown = shown.strip_suffix('…').filter(|_| is_truncated).unwrap_or(&shown);
    let secret = printable(secret);
    let secret = secret.trim();
    if secret.is_empty() {
        return;
    }
    assert!(!shown.contains(secret), "{secret:?} is in {shown:?}");
    if secret.len() >= MIN_LENGTH && secret.is_ascii() {
        for (way, decoded) in decoded(shown) {
            assert!(!decoded.contains(secret), "{secret:?} is in {shown:?}, decoded as {way}");
        }
    }
    // Servers quote the start of a token.
    assert_eq!(common_piece(shown, secret), None, "a part of {secret:?} is in {shown:?}");
    for (way, decoded) in decoded(shown) {
        assert_eq!(common_piece(&decoded, secret), None, "a part of {secret:?} is in {shown:?}, decoded as {way}");
    }
}

/// A part of a secret that is in a text, forwards or backwards.
fn common_piece(text: &str, secret: &str) -> Option<String> {
    let folded = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let (text, secret) = (folded(text), folded(secret));
    let backwards: String = text.chars().rev().collect();
    (0..(secret.len() + 1).saturating_sub(PIECE))
        .map(|start| &secret[start..start + PIECE])
        .find(|piece| text.contains(piece) || backwards.contains(piece))
        .map(ToOwned::to_owned)
}

/// Whether a text consists of short lowercase words other than the secret, so that it cannot contain an encoded secret.
fn is_harmless(text: &str, secret: &str) -> bool {
    // An x may be a mask.
    let is_plain = |word: &str| word.len() < MIN_LENGTH && word.chars().all(|c| c.is_ascii_lowercase() && c != 'x');
    let letters = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase();
    let (whole, backwards) = (letters(text), letters(text).chars().rev().collect::<String>());
    let secret_letters = letters(secret);
    text.split(' ').all(is_plain)
        && !text.contains(secret.trim())
        && !text.contains(&STANDARD_NO_PAD.encode(secret.trim()))
        && common_piece(text, secret).is_none()
        && (secret_letters.is_empty() || !(whole.contains(&secret_letters) || backwards.contains(&secret_letters)))
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

/// The simplest decodings of a text, independent of the code under test.
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

/// The text is made printable before it is searched.
fn printable(text: &str) -> String {
    let is_mark =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !c.is_control() && !is_mark(*c)).collect()
}
