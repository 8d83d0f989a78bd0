//! Reads members of a response body without parsing the whole body.
//!
//! A fully parsed body can take a hundred times its size in memory. The operator needs only a few scalars, so these
//! are kept and the parser skips the rest. If a path means more in JSONata than member access (it maps over lists,
//! and values may be objects), the path is left to the worker.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jsonata_core::value::JValue;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::oauth::expression::jsonata::Expression;
use crate::oauth::expression::value::Value;

/// Parses the whole body, for a worker; the operator itself uses [`read`].
#[must_use]
pub fn parse(body: &[u8]) -> Option<JValue> {
    let text = std::str::from_utf8(body).ok()?;
    JValue::from_json_str(text).ok().or_else(|| JValue::from_json_str(&form(text.trim())?.to_string()).ok())
}

/// A form as an object.
pub(crate) fn form(text: &str) -> Option<serde_json::Value> {
    let members =
        || url::form_urlencoded::parse(text.as_bytes()).map(|(name, value)| (name.into_owned(), value.into()));
    is_form(text).then(|| serde_json::Value::Object(members().collect()))
}

/// The values that were read from a body.
#[derive(Clone, Default)]
pub struct Document {
    /// Whether the body is JSON or a form.
    pub is_readable: bool,
    /// `error` (RFC 6749, section 5.2).
    pub error: Option<String>,
    /// `error_description` (RFC 6749, section 5.2).
    pub error_description: Option<String>,
    /// `token_type` (RFC 6749, section 5.1).
    pub token_type: Option<String>,
    /// `scope` (RFC 6749, section 5.1). Some servers return a list, whose items are joined by spaces.
    pub scope: Option<String>,
    /// The lifetime of the refresh token in seconds, which no RFC defines: the first of the names that servers use.
    pub refresh_token_expires_in: Option<Value>,
    /// The values of the paths, by their text; a missing path must be evaluated on the whole document.
    pub values: HashMap<String, Value>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values are secrets.
        f.debug_struct("Document").field("is_readable", &self.is_readable).finish_non_exhaustive()
    }
}

/// The members that RFC 6749 defines.
const OWN: [&str; 4] = ["error", "error_description", "token_type", "scope"];
/// The index of `scope` in it.
const SCOPE: usize = 3;
/// The names of the lifetime of the refresh token: Keycloak, Azure AD B2C and others, Intuit.
const REFRESH_TOKEN_LIFETIME: [&str; 3] =
    ["refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in"];
/// The number of members that are always read.
const ALWAYS: usize = OWN.len() + REFRESH_TOKEN_LIFETIME.len();
/// The maximum number of names that a message lists.
const MAX_LISTED: usize = 12;

/// Reads a body: JSON, or else a form, as GitHub returns. The content type is ignored, because some servers send JSON
/// as `text/plain`. Only the paths among `expressions` are looked up.
#[must_use]
pub fn read<'a>(body: &[u8], expressions: impl Iterator<Item = &'a Expression>) -> Document {
    // A path that occurs twice is read only once, because its value may be large.
    let mut known = HashSet::new();
    let paths: Vec<&Expression> =
        expressions.filter(|expression| expression.is_path() && known.insert(expression.text())).collect();
    let mut wanted = Node::default();
    for (index, name) in OWN.iter().chain(&REFRESH_TOKEN_LIFETIME).enumerate() {
        wanted.add(std::iter::once(*name), index);
    }
    for (index, path) in paths.iter().enumerate() {
        wanted.add(path.names(), ALWAYS + index);
    }
    let Ok(text) = std::str::from_utf8(body) else { return Document::default() };
    let mut found = vec![Found::Value(Value::Nothing); ALWAYS + paths.len()];
    if !read_json(text, &wanted, &mut found) {
        found.fill(Found::Value(Value::Nothing));
        if !read_form(text.trim(), &wanted, &mut found) {
            return Document::default();
        }
    }
    let mut found = found.into_iter();
    let mut own = || match found.next() {
        Some(Found::Value(Value::Text(text))) if !text.is_empty() => Some(text),
        _ => None,
    };
    let [error, error_description, token_type, scope] = [own(), own(), own(), own()];
    let lifetimes: Vec<Found> = found.by_ref().take(REFRESH_TOKEN_LIFETIME.len()).collect();
    let refresh_token_expires_in = lifetimes.into_iter().find_map(|found| match found {
        Found::Value(value @ (Value::Number(_) | Value::Text(_))) => Some(value),
        _ => None,
    });
    let values = paths.iter().zip(found).filter_map(|(path, found)| match found {
        Found::Value(value) => Some((path.text().to_owned(), value)),
        Found::NeedsDocument => None,
    });
    let values = values.collect();
    Document { is_readable: true, error, error_description, token_type, scope, refresh_token_expires_in, values }
}

