//! The lists in the metadata of a protected resource, read one value at a time, so that a long one needs no memory.

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::oauth::http::documents::printable;

/// The maximum length of a scope, in bytes, as in the spec.
pub(crate) const MAX_SCOPE: usize = 4_096;
/// The maximum number of authorization servers. A resource usually has one.
pub(crate) const MAX_SERVERS: usize = 64;

/// `scopes_supported`, joined by spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultScope {
    /// There are none.
    None,
    /// A scope.
    Known(String),
    /// It is too long, or a name is not valid.
    Unusable,
}

/// The authorization servers; of too many, only their number.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) issuers: Vec<String>,
    pub(crate) count: usize,
}

impl Servers {
    /// All of them, for a message.
    pub(crate) fn list(&self) -> String {
        printable(&self.issuers.join(", "))
    }
}

/// Reads a list of texts one by one, so that a long one needs no memory.
struct List<T> {
    expecting: &'static str,
    into: T,
    add: fn(&mut T, &str),
}

impl<'de, T> Visitor<'de> for List<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<T, A::Error> {
        while let Some(text) = list.next_element::<Cow<'de, str>>()? {
            (self.add)(&mut self.into, &text);
        }
        Ok(self.into)
    }
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |servers: &mut Self, issuer: &str| {
            servers.count += 1;
            if servers.count <= MAX_SERVERS {
                servers.issuers.push(issuer.to_owned());
            }
        };
        deserializer.deserialize_seq(List { expecting: "a list of authorization servers", into: Self::default(), add })
    }
}

impl<'de> Deserialize<'de> for DefaultScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let add = |scope: &mut Self, name: &str| {
            // RFC 6749, section 3.3. A space would add a scope that the list does not contain.
            let is_valid =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
            let joined = match scope {
                Self::None => name.to_owned(),
                Self::Known(scope) => format!("{scope} {name}"),
                Self::Unusable => return,
            };
            *scope = if is_valid && joined.len() <= MAX_SCOPE { Self::Known(joined) } else { Self::Unusable };
        };
        deserializer.deserialize_seq(List { expecting: "a list of scopes", into: Self::None, add })
    }
}
