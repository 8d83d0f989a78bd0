//! The initial refresh tokens that are being used: two integrations with the same one must not send it at the same time.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

use secrecy::{ExposeSecret, SecretString};

use crate::controller::cache::lock::lock;

/// The initial refresh tokens that have been sent and whose responses are not in a Secret yet, as keyed hashes.
#[derive(Clone, Debug, Default)]
pub struct InitialTokens {
    hashes: Arc<Mutex<HashSet<u64>>>,
    hasher: RandomState,
}

/// The permission to send an initial refresh token. When dropped, others may send it.
#[derive(Debug)]
pub struct TokenClaim {
    hashes: Arc<Mutex<HashSet<u64>>>,
    hash: u64,
}

impl InitialTokens {
    /// Claims a token for an integration of this namespace; `None` if another one has claimed it.
    #[must_use]
    pub fn claim(&self, namespace: &str, token: &SecretString) -> Option<TokenClaim> {
        let hash = self.hasher.hash_one((namespace, token.expose_secret()));
        lock(&self.hashes).insert(hash).then(|| TokenClaim { hashes: Arc::clone(&self.hashes), hash })
    }
}

impl Drop for TokenClaim {
    fn drop(&mut self) {
        lock(&self.hashes).remove(&self.hash);
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_claimed_once_in_a_namespace_until_the_claim_is_dropped() {
        let (tokens, token) = (InitialTokens::default(), SecretString::from("initial-refresh-token"));
        let claim = tokens.claim("a", &token).expect("unclaimed");
        assert!(tokens.claim("a", &token).is_none());
        assert!(tokens.claim("b", &token).is_some(), "in another namespace");
        assert!(tokens.claim("a", &SecretString::from("another-refresh-token")).is_some());
        drop(claim);
        assert!(tokens.claim("a", &token).is_some());
    }
}