/// The first of these paths that leads to a text, or to a number, in a JSON body. A list stands for its first item.
#[must_use]
pub fn first_text(body: &[u8], paths: &[&str]) -> Option<String> {
    let mut wanted = Node::default();
    for (index, path) in paths.iter().enumerate() {
        wanted.add(path.split('.'), index);
    }
    let mut found = vec![Found::Value(Value::Nothing); paths.len()];
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Walk { node: &wanted, found: &mut found, first_items: true }.deserialize(&mut deserializer).ok()?;
    found.into_iter().find_map(|found| match found {
        Found::Value(Value::Text(text)) if !text.trim().is_empty() => Some(text),
        Found::Value(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    })
}

/// The names of the members of a JSON object, for messages: only those that `is_shown` accepts, and only the first.
#[must_use]
pub fn member_names(body: &[u8], is_shown: fn(&str) -> bool) -> Vec<String> {
    struct Names(fn(&str) -> bool);

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = map.next_key::<Name<'de>>()? {
                map.next_value::<IgnoredAny>()?;
                if names.len() < MAX_LISTED && self.0(&name.0) {
                    names.push(name.0.into_owned());
                }
            }
            Ok(names)
        }
    }

    serde_json::Deserializer::from_slice(body).deserialize_map(Names(is_shown)).unwrap_or_default()
}

/// Reads one path from the beginning of a JSON body. The value is returned only if it is complete.
#[must_use]
pub fn read_beginning(body: &[u8], path: &Expression) -> Document {
    if !path.is_path() {
        return Document::default();
    }
    let mut wanted = Node::default();
    wanted.add(path.names(), 0);
    let mut found = [Found::Value(Value::Nothing)];
    // The beginning may end within a character.
    let text = body.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let is_readable = read_json(text, &wanted, &mut found);
    let [found] = found;
    let values = match found {
        Found::Value(value) => HashMap::from([(path.text().to_owned(), value)]),
        Found::NeedsDocument => HashMap::new(),
    };
    Document { is_readable, values, ..Document::default() }
}

/// `error` alone.
#[must_use]
pub fn error(body: &[u8]) -> Option<String> {
    read(body, std::iter::empty()).error
}

/// The result for one path.
#[derive(Clone, Debug)]
enum Found {
    Value(Value),
    /// The path must be evaluated on the whole document.
    NeedsDocument,
}

/// A tree of the names in the paths.
#[derive(Debug, Default)]
struct Node<'a> {
    /// The indices of the results whose path ends here.
    ends: Vec<usize>,
    children: HashMap<&'a str, Node<'a>>,
}

impl<'a> Node<'a> {
    fn add(&mut self, names: impl Iterator<Item = &'a str>, index: usize) {
        let mut node = self;
        for name in names {
            node = node.children.entry(name).or_default();
        }
        node.ends.push(index);
    }

    /// Sets the same result for all paths through this node.
    fn set_all(&self, found: &mut [Found], value: &Found) {
        for index in &self.ends {
            if let Some(found) = found.get_mut(*index) {
                *found = value.clone();
            }
        }
        self.children.values().for_each(|child| child.set_all(found, value));
    }

