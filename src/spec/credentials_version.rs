//! The version of credentials: which versions of which objects they were read from. It is stored with a token, in an
//! annotation of the target. Pure.
//!
//! ```text
//!   4711                 of the Secret
//!   4711,4712            of the Secrets of the client and of the user
//!   4711/9f86d081…       with the trust of the provider: its CA bundle, and the restrictions of its ServiceAccount
//!   4711/9f86d081…+…+…   with the token of another integration, see `chain`
//! ```

#![deny(clippy::disallowed_methods)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::fingerprint;
use crate::oauth::allowed_endpoints::{ALLOW_CA_BUNDLE, ALLOWED_ENDPOINTS};

/// The length of the fingerprint, in hex digits: 64 bits.
const LENGTH: usize = 16;

/// The version of the credentials in two Secrets.
#[must_use]
pub fn both(of_client: &str, of_user: &str) -> String {
    format!("{of_client},{of_user}")
}

/// Fingerprint of the CA bundle of a provider, and of the annotations of its ServiceAccount that restrict where its token
/// may be sent. `None` if it has neither.
#[must_use]
pub fn trust(ca_bundle: Option<&str>, account: Option<&ObjectMeta>) -> Option<String> {
    let restrictions = account.map(|meta| {
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name));
        (annotation(ALLOWED_ENDPOINTS), annotation(ALLOW_CA_BUNDLE))
    });
    (ca_bundle.is_some() || restrictions.is_some()).then(|| {
        let mut text = fingerprint::unsalted(&serde_json::json!([ca_bundle, restrictions]));
        text.truncate(LENGTH);
        text
    })
}

/// A version together with the trust; unchanged without one.
#[must_use]
pub fn with_trust(version: String, trust: Option<&str>) -> String {
    match trust {
        Some(trust) => format!("{version}/{trust}"),
        None => version,
    }
}

/// Whether something has changed since a token was requested with the version `stored`. If one of them has no trust, only
/// the rest is compared: it is not known until the provider has been checked.
#[must_use]
pub fn differs(known: &str, stored: &str) -> bool {
    match (split(known), split(stored)) {
        ((known, Some(one)), (stored, Some(other))) => known != stored || one != other,
        ((known, _), (stored, _)) => known != stored,
    }
}

/// Whether the trust has changed.
#[must_use]
pub fn trust_differs(known: &str, stored: &str) -> bool {
    split(known).1.zip(split(stored).1).is_some_and(|(known, stored)| known != stored)
}

/// The trust in a version.
#[must_use]
pub fn trust_of(version: &str) -> Option<&str> {
    split(version).1
}

/// The rest of a version, and its trust.
fn split(version: &str) -> ((&str, Option<&str>), Option<&str>) {
    let (own, chained) = match version.split_once('+') {
        Some((own, chained)) => (own, Some(chained)),
        None => (version, None),
    };
    match own.split_once('/') {
        Some((secrets, trust)) => ((secrets, chained), Some(trust)),
        None => ((own, chained), None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_trust_is_compared_if_it_is_known() {
        for (known, stored, is_different, of_trust) in [
            ("1", "1", false, false),
            ("1", "2", true, false),
            ("1,2", "1,3", true, false),
            ("1/a", "1/a", false, false),
            ("1/a", "1/b", true, true),
            ("1", "1/b", false, false),
            ("1/a", "1", false, false),
            ("2", "1/b", true, false),
            ("1/a+t+4", "1/a+t+4", false, false),
            ("1/a+t+4", "1/b+t+4", true, true),
            ("1+t+4", "1/b+t+4", false, false),
            ("1/a+t+4", "1/a+u+4", true, false),
        ] {
            assert_eq!(
                (differs(known, stored), trust_differs(known, stored)),
                (is_different, of_trust),
                "{known} {stored}"
            );
        }
    }

    #[test]
    fn only_the_annotations_that_restrict_are_part_of_the_fingerprint() {
        let account = |name: &str, value: &str| ObjectMeta {
            annotations: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
            ..ObjectMeta::default()
        };
        assert_eq!(trust(None, None), None);
        let plain = trust(None, Some(&ObjectMeta::default()));
        assert_eq!(trust(None, Some(&account("example.com/team", "a"))), plain);
        let restricted = trust(None, Some(&account(ALLOWED_ENDPOINTS, "https://a.example.com")));
        assert_ne!(restricted, plain);
        assert_ne!(trust(None, Some(&account(ALLOWED_ENDPOINTS, "https://b.example.com"))), restricted);
        assert_ne!(trust(Some("pem"), None), plain);
        assert_ne!(trust(Some("pem"), Some(&ObjectMeta::default())), trust(Some("pem"), None));
    }
}
