//! Decodes a text in all ways in which it may contain an encoded secret. Pure.

#![deny(clippy::disallowed_methods)]

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};

/// A truncated text is not an error.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// The minimum length of a run that is decoded, in characters.
const MIN_RUN: usize = 8;

/// All decodings of a text, once and twice; without the text itself.
#[must_use]
pub fn all(text: &str) -> Vec<String> {
    let once = once(text);
    let twice: Vec<String> = once.iter().flat_map(|decoded| self::once(decoded)).collect();
    once.into_iter().chain(twice).collect()
}

fn once(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    // A plus is a space only in forms. HTML escapes have no meaning in JSON; a text that uses both is decoded in both
    // ways.
    for decoded in [percent(text), percent(&text.replace('+', " ")), unescaped(text, json), unescaped(text, character)]
    {
        if decoded != text && !all.contains(&decoded) {
            all.push(decoded);
        }
    }
    // An equals sign ends base64, or separates a name from its value.
    for run in text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/-_".contains(c)) {
        if run.len() >= MIN_RUN {
            all.extend(base64(run));
        }
    }
    // Other letters may be directly next to hexadecimal digits.
    for run in text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() >= MIN_RUN) {
        all.extend(hexadecimal(run));
    }
    all
}

fn percent(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Replaces the escapes of a text; `escape` decodes one.
fn unescaped(text: &str, escape: fn(&str) -> Option<(char, usize)>) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let (decoded, length) = escape(rest).unwrap_or((next, next.len_utf8()));
        plain.push(decoded);
        rest = &rest[length..];
    }
    plain
}

/// The character of an escape at the beginning of a text, and the length of the escape: `\u0041`, `\x41`, `&#65;`,
/// `&#x41;` and `&amp;`.
fn character(text: &str) -> Option<(char, usize)> {
    utf16(text).or_else(|| byte(text)).or_else(|| html(text))
}

/// The same for the escapes of JSON only (RFC 8259, section 7).
fn json(text: &str) -> Option<(char, usize)> {
    const LETTERS: [(&str, char); 8] = [
        ("\\\"", '"'),
        ("\\\\", '\\'),
        ("\\/", '/'),
        ("\\b", '\u{8}'),
        ("\\f", '\u{c}'),
        ("\\n", '\n'),
        ("\\r", '\r'),
        ("\\t", '\t'),
    ];
    let letter = LETTERS.iter().find(|(escape, _)| text.starts_with(escape));
    letter.map(|(escape, c)| (*c, escape.len())).or_else(|| utf16(text))
}

/// `\u0041`, or two of them for a surrogate pair.
fn utf16(text: &str) -> Option<(char, usize)> {
    const LENGTH: usize = "\\u0041".len();
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let first = unit(text)?;
    let second = text.get(LENGTH..).and_then(unit);
    let decoded = char::decode_utf16([Some(first), second].into_iter().flatten()).next()?;
    // Half of a pair is not a character.
    let c = decoded.unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((c, c.len_utf16() * LENGTH))
}

/// `\x41`.
fn byte(text: &str) -> Option<(char, usize)> {
    let number = text.strip_prefix("\\x")?.get(..2)?;
    Some((char::from(u8::from_str_radix(number, 16).ok()?), "\\x41".len()))
}

/// `&#65;`, `&#x41;`, and the names of the characters that HTML requires to be escaped.
fn html(text: &str) -> Option<(char, usize)> {
    const NAMED: [(&str, char); 5] = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\'')];
    if let Some((escape, c)) = NAMED.iter().find(|(escape, _)| text.starts_with(escape)) {
        return Some((*c, escape.len()));
    }
    let (number, _) = text.strip_prefix("&#")?.split_once(';')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    Some((char::from_u32(code)?, "&#".len() + number.len() + ";".len()))
}

/// Decodes at each of the four offsets: a part of an encoded text may begin within a group of four characters.
fn base64(run: &str) -> Vec<String> {
    let standard: String = run.replace('-', "+").replace('_', "/");
    let engine = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    (0..4)
        .filter_map(|skipped| {
            let part = standard.get(skipped..)?;
            // A single character at the end is not a byte.
            let part = if part.len() % 4 == 1 { &part[..part.len() - 1] } else { part };
            engine.decode(part).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect()
}

/// Decodes at both offsets: two digits are one byte, but it is unknown which two.
fn hexadecimal(run: &str) -> impl Iterator<Item = String> {
    (0..2).filter_map(|skipped| {
        let part = run.get(skipped..)?;
        let bytes = hex::decode(&part[..part.len() / 2 * 2]).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    })
}
