//! Encodes the body of a request.

#![deny(clippy::disallowed_methods)]

use secrecy::{ExposeSecret, SecretString};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::api::request::Format;

/// One parameter of the body: its name and its value.
pub type Parameter = (String, SecretString);

/// The body, zeroized on drop. In JSON, parameters of the same name become an array, as do those named in `lists`.
#[must_use]
pub fn encode(format: Format, parameters: &[Parameter], lists: &[&str]) -> Zeroizing<Vec<u8>> {
    // Allocated at full size, because a reallocation would leave a copy in memory that is not zeroized.
    let capacity = max_size(parameters);
    match format {
        Format::Json => {
            let mut body = Zeroizing::new(Vec::with_capacity(capacity));
            // Writing to memory cannot fail, and strings and lists of strings can always be serialized.
            let _ = serde_json::to_writer(&mut *body, &JsonBody { parameters, lists });
            body
        }
        Format::Form => {
            let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(capacity));
            for (name, value) in parameters {
                form.append_pair(name, value.expose_secret());
            }
            Zeroizing::new(form.finish().into_bytes())
        }
    }
}

/// An upper bound of the encoded size of the parameters, in bytes.
fn max_size(parameters: &[Parameter]) -> usize {
    /// `\\u0041` for each byte; a form needs three bytes.
    const ESCAPED: usize = 6;
    /// Quotes, colon, comma and brackets of a parameter; also covers the braces of the object.
    const PUNCTUATION: usize = 8;
    let size = |(name, value): &Parameter| (name.len() + value.expose_secret().len()) * ESCAPED + PUNCTUATION;
    PUNCTUATION + parameters.iter().map(size).sum::<usize>()
}

/// The parameters as a JSON object, in their order.
struct JsonBody<'a> {
    parameters: &'a [Parameter],
    lists: &'a [&'a str],
}

impl Serialize for JsonBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for (position, (name, value)) in self.parameters.iter().enumerate() {
            if self.parameters[..position].iter().any(|(earlier, _)| earlier == name) {
                continue;
            }
            let same_name = self.parameters[position..].iter().filter(|(other, _)| other == name);
            let values: Vec<&str> = same_name.map(|(_, value)| value.expose_secret()).collect();
            if values.len() > 1 || self.lists.contains(&name.as_str()) {
                object.serialize_entry(name, &values)?;
            } else {
                object.serialize_entry(name, value.expose_secret())?;
            }
        }
        object.end()
    }
}

/// The media type of the body.
#[must_use]
pub const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Form => "application/x-www-form-urlencoded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_of_a_body_is_never_reallocated() {
        let worst = ["\u{1}".repeat(1_000), "\"\\".repeat(1_000), "\u{1f511}ü".repeat(1_000), String::new()];
        for value in worst {
            for count in 0..4 {
                let parameters: Vec<Parameter> =
                    (0..count).map(|number| (format!("\u{1}{}", number % 2), value.as_str().into())).collect();
                for format in [Format::Json, Format::Form] {
                    let body = encode(format, &parameters, &[]);
                    assert!(body.len() <= max_size(&parameters), "{format:?}: {} bytes", body.len());
                    assert_eq!(body.capacity(), max_size(&parameters), "{format:?}: the buffer was reallocated");
                }
            }
        }
    }
}
