//! The ways in which a text may hold another: what it would be, read as something else. Pure.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Ends of a text that was cut are no mistake.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Characters of a run that is taken for an encoded value.
const LEAST_RUN: usize = 8;

/// All that a text could be read as.
#[must_use]
pub fn all(text: &str) -> Vec<String> {
    let mut all = vec![percent(text), unescaped(text)];
    // A sign of equality stands at the end of base64, and before what follows a name.
    for run in text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/-_".contains(c)) {
        if run.len() >= LEAST_RUN {
            all.extend(base64(run));
        }
    }
    // Letters that are no digits may stand right beside it.
    for run in text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() >= LEAST_RUN) {
        all.extend(hexadecimal(run));
    }
    // One around another.
    let twice: Vec<String> = all.iter().take(2).flat_map(|once| [percent(once), unescaped(once)]).collect();
    all.extend(twice);
    all
}

fn percent(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// `\\u0041`, `\\x41`, `&#65;` and `&#x41;`.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let (decoded, length) = character(rest).unwrap_or((next, next.len_utf8()));
        plain.push(decoded);
        rest = &rest[length..];
    }
    plain
}

/// The character that an escape at the beginning stands for, and how long the escape is.
fn character(text: &str) -> Option<(char, usize)> {
    for (lead, digits) in [("\\u", 4), ("\\x", 2)] {
        if let Some(number) = text.strip_prefix(lead).and_then(|rest| rest.get(..digits)) {
            return Some((char::from_u32(u32::from_str_radix(number, 16).ok()?)?, lead.len() + digits));
        }
    }
    let (number, _) = text.strip_prefix("&#")?.split_once(';')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    Some((char::from_u32(code)?, "&#".len() + number.len() + ";".len()))
}

/// Of a part of an encoded text it is not known where a group of four begins.
fn base64(run: &str) -> Vec<String> {
    let standard: String = run.replace('-', "+").replace('_', "/");
    let engine = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    (0..4)
        .filter_map(|skipped| {
            let part = standard.get(skipped..)?;
            // A single character at the end stands for nothing.
            let part = if part.len() % 4 == 1 { &part[..part.len() - 1] } else { part };
            engine.decode(part).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect()
}

/// Two digits are a byte, and it is not known which two.
fn hexadecimal(run: &str) -> impl Iterator<Item = String> {
    (0..2).filter_map(|skipped| {
        let part = run.get(skipped..)?;
        let bytes = hex::decode(&part[..part.len() / 2 * 2]).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    })
}
