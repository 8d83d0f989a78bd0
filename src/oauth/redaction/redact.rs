//! Redacts texts from servers before they are shown: makes them printable, truncates them, and withholds those that
//! repeat a secret.

#![deny(clippy::disallowed_methods)]

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;

use crate::oauth::body::Parameter;
use crate::oauth::redaction::decode;
use crate::oauth::redaction::pieces::{LEAST, Pieces, is_masked, is_printable, readings};

/// The maximum length of a text that is shown, in characters.
const MAX_SHOWN: usize = 500;
/// The maximum length of a text that is processed, in characters, including those that are dropped because they are
/// not printable.
const MAX_SCANNED: usize = 2_000;
/// How many characters after the cut are also searched: an encoded fragment may begin before the cut.
const AFTER_CUT: usize = 100;
/// Shown instead of a text that repeats a secret.
const WITHHELD: &str = "[withheld: it repeats data from the request]";
/// The maximum total size of the secrets that are searched for, in bytes. If more was sent, the text is not shown.
const MAX_SECRETS: usize = 128 << 10;
/// The minimum length of a secret that is searched for in decoded texts, in bytes: they contain shorter ones by
/// chance.
const MIN_DECODED: usize = 3;
/// Parameters that are not secret: values defined by the RFCs, values of the spec itself, and the client ID (RFC
/// 6749, section 2.2).
const PUBLIC: [&str; 10] = [
    "client_id",
    "grant_type",
    "scope",
    "resource",
    "audience",
    "client_assertion_type",
    "subject_token_type",
    "actor_token_type",
    "requested_token_type",
    "token_type_hint",
];
/// Only the whole value is withheld: fragments of it (such as the domain of an email address) may be shown.
const WHOLE: [&str; 1] = ["username"];

/// Makes a text printable, and truncates it to 500 characters. A text that repeats a secret of `sent` is withheld.
///
/// A text repeats a secret if it contains the secret, or any eight consecutive characters of it, even after decoding
/// the text up to twice (escapes, percent-encoding, hexadecimal, base64); upper and lower case, punctuation and
/// spaces are ignored, with or without non-ASCII characters, forwards or backwards. It also repeats a secret if it
/// contains a mask (`abc***xyz`) with the beginning or the end of a secret.
#[must_use]
pub fn redact(text: &str, sent: &[Parameter]) -> String {
    // Printable first: an invisible character could hide a secret from the search.
    let text = printable(&text.chars().take(MAX_SCANNED).collect::<String>());
    let searched: String = text.chars().take(MAX_SHOWN + AFTER_CUT).collect();
    let (whole, secrets): (Vec<&Parameter>, Vec<&Parameter>) = sent
        .iter()
        .filter(|(name, _)| !PUBLIC.contains(&name.as_str()))
        .partition(|(name, _)| WHOLE.contains(&name.as_str()));
    let [whole, secrets] = [whole, secrets]
        .map(|sent| -> Vec<&str> { sent.into_iter().map(|(_, value)| value.expose_secret()).collect() });
    let is_whole_in = |text: &str| whole.iter().any(|value| contains(text, &[], value));
    let is_too_much = secrets.iter().map(|secret| secret.len()).sum::<usize>() > MAX_SECRETS;
    // A whole value may begin before the cut and end far after it.
    if is_too_much || is_whole_in(&text) || repeats(&searched, &secrets, &whole) {
        return WITHHELD.to_owned();
    }
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether a text contains a secret or a fragment of one, or a whole value of `whole`, plain or encoded.
fn repeats(text: &str, secrets: &[&str], whole: &[&str]) -> bool {
    let mut texts = decode::all(text);
    // The rest of a secret without its non-ASCII characters may be short, and occur by chance.
    let long = |reading: &Cow<'_, str>| matches!(reading, Cow::Borrowed(_)) || reading.len() >= LEAST;
    let readings = secrets.iter().flat_map(|secret| readings(secret)).filter(long);
    let mut all = readings.chain(whole.iter().map(|value| Cow::Borrowed(*value)));
    if all.any(|value| contains(text, &texts, &value)) {
        return true;
    }
    texts.push(text.to_owned());
    let pieces = Pieces::of(&texts);
    secrets.iter().any(|secret| pieces.has_piece_of(secret) || is_masked(&[text], secret))
}

/// Whether a text, or what it decodes to, contains a whole value. The line break at the end of a value, which comes
/// from `echo`, is ignored, as are characters that are not printable: servers drop them.
fn contains(text: &str, decoded: &[String], value: &str) -> bool {
    let printable = printable(value);
    [value.trim(), printable.trim()].into_iter().filter(|value| !value.is_empty()).any(|value| {
        // A short value in base64 is shorter than the minimum that is decoded.
        let is_short = (MIN_DECODED..LEAST).contains(&value.len());
        text.contains(value)
            || is_short && [STANDARD_NO_PAD, URL_SAFE_NO_PAD].iter().any(|engine| text.contains(&engine.encode(value)))
            || (value.len() >= MIN_DECODED && decoded.iter().any(|text| text.contains(value)))
    })
}

/// The printable characters of a text, on one line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| is_printable(*c)).collect()
}
