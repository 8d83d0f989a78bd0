//! Fingerprints, which show whether a value has changed without storing it.

#![deny(clippy::disallowed_methods)]

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Length of a fingerprint in hex digits: 128 bits.
const LENGTH: usize = 32;

/// Fingerprint of a value that is not secret.
#[must_use]
pub fn unsalted(value: &serde_json::Value) -> String {
    cut(hex::encode(Sha256::digest(value.to_string())))
}

/// Salted fingerprint of secret parts, as `salt:fingerprint`.
#[must_use]
pub fn salted(parts: &[&str]) -> String {
    let salt: [u8; 16] = rand::random();
    with_salt(&hex::encode(salt), parts)
}

/// Fingerprint of a secret value that is the same for all integrations of a namespace, as `namespace:fingerprint`.
#[must_use]
pub fn in_namespace(namespace: &str, value: &str) -> String {
    with_salt(namespace, &[value])
}

/// Whether `fingerprint` matches these parts.
#[must_use]
pub fn matches(fingerprint: &str, parts: &[&str]) -> bool {
    fingerprint.split_once(':').is_some_and(|(salt, _)| with_salt(salt, parts) == fingerprint)
}

fn with_salt(salt: &str, parts: &[&str]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(salt.as_bytes()).expect("a key of any length");
    for part in parts {
        // The length distinguishes ["ab", "c"] from ["a", "bc"].
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    format!("{salt}:{}", cut(hex::encode(mac.finalize().into_bytes())))
}

fn cut(mut text: String) -> String {
    text.truncate(LENGTH);
    text
}
