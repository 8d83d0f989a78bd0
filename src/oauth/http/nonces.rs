//! The nonces that servers require in DPoP proofs (RFC 9449, section 8).

use std::time::{Duration, Instant};

use url::Url;

use crate::oauth::http::cache::{Bounds, NamespacedCache};
use crate::oauth::http::connections::Connection;

/// The maximum length of a nonce, in bytes: it is sent back in a header of each request, and servers accept headers
/// of a few KiB. Nonces of real servers have up to about 200 characters.
const MAX_LENGTH: usize = 512;
/// A server replaces its nonces within minutes; an outdated one only costs one more request.
const BOUNDS: Bounds = Bounds { per_namespace: 64, total: 2_048, ttl: Duration::from_hours(1) };

/// The settings of the connection, and the origin: with a tenant's own proxy or CA, the same URL may lead to another
/// server.
type Key = (Option<[u8; 32]>, String);

/// Nonces by namespace, connection and origin. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Nonces(NamespacedCache<Key, String>);

impl Default for Nonces {
    fn default() -> Self {
        Self(NamespacedCache::new(BOUNDS))
    }
}

impl Nonces {
    pub(crate) fn get(&self, namespace: &str, connection: &Connection, url: &Url) -> Option<String> {
        self.0.get(namespace, &key(connection, url), Instant::now())
    }

    pub(crate) fn remember(&self, namespace: &str, connection: &Connection, url: &Url, nonce: &str) {
        self.0.insert(namespace, key(connection, url), nonce.to_owned(), Instant::now());
    }

    /// Removes the nonce of a failed request, because it may be the cause.
    pub(crate) fn forget(&self, namespace: &str, connection: &Connection, url: &Url) {
        self.0.remove(namespace, &key(connection, url));
    }
}

fn key(connection: &Connection, url: &Url) -> Key {
    (connection.id, url.origin().ascii_serialization())
}

/// Whether a text may be used as a nonce: `1*NQCHAR` (RFC 9449, section 8.1; RFC 6749, appendix A), and not too long.
pub(crate) fn is_nonce(text: &str) -> bool {
    let is_nqchar = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(is_nqchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_has_the_characters_of_rfc_9449_and_a_bounded_length() {
        let longest = "x".repeat(MAX_LENGTH);
        for nonce in ["eyJ7S_zG.eyJH0-Z.HX4w-7v", "!#[]~", longest.as_str()] {
            assert!(is_nonce(nonce), "{nonce}");
        }
        let too_long = "x".repeat(MAX_LENGTH + 1);
        for other in ["", "with space", "quote\"", "back\\slash", "ü", "tab\t", too_long.as_str()] {
            assert!(!is_nonce(other), "{other}");
        }
    }
}
