//! The version of what workloads read in a target Secret: it changes only with that. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::target::TargetKeys;
use crate::fingerprint;
use crate::target::annotations::{CONTENT_CHANGED_AT, CONTENT_HASH, annotation};

/// The maximum length of a fingerprint; those that the operator writes have 65 bytes.
const MAX_HASH: usize = 128;

/// The version of what workloads read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentVersion {
    /// Salted fingerprint. The salt stays the same as long as the values do, so that equal values have equal
    /// fingerprints, and is otherwise random, so that a hash of it reveals nothing about them.
    pub hash: String,
    /// Since when the Secret has these values.
    pub changed_at: Timestamp,
}

impl ContentVersion {
    /// The version of a Secret that the operator has written; `None` if it has no access token.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        let hash = annotation(meta, CONTENT_HASH).filter(|hash| hash.len() <= MAX_HASH)?;
        let changed_at = annotation(meta, CONTENT_CHANGED_AT)?.parse().ok()?;
        Some(Self { hash: hash.to_owned(), changed_at })
    }

    /// The version of new values: the known one if they are the same. The refresh token and the previous access token
    /// do not count: workloads do not need them, or need them no longer.
    pub(crate) fn next(
        known: Option<&Self>,
        keys: &TargetKeys,
        data: &BTreeMap<String, ByteString>,
        now: Timestamp,
    ) -> Self {
        let is_read = |key: &String| *key != keys.refresh_token && Some(key) != keys.previous_access_token.as_ref();
        let read = data.iter().filter(|(key, _)| is_read(key));
        let parts: Vec<&str> =
            read.flat_map(|(key, value)| [key.as_str(), std::str::from_utf8(&value.0).unwrap_or("\u{fffd}")]).collect();
        match known.filter(|known| fingerprint::matches(&known.hash, &parts)) {
            Some(known) => known.clone(),
            None => Self { hash: fingerprint::salted(&parts), changed_at: now },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn the_version_changes_only_with_what_workloads_read() {
        let keys = TargetKeys { previous_access_token: Some("previous".to_owned()), ..TargetKeys::default() };
        let (at, later) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let values = [("access_token", "a"), ("refresh_token", "r"), ("header", "Bearer a")];
        let first = ContentVersion::next(None, &keys, &data(&values), at);
        let after = |pairs: &[(&str, &str)]| ContentVersion::next(Some(&first), &keys, &data(pairs), later);
        assert_eq!(after(&values), first, "the same values");
        assert_eq!(after(&[values[0], ("refresh_token", "s"), values[2]]), first, "another refresh token");
        assert_eq!(after(&[values[0], values[1], values[2], ("previous", "b")]), first, "the token before");
        for changed in [
            after(&[("access_token", "b"), values[1], values[2]]),
            after(&[values[0], values[1], ("header", "a")]),
            after(&[values[0], values[1]]),
            after(&[values[0], values[1], ("authorization", "Bearer a")]),
        ] {
            assert!(changed.hash != first.hash && changed.changed_at == later, "{changed:?}");
        }
        let again = ContentVersion::next(None, &keys, &data(&values), at);
        assert_ne!(again.hash, first.hash, "salted: equal tokens of two Secrets are not recognizable");
    }
}
