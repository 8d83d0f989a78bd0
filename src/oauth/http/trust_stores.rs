//! The CAs that an integration trusts instead of the defaults: a bundle is parsed once and shared by all integrations
//! that use it.
//!
//! A bundle is hashed when it is read and identified by that hash. Parsing a bundle of the maximum size takes some
//! milliseconds; it runs outside of the main thread, one bundle per namespace at a time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::api::reason::Reason;
use crate::limiter::fair_queue::FairQueue;
use crate::oauth::error::{Advice, RequestError};
use crate::oauth::http::cache::{Bounds, NamespacedCache};
use crate::oauth::http::custom_ca::{CustomCa, Fingerprint};

/// The maximum size of a bundle, in bytes: encoded in base64, it fits into a Secret of the maximum size. Mozilla's
/// CAs with comments have about 300 KiB.
pub const MAX_BUNDLE_BYTES: usize = 384 << 10;
/// The maximum number of certificates in a bundle. Mozilla has about 150; each takes up to a few KiB when it is parsed.
pub const MAX_CERTIFICATES: usize = 512;
/// Parsing takes milliseconds, so a store needs to be kept only for a burst of requests.
const BOUNDS: Bounds = Bounds { per_namespace: 4, total: 64, ttl: Duration::from_mins(10) };
/// The maximum number of bundles that are parsed at the same time; one per namespace.
const PARSED_AT_ONCE: usize = 2;

/// Why a CA bundle is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum BundleError {
    #[error("the CA bundle contains no PEM certificates (-----BEGIN CERTIFICATE-----)")]
    NoCertificates,
    #[error(
        "the CA bundle has {0} bytes, and the maximum is {MAX_BUNDLE_BYTES}: keep only the CAs of the endpoint in it"
    )]
    TooLarge(usize),
    #[error(
        "the CA bundle contains more than {MAX_CERTIFICATES} certificates, the maximum: keep only the CAs of the endpoint in it"
    )]
    TooManyCertificates,
}

/// Certificates that are trusted.
#[derive(Debug)]
pub(crate) struct TrustStore {
    /// The CAs.
    pub(crate) roots: Arc<RootCertStore>,
    /// The hashes of the certificates in the bundle: a server that shows one of them is trusted. Empty for the defaults.
    pinned: HashSet<Fingerprint>,
}

impl TrustStore {
    /// A store with these CAs only.
    pub(crate) fn of_roots(roots: RootCertStore) -> Self {
        Self { roots: Arc::new(roots), pinned: HashSet::new() }
    }

    /// Whether a certificate is in the bundle, by its hash.
    pub(crate) fn contains(&self, certificate: &Fingerprint) -> bool {
        self.pinned.contains(certificate)
    }
}

/// A parsed bundle, or why it cannot be used.
type Parsed = Result<Arc<TrustStore>, RequestError>;

/// The parsed bundles. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct TrustStores {
    used: NamespacedCache<Fingerprint, Parsed>,
    /// All stores in use: a bundle that is distributed to many namespaces is in memory once. Stores are shared by
    /// content, so a namespace can only obtain a store that it could also have parsed itself.
    all: Arc<Mutex<HashMap<Fingerprint, Weak<TrustStore>>>>,
    parsing: FairQueue,
}

impl Default for TrustStores {
    fn default() -> Self {
        let parsing = FairQueue::new(PARSED_AT_ONCE, 1);
        Self { used: NamespacedCache::new(BOUNDS), all: Arc::default(), parsing }
    }
}

impl TrustStores {
    /// The store for a bundle. A new bundle is parsed in another thread, in a queue that is fair by namespace; errors
    /// are also cached.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] when the text cannot be used as a bundle.
    pub(crate) async fn get(&self, namespace: &str, bundle: &CustomCa) -> Parsed {
        if let Some(known) = self.known(namespace, bundle) {
            return known;
        }
        // Parsing takes milliseconds, so the wait in the queue is short.
        let Some(_turn) = self.parsing.turn(namespace, Duration::MAX).await else { return Err(aborted()) };
        // Another request may have parsed the same bundle in the meantime.
        if let Some(known) = self.known(namespace, bundle) {
            return known;
        }
        let pem = Arc::clone(&bundle.pem);
        let parsed = tokio::task::spawn_blocking(move || parse(&pem)).await.map_err(|_| aborted())?.map(Arc::new);
        if let Ok(store) = &parsed {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, store| store.strong_count() > 0);
            all.insert(bundle.fingerprint, Arc::downgrade(store));
        }
        self.used.insert(namespace, bundle.fingerprint, parsed.clone(), Instant::now());
        parsed
    }

    /// The cached result for a bundle, from this namespace or from others.
    fn known(&self, namespace: &str, bundle: &CustomCa) -> Option<Parsed> {
        let (id, now) = (&bundle.fingerprint, Instant::now());
        if let Some(known) = self.used.get(namespace, id, now) {
            return Some(known);
        }
        let store = self.all.lock().unwrap_or_else(PoisonError::into_inner).get(id).and_then(Weak::upgrade)?;
        self.used.insert(namespace, *id, Ok(Arc::clone(&store)), now);
        Some(Ok(store))
    }
}

/// The thread has panicked, or the process is shutting down.
fn aborted() -> RequestError {
    RequestError::new(Reason::CredentialsInvalid, "the CA bundle could not be parsed: please report this")
}