    /// Sets a scalar: it is the value of the paths that end here; paths that continue have no value.
    fn set_scalar(&self, found: &mut [Found], value: &Value) {
        self.set_all(found, &Found::Value(Value::Nothing));
        for index in &self.ends {
            if let Some(found) = found.get_mut(*index) {
                *found = Found::Value(value.clone());
            }
        }
    }
}

fn read_json(text: &str, wanted: &Node<'_>, found: &mut [Found]) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk { node: wanted, found, first_items: false }.deserialize(&mut deserializer).is_ok()
        && deserializer.end().is_ok()
}

fn read_form(text: &str, wanted: &Node<'_>, found: &mut [Found]) -> bool {
    if !is_form(text) {
        return false;
    }
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        if let Some(child) = wanted.children.get(name.as_ref()) {
            child.set_scalar(found, &Value::Text(value.into_owned()));
        }
    }
    true
}

/// Whether a text is a form: names of letters, digits, `_`, `-` and `.`, and encoded values, at least one of them not
/// empty. A base64 token that ends with `=` is not a form.
pub(crate) fn is_form(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_value = |c: char| c.is_ascii_graphic() && !"<>{}\"=".contains(c);
    let mut members = text.split('&').map(|member| member.split_once('='));
    let whole = members.clone().all(|member| {
        member.is_some_and(|(name, value)| !name.is_empty() && name.chars().all(is_name) && value.chars().all(is_value))
    });
    whole && members.any(|member| member.is_some_and(|(_, value)| !value.is_empty()))
}

/// Visits one value and keeps the values that the paths select. The recursion depth is that of the longest path,
/// which is bounded; everything else is skipped without recursion.
struct Walk<'a, 'f> {
    node: &'a Node<'a>,
    found: &'f mut [Found],
    /// Whether a list stands for its first item.
    first_items: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // The value of these paths is an object; for the longer paths, its members are visited.
        for index in &self.node.ends {
            if let Some(found) = self.found.get_mut(*index) {
                *found = Found::NeedsDocument;
            }
        }
        for child in self.node.children.values() {
            child.set_all(self.found, &Found::Value(Value::Nothing));
        }
        while let Some(name) = map.next_key::<Name<'de>>()? {
            // If a name is duplicated, the last one counts.
            match self.node.children.get(name.0.as_ref()) {
                Some(child) => {
                    let first_items = self.first_items;
                    map.next_value_seed(Walk { node: child, found: &mut *self.found, first_items })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.node.set_all(self.found, &Found::NeedsDocument);
        if self.first_items {
            items.next_element_seed(Walk { node: self.node, found: &mut *self.found, first_items: true })?;
        } else if self.node.ends.contains(&SCOPE) {
            let mut scopes = Vec::new();
            while let Some(item) = items.next_element::<Item>()? {
                scopes.extend(item.0);
            }
            if let Some(found) = self.found.get_mut(SCOPE) {
                *found = Found::Value(Value::Text(scopes.join(" ")));
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.node.ends.is_empty() {
            self.node.set_scalar(self.found, &Value::Nothing);
        } else {
            self.node.set_scalar(self.found, &Value::Text(text.to_owned()));
        }
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.node.set_scalar(self.found, &Value::Bool(value));
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "JSONata has only one number type")]
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.node.set_scalar(self.found, &Value::Number(value as f64));
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "JSONata has only one number type")]
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.node.set_scalar(self.found, &Value::Number(value as f64));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.node.set_scalar(self.found, &Value::Number(value));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.node.set_scalar(self.found, &Value::Null);
        Ok(())
    }
}

/// An item of a list, if it is a text.
struct Item(Option<String>);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = Node { ends: vec![0], ..Node::default() };
        let mut found = [Found::NeedsDocument];
        Walk { node: &wanted, found: &mut found, first_items: false }.deserialize(deserializer)?;
        let [found] = found;
        Ok(Self(match found {
            Found::Value(Value::Text(text)) => Some(text),
            _ => None,
        }))
    }
}

/// The name of a member; borrowed unless it contains escapes.
struct Name<'de>(std::borrow::Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(name.into()))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(name.to_owned().into()))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Name<'de>, E> {
        Err(E::custom("a name that is not text"))
    }
}
