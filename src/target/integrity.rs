//! Checks whether the data of a target Secret is unchanged since the operator wrote it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::fingerprint;
use crate::target::annotations::{DATA_HASH, WrittenKeys, annotation};

/// Keys and values as text. The operator writes only UTF-8, so data that is not UTF-8 counts as modified.
fn parts<'a>(data: impl Iterator<Item = (&'a String, &'a ByteString)>) -> Vec<&'a str> {
    data.flat_map(|(key, value)| [key.as_str(), std::str::from_utf8(&value.0).unwrap_or("\u{fffd}")]).collect()
}

/// Salted fingerprint of the values under the operator's keys.
pub(crate) fn data_hash(written: &WrittenKeys, data: &BTreeMap<String, ByteString>) -> String {
    fingerprint::salted(&parts(own(written, data)))
}

fn own<'a>(
    written: &WrittenKeys,
    data: &'a BTreeMap<String, ByteString>,
) -> impl Iterator<Item = (&'a String, &'a ByteString)> {
    data.iter().filter(|(key, _)| written.all().any(|own| own == *key))
}

/// Whether the data of a Secret is still that which the operator wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It is unchanged.
    Intact,
    /// It was changed, or this is unknown.
    Changed,
    /// It has not been read in this version of the Secret: watches deliver only metadata.
    Unread,
}

/// Whether the values under the operator's keys are those that it wrote. Keys added by others are ignored.
pub(crate) fn integrity(meta: &ObjectMeta, data: Option<&BTreeMap<String, ByteString>>) -> Integrity {
    let (Some(written), Some(hash)) = (WrittenKeys::of(meta), annotation(meta, DATA_HASH)) else {
        return Integrity::Changed;
    };
    let Some(data) = data else { return Integrity::Unread };
    if fingerprint::matches(hash, &parts(own(&written, data))) { Integrity::Intact } else { Integrity::Changed }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::target::annotations::KEYS;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
    }

    /// The metadata of a Secret with these values under the operator's keys.
    fn written(values: &[(&str, &str)]) -> ObjectMeta {
        let data = data(values);
        let keys =
            json!({"accessToken": "access_token", "refreshToken": "refresh_token", "data": {"account": "fingerprint"}});
        let annotations = json!({KEYS: keys.to_string(), DATA_HASH: fingerprint::salted(&parts(data.iter()))});
        serde_json::from_value(json!({"annotations": annotations})).expect("metadata")
    }

    #[test]
    fn only_the_operators_own_keys_are_checked() {
        let own = [("access_token", "a"), ("account", "42"), ("refresh_token", "r")];
        let meta = written(&own);
        let check = |pairs: &[(&str, &str)]| integrity(&meta, Some(&data(pairs)));
        assert_eq!(check(&own), Integrity::Intact);
        assert_eq!(check(&[own[0], own[1], own[2], ("key-of-others", "x")]), Integrity::Intact);
        assert_eq!(check(&[own[0], own[1]]), Integrity::Changed, "a value was removed");
        assert_eq!(check(&[("access_token", "b"), own[1], own[2]]), Integrity::Changed, "a value was changed");
        assert_eq!(check(&[own[0], ("account", "43"), own[2]]), Integrity::Changed, "a value of data was changed");
    }

    #[test]
    fn unread_data_is_neither_intact_nor_changed() {
        assert_eq!(integrity(&written(&[("access_token", "a")]), None), Integrity::Unread);
        assert_eq!(integrity(&ObjectMeta::default(), None), Integrity::Changed, "the annotations were removed");
    }
}