/// Parses a CA bundle.
///
/// # Errors
///
/// A [`RequestError`] when it is too large, or contains no certificates.
pub(crate) fn parse(pem: &str) -> Result<TrustStore, RequestError> {
    let unusable = |error: BundleError| {
        RequestError::new(Reason::CredentialsInvalid, error.to_string()).with_advice(Advice::CheckCaBundle)
    };
    if pem.len() > MAX_BUNDLE_BYTES {
        return Err(unusable(BundleError::TooLarge(pem.len())));
    }
    let mut roots = RootCertStore::empty();
    let mut pinned = HashSet::new();
    for (number, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        if number == MAX_CERTIFICATES {
            return Err(unusable(BundleError::TooManyCertificates));
        }
        // Bundles may contain old certificates that rustls does not accept as trust anchors; they are ignored.
        let certificate = certificate.map_err(|_| unusable(BundleError::NoCertificates))?;
        pinned.insert(Sha256::digest(&certificate).into());
        roots.add_parsable_certificates([certificate]);
    }
    if roots.is_empty() {
        return Err(unusable(BundleError::NoCertificates));
    }
    Ok(TrustStore { roots: Arc::new(roots), pinned })
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn ca(name: &str) -> String {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("a certificate").pem()
    }

    /// A text that cannot be parsed, with the hash of a bundle: if there is a store for it, the text was not parsed.
    fn unparsable(bundle: &CustomCa) -> CustomCa {
        CustomCa { pem: "never parsed".into(), fingerprint: bundle.fingerprint }
    }

    #[tokio::test]
    async fn a_bundle_is_in_memory_once_for_all_namespaces() {
        let (stores, bundle) = (TrustStores::default(), CustomCa::from(ca("a")));
        let first = stores.get("first", &bundle).await.expect("a store");
        for namespace in ["first", "second", "third"] {
            let other = stores.get(namespace, &bundle).await.expect("a store");
            assert!(Arc::ptr_eq(&first, &other), "{namespace}");
        }
    }

    #[tokio::test]
    async fn an_unchanged_bundle_is_not_parsed_again() {
        let (stores, good) = (TrustStores::default(), CustomCa::from(ca("a")));
        stores.get("alice", &good).await.expect("a store");
        let again = unparsable(&good);
        assert!(
            futures::poll!(std::pin::pin!(stores.get("alice", &again))).is_ready(),
            "at once, without another thread"
        );
        stores.get("alice", &again).await.expect("the same store");

        let bad = CustomCa::from("no certificate".to_owned());
        let failure = stores.get("alice", &bad).await.expect_err("no store");
        let now_good = CustomCa { pem: ca("b").into(), fingerprint: bad.fingerprint };
        assert_eq!(stores.get("alice", &now_good).await.expect_err("still none"), failure);
        stores.get("bob", &now_good).await.expect("the result of one namespace is not shared with others");
    }

    #[test]
    fn parsing_runs_off_the_main_thread_and_each_namespace_parses_one_bundle_at_a_time() {
        // The only blocking thread is occupied until the test releases it, so nothing can be parsed before that.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        let (release, occupied) = std::sync::mpsc::channel::<()>();
        let stores = TrustStores::default();
        let bundle = |name: &str| CustomCa::from(ca(name).repeat(100));
        let (mallorys, bobs) = (["m-1", "m-2", "m-3"].map(bundle), bundle("bob"));
        runtime.block_on(async {
            let blocked = tokio::task::spawn_blocking(move || occupied.recv());
            let mut attack: Vec<_> = mallorys.iter().map(|bundle| Box::pin(stores.get("mallory", bundle))).collect();
            for get in &mut attack {
                assert!(futures::poll!(get).is_pending(), "parsed in the main thread");
            }
            assert_eq!(stores.parsing.pending("mallory"), 3);
            let mut bob = Box::pin(stores.get("bob", &bobs));
            assert!(futures::poll!(&mut bob).is_pending(), "parsed in the main thread");
            release.send(()).expect("the blocking thread waits");
            blocked.await.expect("it ended").expect("it was released");
            bob.await.expect("bob has his own turn");
            assert_eq!(stores.parsing.pending("mallory"), 3, "mallory's other bundles wait for the first");
            futures::future::join_all(attack).await.into_iter().for_each(|store| drop(store.expect("a store")));
        });
    }

    #[tokio::test]
    async fn a_namespace_keeps_a_bounded_number_of_bundles() {
        let stores = TrustStores::default();
        let bob = CustomCa::from(ca("bob"));
        let kept = Arc::downgrade(&stores.get("bob", &bob).await.expect("a store"));
        for number in 0..3 * BOUNDS.per_namespace {
            let bundle = CustomCa::from(ca(&format!("mallory-{number}")));
            stores.get("mallory", &bundle).await.expect("a store");
        }
        let all = stores.all.lock().expect("a lock");
        let alive = all.values().filter(|store| store.strong_count() > 0).count();
        assert_eq!(alive, BOUNDS.per_namespace + 1);
        assert!(kept.upgrade().is_some(), "the store of another namespace is still there");
    }

    #[test]
    fn a_bundle_is_bounded_in_bytes_and_in_certificates() {
        let pem = ca("a");
        assert_eq!(parse(&pem.repeat(MAX_CERTIFICATES)).expect("the maximum").roots.len(), MAX_CERTIFICATES);
        let failure = parse(&pem.repeat(MAX_CERTIFICATES + 1)).expect_err("one too many");
        assert!(failure.message.contains("more than 512 certificates"), "{}", failure.message);
        let failure = parse(&format!("{pem}{}", "#".repeat(MAX_BUNDLE_BYTES))).expect_err("too large");
        assert!(failure.message.contains("the maximum is 393216"), "{}", failure.message);
        assert!(parse("no certificate").expect_err("none").message.contains("contains no PEM certificates"));
    }
}
