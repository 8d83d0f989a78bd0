//! The credentials of a Secret, resolved in another thread if keys are derived from passphrases: that takes up to 15 ms, and
//! a tenant chooses how often.

use std::sync::Arc;
use std::time::Duration;

use crate::controller::providers::secrets::SharedSecret;
use crate::limiter::fair_queue::FairQueue;
use crate::oauth::credentials::Credentials;
use crate::spec::credentials;
use crate::spec::credentials::Secrets;
use crate::spec::secret_values::Unresolved;
use crate::spec::sources::CredentialsSource;

/// One at a time: a CPU remains for everything else.
const AT_ONCE: usize = 1;

/// The queue of the derivations.
#[must_use]
pub(crate) fn queue() -> FairQueue {
    FairQueue::new(AT_ONCE, AT_ONCE)
}

/// The Secrets with the values.
#[derive(Default)]
pub(crate) struct Given {
    /// That of the client, and without a provider also of the user.
    pub(crate) main: Option<Arc<SharedSecret>>,
    /// That of the user, if the client belongs to a provider.
    pub(crate) user: Option<Arc<SharedSecret>>,
}

impl Given {
    fn secrets(&self) -> Secrets<'_> {
        Secrets { main: self.main.as_ref().map(|main| &main.0), user: self.user.as_ref().map(|user| &user.0) }
    }
}

/// Resolves the values of the Secrets, which are wiped when they are dropped.
///
/// # Errors
///
/// A message that says what to change.
pub(super) async fn resolve(
    queue: &FairQueue,
    namespace: &str,
    source: &CredentialsSource,
    given: Given,
) -> Result<Credentials, Unresolved> {
    if !credentials::derives_keys(source, given.secrets().main) {
        return credentials::resolve(source, given.secrets());
    }
    let source = source.clone();
    let aborted = || Unresolved::Invalid("the private key could not be decrypted: please report this".to_owned());
    // Each turn takes milliseconds, so the wait is short.
    let _turn = queue.turn(namespace, Duration::MAX).await.ok_or_else(aborted)?;
    tokio::task::spawn_blocking(move || credentials::resolve(&source, given.secrets())).await.map_err(|_| aborted())?
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc;

    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;

    use super::*;
    use crate::oauth::credentials::Credential;
    use crate::spec::sources::CredentialRef;

    /// A key of the corpus of the fuzz targets, encrypted with one iteration.
    const ENCRYPTED: &str = include_str!("../../../fuzz/corpus/key_files/encrypted_pem");

    fn source() -> CredentialsSource {
        let field = |credential: Credential| CredentialRef {
            credential,
            key: credential.key().to_owned(),
            required: true,
            of_user: false,
        };
        CredentialsSource {
            secret_name: Some("credentials".to_owned()),
            provider: None,
            user_secret_name: None,
            fields: vec![field(Credential::PrivateKey), field(Credential::PrivateKeyPassphrase)],
            parameter_keys: vec![],
            header_keys: vec![],
            client_id: None,
            ca_bundle: None,
            service_account: None,
            all_keys: false,
            chained: None,
        }
    }

    fn secret(key: &str) -> Given {
        let values = [(Credential::PrivateKey, key), (Credential::PrivateKeyPassphrase, "word")];
        let data = values.map(|(credential, value)| (credential.key().to_owned(), ByteString(value.into())));
        let secret = Secret { data: Some(data.into()), ..Secret::default() };
        Given { main: Some(Arc::new(SharedSecret(secret))), user: None }
    }

    #[test]
    fn keys_are_derived_off_the_main_thread_and_in_turns_that_are_fair_by_namespace() {
        // The only blocking thread is occupied until the test releases it, so nothing can be derived before that.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        let (release, occupied) = mpsc::channel::<()>();
        let (queue, source) = (queue(), source());
        runtime.block_on(async {
            let blocked = tokio::task::spawn_blocking(move || occupied.recv());
            let mallory = || Box::pin(resolve(&queue, "mallory", &source, secret(ENCRYPTED)));
            let mut attack = [mallory(), mallory(), mallory()];
            for one in &mut attack {
                assert!(futures::poll!(one).is_pending(), "derived in the main thread");
            }
            let mut bob = Box::pin(resolve(&queue, "bob", &source, secret(ENCRYPTED)));
            assert!(futures::poll!(&mut bob).is_pending(), "derived in the main thread");
            let mut plain = Box::pin(resolve(&queue, "carol", &source, secret("not encrypted")));
            assert!(futures::poll!(&mut plain).is_ready(), "what is not encrypted does not wait");
            assert_eq!((queue.pending("mallory"), queue.pending("bob"), queue.pending("carol")), (3, 1, 0));
            release.send(()).expect("the blocking thread waits");
            blocked.await.expect("it ended").expect("it was released");
            let [first, others @ ..] = attack;
            first.await.expect("a key");
            let values = bob.await.expect("a key");
            assert!(values.has(Credential::PrivateKey) && !values.has(Credential::PrivateKeyPassphrase));
            assert_eq!(queue.pending("mallory"), 2, "bob does not wait for all of mallory's");
            futures::future::join_all(others).await.into_iter().for_each(|one| drop(one.expect("a key")));
        });
    }
}
