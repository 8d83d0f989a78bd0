//! The server's own message about an error, wherever it is.

#![deny(clippy::disallowed_methods)]

use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::{document, public};
use crate::oauth::response::raw::HttpResponse;

/// Where servers put their message, other than `error_description` (RFC 6749, section 5.2). `detail` and `title` are
/// those of problem details (RFC 9457). A list stands for its first item.
const PLACES: [&str; 24] = [
    "error.message",
    "error.error_description",
    "error.description",
    "error.detail",
    "error_message",
    "errorMessage",
    "error_msg",
    "errorSummary",
    "message",
    "Message",
    "detail",
    "details.message",
    "errors.message",
    "errors.detail",
    "errors.title",
    "errors.errorMessage",
    "errors",
    "fault.faultstring",
    "errmsg",
    "msg",
    "reason",
    "title",
    "status_description",
    "error.code",
];
/// The elements that contain a message in XML, in this order.
const ELEMENTS: [&str; 7] =
    ["error_description", "message", "faultstring", "errormessage", "description", "detail", "title"];
/// How much of a page is searched, in bytes.
const MAX_SEARCHED: usize = 16 << 10;

/// The message of an error response. It may repeat what was sent, so it must be redacted.
pub(crate) fn server_message(raw: &HttpResponse, place: Option<&Expression>) -> Option<String> {
    let text = match place {
        Some(place) => document::first_text(&raw.body, &[place.text()]),
        None => document::first_text(&raw.body, &PLACES).or_else(|| of_markup(raw)).or_else(|| of_challenge(raw)),
    };
    // Only a response with a success status may contain a token, which the author of the spec may not be allowed to read.
    if matches!(raw.status, 200..300) { text.map(|text| words(&text)) } else { text }
}

/// The words of a text, without those that may be a secret.
fn words(text: &str) -> String {
    let shown = |word| if public::is_public("", word) { word } else { "…" };
    text.split_whitespace().map(shown).collect::<Vec<_>>().join(" ")
}

/// Whether the body is an HTML page.
pub(crate) fn is_html(raw: &HttpResponse) -> bool {
    let beginning = beginning(raw).to_ascii_lowercase();
    beginning.starts_with("<!doctype html") || beginning.starts_with('<') && beginning.contains("<html")
}

/// The message in XML, or the title of a page.
fn of_markup(raw: &HttpResponse) -> Option<String> {
    let text = beginning(raw);
    if !text.starts_with('<') {
        return None;
    }
    let elements: &[&str] = if is_html(raw) { &["title"] } else { &ELEMENTS };
    elements.iter().find_map(|name| element(text, name)).filter(|text| !text.is_empty())
}

/// The text of the first element with this name, in any case and without attributes of interest.
fn element(text: &str, name: &str) -> Option<String> {
    let folded = text.to_ascii_lowercase();
    let start = folded.match_indices(&format!("<{name}")).find_map(|(index, tag)| {
        let rest = folded.get(index + tag.len()..)?;
        let is_whole_name = rest.starts_with('>') || rest.starts_with(char::is_whitespace);
        is_whole_name.then_some(index + tag.len() + rest.find('>')? + 1)
    })?;
    let content = text.get(start..)?;
    let content = content.get(..content.find('<')?)?;
    let mut content = content.split_whitespace().collect::<Vec<_>>().join(" ");
    // `&amp;` is last, so that nothing is decoded twice.
    for (entity, character) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")] {
        content = content.replace(entity, character);
    }
    Some(content)
}

/// The message in a challenge (RFC 6750, section 3).
fn of_challenge(raw: &HttpResponse) -> Option<String> {
    let challenge = raw.header("www-authenticate")?;
    ["error_description", "error"].iter().find_map(|name| {
        let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(text, _)| text.to_owned()).filter(|text| !text.is_empty())
    })
}

fn beginning(raw: &HttpResponse) -> &str {
    let beginning = raw.body.get(..raw.body.len().min(MAX_SEARCHED)).unwrap_or_default();
    beginning.utf8_chunks().next().map_or("", |chunk| chunk.valid()).trim_start()
}
