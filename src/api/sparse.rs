//! Parts of a spec that most integrations leave at their defaults.
//!
//! Each watched integration is in memory, and without this, its unused settings were more than half of it.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that takes memory only if it differs from its default. In JSON and in a schema, it is the value itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse<T>(Option<Box<T>>);

/// A type whose default is stored once for all.
pub trait SharedDefault: Default + PartialEq + 'static {
    /// The default.
    fn shared_default() -> &'static Self;
}

/// Implements [`SharedDefault`].
macro_rules! shared_default {
    ($type:ty) => {
        impl SharedDefault for $type {
            fn shared_default() -> &'static Self {
                static DEFAULT: std::sync::LazyLock<$type> = std::sync::LazyLock::new(<$type>::default);
                &DEFAULT
            }
        }
    };
}
pub(crate) use shared_default;

impl<T: SharedDefault> From<T> for Sparse<T> {
    fn from(value: T) -> Self {
        Self((value != *T::shared_default()).then(|| Box::new(value)))
    }
}

impl<T: SharedDefault> Deref for Sparse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::shared_default())
    }
}

impl<T: SharedDefault + Serialize> Serialize for Sparse<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(self, serializer)
    }
}

impl<'de, T: SharedDefault + Deserialize<'de>> Deserialize<'de> for Sparse<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

impl<T: JsonSchema> JsonSchema for Sparse<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::renewal::Renewal;
    use crate::api::spec::OAuthIntegration;

    #[test]
    fn a_default_takes_no_memory_of_its_own_and_reads_the_same() {
        let default: Sparse<Renewal> = serde_json::from_value(json!({})).expect("a renewal");
        assert!(default.0.is_none());
        assert_eq!(*default, Renewal::default());
        let other: Sparse<Renewal> = serde_json::from_value(json!({"jitter": "1s"})).expect("a renewal");
        assert!(other.0.is_some());
        let written = serde_json::to_value(&other).expect("JSON");
        assert_eq!(written["jitter"], "1s");
        assert_eq!(serde_json::from_value::<Sparse<Renewal>>(written).expect("a renewal"), other);
    }

    /// A field that makes every integration larger is best put into a box.
    #[test]
    fn an_integration_without_unusual_settings_is_small() {
        const ARC: usize = 2 * size_of::<usize>();
        let size = size_of::<OAuthIntegration>();
        assert!(size <= 1_280 - ARC, "{size} bytes: the allocation of an integration is in the next size class");
    }
}
