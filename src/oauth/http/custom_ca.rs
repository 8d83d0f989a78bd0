//! A bundle of custom CAs, hashed once.

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// SHA-256 of a bundle, or of the settings of a connection.
pub type Fingerprint = [u8; 32];

/// A CA bundle with its hash, not parsed. Clones share the text.
#[derive(Clone, Debug)]
pub struct CustomCa {
    pub(crate) pem: Arc<str>,
    pub(crate) fingerprint: Fingerprint,
}

impl CustomCa {
    /// Length of the text in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.pem.len()
    }

    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl From<String> for CustomCa {
    fn from(pem: String) -> Self {
        Self { fingerprint: Sha256::digest(pem.as_bytes()).into(), pem: pem.into() }
    }
}
