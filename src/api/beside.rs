//! Structs whose members are next to those of another one in the same object.
//!
//! Not with serde's `flatten`: it drops unknown fields silently and loses the path of an error, and both are shown to
//! users.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};

/// The members of a struct other than those of the one beside them.
pub(crate) trait Own<'de> {
    /// Reads the value of a member; `false` if it is not one of these.
    fn read<A: MapAccess<'de>>(&mut self, member: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads the members of `own`, and from the same map all others.
///
/// # Errors
///
/// If one of them is invalid, or missing in the other struct.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    own: &mut impl Own<'de>,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(Members { own, others: PhantomData })
}

struct Members<'a, O, T> {
    own: &'a mut O,
    others: PhantomData<T>,
}

impl<'de, O: Own<'de>, T: Deserialize<'de>> Visitor<'de> for Members<'_, O, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(Others { map, own: self.own }))
    }
}

/// The members of a map that are not `own`.
struct Others<'a, A, O> {
    map: A,
    own: &'a mut O,
}

impl<'de, A: MapAccess<'de>, O: Own<'de>> MapAccess<'de> for Others<'_, A, O> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(member) = self.map.next_key::<String>()? {
            if !self.own.read(&member, &mut self.map)? {
                return seed.deserialize(member.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
