//! Durations in the notation of Kubernetes: `90s`, `1h30m`.

use std::borrow::Cow;
use std::time;

use kube::core;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// The maximum of all fields: one year.
const MAX: time::Duration = time::Duration::from_hours(8_760);
/// The maximum length in bytes, and the maximum number of digits before a decimal point: within these, no sum exceeds
/// a `u64` of seconds. The CRD is stricter, and allows only the units h, m, s and ms; this check is for files and for
/// objects that are older than the CRD.
const MAX_BYTES: usize = 32;
const MAX_DIGITS: usize = 15;

/// A duration from zero to one year.
///
/// [`core::Duration`] parses it after this check: its parser panics on a negative or a very large number in the
/// middle of the string. The API server rejects such strings, but a file, or an object that is older than its CRD,
/// may contain them.
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
            whole.len() <= MAX_DIGITS && number.chars().all(|c| c.is_ascii_digit() || c == '.')
        };
        let has_digits = text.contains(|c: char| c.is_ascii_digit());
        if text.len() > MAX_BYTES || !has_digits || !numbers.into_iter().all(is_number) {
            return Err(problem());
        }
        let duration: core::Duration = text.parse().map_err(|_| problem())?;
        if duration > MAX {
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
