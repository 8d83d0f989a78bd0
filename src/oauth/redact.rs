//! What of a foreign text may be shown: a little of it, printable, with everything that was sent taken out.

use secrecy::ExposeSecret;

use super::body::Member;

/// The longest text that is shown, in characters.
const SHOWN: usize = 200;

/// Takes every value that was sent out of `text` (each is replaced by the name of its member in brackets, also
/// where the text holds it percent-encoded), drops what is not printable, and cuts at 200 characters.
///
/// The value of `grant_type` stays: it is a word of the RFC, and messages are about it.
#[must_use]
pub fn shown(text: &str, sent: &[Member]) -> String {
    let mut values: Vec<(&str, &str)> = sent
        .iter()
        .filter(|(name, _)| name != "grant_type")
        .map(|(name, value)| (name.as_str(), value.expose_secret()))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    // The longest first: a value that holds another is taken out whole.
    values.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    let text = values.into_iter().fold(text.to_owned(), |text, (name, value)| {
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let label = format!("[{name}]");
        text.replace(value, &label).replace(&encoded, &label)
    });
    printable(&text)
}

/// Keeps the printable characters of a text, and of these the first 200.
fn printable(text: &str) -> String {
    let printable = |c: &char| !c.is_control() && !is_invisible(*c);
    let mut characters = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(printable);
    let mut shown: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Marks that turn or hide the text around them.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
