//! The version of credentials: which versions of which objects they were read from. It is stored with a token, in an
//! annotation of the target. Pure.
//!
//! ```text
//!   4711                 of the Secret
//!   4711,4712            of the Secrets of the client and of the user
//!   4711/9f86d081…       with the trust of the provider: its CA bundle, and the restrictions of its ServiceAccount
//!   4711/-               the same, and the provider has neither
//!   4711/9f86d081…+…+…   with the token of another integration, see `chain`
//! ```

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::fingerprint;
use crate::oauth::allowed_endpoints::{ALLOW_CA_BUNDLE, ALLOWED_ENDPOINTS};

/// The length of the fingerprint, in hex digits: 64 bits.
const LENGTH: usize = 16;
/// The fingerprint of a provider that names nothing besides its Secret.
const NONE: &str = "-";

/// The version of the credentials in two Secrets.
#[must_use]
pub fn both(of_client: &str, of_user: &str) -> String {
    format!("{of_client},{of_user}")
}

/// Fingerprint of what a provider names besides its Secret: the certificates of its CA bundle, in whatever order and layout, and
/// the annotations of its ServiceAccount that restrict where its token may be sent. [`NONE`] if it has neither.
///
/// It is stored in targets, whose owners may not read the ServiceAccount. Its uid keeps them from guessing the annotations.
#[must_use]
pub fn trust(ca_bundle: Option<&str>, account: Option<&ObjectMeta>) -> String {
    if ca_bundle.is_none() && account.is_none() {
        return NONE.to_owned();
    }
    let restrictions = account.map(|meta| {
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name));
        (&meta.uid, annotation(ALLOWED_ENDPOINTS), annotation(ALLOW_CA_BUNDLE))
    });
    let mut text = fingerprint::unsalted(&serde_json::json!([ca_bundle.map(certificates), restrictions]));
    text.truncate(LENGTH);
    text
}

/// The certificates of a bundle, as a set; the text itself if it has none.
fn certificates(pem: &str) -> BTreeSet<String> {
    let all: BTreeSet<String> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(|one| Some(hex::encode(one.ok()?))).collect();
    if all.is_empty() { BTreeSet::from([pem.to_owned()]) } else { all }
}

/// A version together with the trust; unchanged if that is not known.
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
            ("1/-", "1/a", true, true),
            ("1/a", "1/-", true, true),
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
        assert_eq!(trust(None, None), "-");
        let plain = trust(None, Some(&ObjectMeta::default()));
        assert_eq!(trust(None, Some(&account("example.com/team", "a"))), plain);
        let restricted = trust(None, Some(&account(ALLOWED_ENDPOINTS, "https://a.example.com")));
        assert_ne!(restricted, plain);
        assert_ne!(trust(None, Some(&account(ALLOWED_ENDPOINTS, "https://b.example.com"))), restricted);
        assert_ne!(trust(Some("pem"), None), plain);
        assert_ne!(trust(Some("pem"), Some(&ObjectMeta::default())), trust(Some("pem"), None));
        let of_another =
            ObjectMeta { uid: Some("another".to_owned()), ..account(ALLOWED_ENDPOINTS, "https://a.example.com") };
        assert_ne!(trust(None, Some(&of_another)), restricted);
    }

    #[test]
    fn only_the_certificates_of_a_bundle_are_part_of_the_fingerprint() {
        let pem = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        let (one, other) = (pem("AAEC"), pem("AwQF"));
        let both = trust(Some(&format!("{one}{other}")), None);
        assert_eq!(trust(Some(&format!("# the old one\n{other}\n\n{one}{other}")), None), both);
        assert_ne!(trust(Some(&one), None), both);
        assert_ne!(trust(Some("neither"), None), trust(Some("nor"), None));
    }
}
