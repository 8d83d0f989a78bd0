//! The bytes of a request's body.

#![deny(clippy::disallowed_methods)]

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::api::Format;

/// One member of the body: its name and its value.
pub type Member = (String, SecretString);

/// The bytes that are sent. In JSON, members of one name make a list, as do those that are named in `lists`.
#[must_use]
pub fn encode(format: Format, members: &[Member], lists: &[&str]) -> String {
    match format {
        Format::Json => {
            let mut object = Map::new();
            for (name, value) in members {
                let value = Value::from(value.expose_secret());
                match object.get_mut(name) {
                    None => {
                        let is_list = lists.contains(&name.as_str());
                        object.insert(name.clone(), if is_list { Value::Array(vec![value]) } else { value });
                    }
                    Some(Value::Array(values)) => values.push(value),
                    Some(single) => *single = Value::Array(vec![single.take(), value]),
                }
            }
            Value::Object(object).to_string()
        }
        Format::Form => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in members {
                form.append_pair(name, value.expose_secret());
            }
            form.finish()
        }
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
