//! Durations, as Kubernetes writes them: `90s`, `1h30m`.

use std::borrow::Cow;
use std::time;

use kube::core;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// The longest one that any field takes: a year.
const LONGEST: time::Duration = time::Duration::from_hours(8_760);
/// The longest text in bytes, and the most digits before a point: of these no sum is more than a `u64` of seconds. The CRD takes
/// less, and no other units than h, m, s and ms; this is for files and for objects that are older than it.
const BYTES: usize = 32;
const DIGITS: usize = 15;

/// A time from nothing to a year.
///
/// [`core::Duration`] reads it, once it is known to be one: of a negative or a very large number in the middle of a text that
/// reader panics. The API server has no such text stored; a file, or an object that is older than its CRD, may hold any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Duration(core::Duration);

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0.into()
    }
}

impl From<time::Duration> for Duration {
    fn from(duration: time::Duration) -> Self {
        Self(duration.into())
    }
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is not a duration from 0s to 8760h, such as 90s or 1h30m");
        let numbers = text.strip_prefix('+').unwrap_or(text).split(char::is_alphabetic);
        let is_number = |number: &str| {
            let whole = number.split('.').next().unwrap_or_default();
            whole.len() <= DIGITS && number.chars().all(|c| c.is_ascii_digit() || c == '.')
        };
        let has_digits = text.contains(|c: char| c.is_ascii_digit());
        if text.len() > BYTES || !has_digits || !numbers.into_iter().all(is_number) {
            return Err(problem());
        }
        let duration: core::Duration = text.parse().map_err(|_| problem())?;
        if duration > LONGEST {
            return Err(problem());
        }
        Ok(Self(duration))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        core::Duration::schema_name()
    }

    fn inline_schema() -> bool {
        core::Duration::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        core::Duration::json_schema(generator)
    }
}
