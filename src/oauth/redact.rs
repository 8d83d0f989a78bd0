//! What of a foreign text may be shown: a little of it, printable, with everything that was sent taken out.

#![deny(clippy::disallowed_methods)]

use std::cmp::Reverse;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;

use super::body::Member;
use super::decode;

/// The longest text that is shown, in characters.
const SHOWN: usize = 200;
/// How much of a text is looked at, in characters: more than what is shown.
const LOOKED_AT: usize = 2_000;
/// What is shown of a text that repeats what was sent.
const WITHHELD: &str = "[withheld: it repeats what was sent]";
/// A shorter value is found by chance in what something else was decoded from.
const LEAST: usize = 6;
/// Of a longer value no piece of so many bytes is shown.
const PIECE: usize = 12;

/// Takes every value that was sent out of `text` (each is replaced by the name of its member in brackets, also where the
/// text holds it as a form, a URL, JSON or base64 writes it), drops what is not printable, and cuts at 200 characters.
///
/// The value of `grant_type` stays: it is a word of the RFC, and messages are about it.
///
/// A text that holds a value in yet another way (escaped, in hexadecimal, cut out of base64), or a piece of 12 characters of one, is
/// not shown at all: servers like to quote the beginning of a token. Pieces of a scope and of URLs and URNs are no secrets, and are
/// what messages are about.
#[must_use]
pub fn shown(text: &str, sent: &[Member]) -> String {
    // Printable before anything is looked for: a mark of no width could hide a value from the search.
    let text = printable(&text.chars().take(LOOKED_AT).collect::<String>());
    // What is cut off is looked at as well, since half of a value may stand before the cut; what stands in for a value is not.
    if repeats(&replaced(&text, sent, |_| "\u{0}".to_owned()), sent) {
        return WITHHELD.to_owned();
    }
    let whole = replaced(&text, sent, |name| format!("[{name}]"));
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// Whether a text from which values were taken out, as it is or decoded in one way or another, still holds one, or a piece of one.
fn repeats(text: &str, sent: &[Member]) -> bool {
    let mut texts = decode::all(text);
    let of_value = |whole: bool| {
        let values = sent.iter().filter(move |(name, _)| name != "grant_type" && (whole || name != "scope"));
        values.flat_map(|(_, value)| {
            let value = value.expose_secret();
            // As it is, and as a server writes it that drops what is not printable.
            [value.trim().to_owned(), printable(value).trim().to_owned()]
        })
    };
    if of_value(true).filter(|value| value.len() >= LEAST).any(|value| texts.iter().any(|text| text.contains(&value))) {
        return true;
    }
    texts.push(text.to_owned());
    let known: HashSet<&[u8]> = texts.iter().flat_map(|text| text.as_bytes().windows(PIECE)).collect();
    of_value(false).filter(|value| !value.contains(":/") && !value.starts_with("urn:")).any(|value| {
        let mut pieces = value.as_bytes().windows(PIECE);
        pieces.any(|piece| known.contains(piece))
    })
}

fn replaced(text: &str, sent: &[Member], stand_in: impl Fn(&str) -> String) -> String {
    let mut forms: Vec<(String, &str)> = sent
        .iter()
        .filter(|(name, _)| name != "grant_type")
        .flat_map(|(name, value)| {
            forms(value.expose_secret()).map(|form| (printable(&form).trim().to_owned(), name.as_str()))
        })
        .filter(|(form, _)| !form.is_empty())
        .collect();
    // The longest first: a value that holds another is taken out whole.
    forms.sort_by_key(|(form, _)| Reverse(form.len()));
    let (mut replaced, mut rest) = (String::new(), text);
    // One way through: what stands in for a value is not looked at again.
    while let Some(next) = rest.chars().next() {
        let found = forms.iter().find(|(form, _)| rest.starts_with(form.as_str()));
        if let Some((form, name)) = found {
            replaced.push_str(&stand_in(name));
            rest = &rest[form.len()..];
        } else {
            replaced.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    replaced
}

/// The ways in which a text may hold a value. Without the line break at its end, which comes from `echo` and which many
/// servers drop.
fn forms(value: &str) -> impl Iterator<Item = String> {
    let trimmed = value.trim();
    let form: String = url::form_urlencoded::byte_serialize(trimmed.as_bytes()).collect();
    let url = form.replace('+', "%20");
    let json = serde_json::Value::from(trimmed).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let [form_small, url_small] = [&form, &url].map(|text| small_hex(text));
    let base64 = [STANDARD_NO_PAD.encode(value), STANDARD_NO_PAD.encode(trimmed), URL_SAFE_NO_PAD.encode(trimmed)];
    [trimmed.to_owned(), form, form_small, url, url_small, json].into_iter().chain(base64)
}

/// Percent-encoding with small letters in its numbers.
fn small_hex(text: &str) -> String {
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| match part.split_at_checked(2) {
        Some((number, rest)) => format!("{all}%{}{rest}", number.to_ascii_lowercase()),
        None => format!("{all}%{part}"),
    })
}

/// The printable characters of a text, on one line.
fn printable(text: &str) -> String {
    let printable = |c: &char| !c.is_control() && !is_invisible(*c);
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(printable).collect()
}

/// Marks that turn or hide the text around them.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
