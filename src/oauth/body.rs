//! Encodes the body of a request.

#![deny(clippy::disallowed_methods)]

use secrecy::{ExposeSecret, SecretString};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::api::request::Format;

/// One parameter of the body: its name and its value.
pub type Parameter = (String, SecretString);

/// How the parameters of a JSON body are written if not as texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonTypes<'a> {
    /// Parameters that are lists of texts, also with one value.
    pub lists: &'a [&'a str],
    /// Parameters whose text is JSON.
    pub json: &'a [&'a str],
}

/// The body, zeroized on drop. In JSON, parameters of the same name become an array.
#[must_use]
pub fn encode(format: Format, parameters: &[Parameter], types: JsonTypes<'_>) -> Zeroizing<Vec<u8>> {
    // Allocated at full size, because a reallocation would leave a copy in memory that is not zeroized.
    let capacity = max_size(parameters);
    match format {
        Format::Json => {
            let mut body = Zeroizing::new(Vec::with_capacity(capacity));
            // Writing to memory cannot fail, and JSON can always be serialized.
            let _ = serde_json::to_writer(&mut *body, &JsonBody { parameters, types });
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
    types: JsonTypes<'a>,
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
            let value = value.expose_secret();
            let json = self.types.json.contains(&name.as_str()).then(|| serde_json::from_str::<Value>(value).ok());
            if let Some(Some(json)) = json {
                object.serialize_entry(name, &json)?;
            } else if values.len() > 1 || self.types.lists.contains(&name.as_str()) {
                object.serialize_entry(name, &values)?;
            } else {
                object.serialize_entry(name, value)?;
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
                    let body = encode(format, &parameters, JsonTypes::default());
                    assert!(body.len() <= max_size(&parameters), "{format:?}: {} bytes", body.len());
                    assert_eq!(body.capacity(), max_size(&parameters), "{format:?}: the buffer was reallocated");
                }
            }
        }
    }
}
