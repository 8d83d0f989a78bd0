//! The bytes of a request's body.

#![deny(clippy::disallowed_methods)]

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::api::Format;

/// One member of the body: its name and its value.
pub type Member = (String, SecretString);

/// The text that is sent, wiped when it is dropped. In JSON, members of one name make a list, as do those that are named in
/// `lists`.
#[must_use]
pub fn encode(format: Format, members: &[Member], lists: &[&str]) -> Zeroizing<String> {
    match format {
        Format::Json => json(members, lists),
        Format::Form => {
            // Room for all, so that no part of it is left behind where it grew.
            let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(room(members)));
            for (name, value) in members {
                form.append_pair(name, value.expose_secret());
            }
            Zeroizing::new(form.finish())
        }
    }
}

/// The most characters that members can become.
fn room(members: &[Member]) -> usize {
    /// `\\u0041` for each byte; a form takes three.
    const WORST: usize = 6;
    members.iter().map(|(name, value)| (name.len() + value.expose_secret().len()) * WORST + 8).sum()
}

fn json(members: &[Member], lists: &[&str]) -> Zeroizing<String> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in members {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut text = Zeroizing::new(Vec::with_capacity(room(members)));
    text.push(b'{');
    for (number, name) in names.into_iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        quote(&mut text, name);
        text.push(b':');
        let values: Vec<&SecretString> =
            members.iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect();
        let is_list = values.len() > 1 || lists.contains(&name);
        if is_list {
            text.push(b'[');
        }
        for (number, value) in values.into_iter().enumerate() {
            if number > 0 {
                text.push(b',');
            }
            quote(&mut text, value.expose_secret());
        }
        if is_list {
            text.push(b']');
        }
    }
    text.push(b'}');
    // What serde writes is UTF-8.
    Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).unwrap_or_default())
}

/// A string of JSON, by serde's own rules for escapes, onto what has room for it.
fn quote(text: &mut Vec<u8>, value: &str) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(text, value);
}

/// The media type of the body.
#[must_use]
pub const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Form => "application/x-www-form-urlencoded",
    }
}
