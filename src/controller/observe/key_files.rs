//! The credentials of a Secret, resolved in another thread if keys are derived from passphrases: that takes up to 15 ms, and
//! a tenant chooses how often.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;

use crate::kube_api::call;
use crate::limiter::fair_queue::FairQueue;
use crate::oauth::credentials::Credentials;
use crate::spec::credentials;
use crate::spec::secret_values::Unresolved;
use crate::spec::sources::CredentialsSource;

/// One at a time: a CPU remains for everything else.
const AT_ONCE: usize = 1;

/// The queue of the derivations.
#[must_use]
pub(crate) fn queue() -> FairQueue {
    FairQueue::new(AT_ONCE, AT_ONCE)
}

/// Resolves the values of a Secret, and wipes it.
///
/// # Errors
///
/// A message that says what to change.
pub(super) async fn resolve(
    queue: &FairQueue,
    namespace: &str,
    source: &CredentialsSource,
    secret: Option<Secret>,
) -> Result<Credentials, Unresolved> {
    let source = source.clone();
    if !credentials::derives_keys(&source, secret.as_ref()) {
        return resolve_now(&source, secret);
    }
    let aborted = || Unresolved::Invalid("the private key could not be decrypted: please report this".to_owned());
    // Each turn takes milliseconds, so the wait is short.
    let _turn = queue.turn(namespace, Duration::MAX).await.ok_or_else(aborted)?;
    tokio::task::spawn_blocking(move || resolve_now(&source, secret)).await.map_err(|_| aborted())?
}

fn resolve_now(source: &CredentialsSource, mut secret: Option<Secret>) -> Result<Credentials, Unresolved> {
    let values = credentials::resolve(source, secret.as_ref());
    secret.iter_mut().for_each(call::wipe);
    values
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::oauth::credentials::Credential;
    use crate::spec::sources::CredentialRef;

    /// A key of the corpus of the fuzz targets, encrypted with one iteration.
    const ENCRYPTED: &str = include_str!("../../../fuzz/corpus/key_files/encrypted_pem");

    fn source() -> CredentialsSource {
        let field =
            |credential: Credential| CredentialRef { credential, key: credential.key().to_owned(), required: true };
        CredentialsSource {
            secret_name: Some("credentials".to_owned()),
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

    fn secret(key: &str) -> Secret {
        let values = [(Credential::PrivateKey, key), (Credential::PrivateKeyPassphrase, "word")];
        let data = values.map(|(credential, value)| (credential.key().to_owned(), ByteString(value.into())));
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn keys_are_derived_off_the_main_thread_and_in_turns_that_are_fair_by_namespace() {
        // The only blocking thread is occupied until the test releases it, so nothing can be derived before that.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        let (release, occupied) = mpsc::channel::<()>();
        let (queue, source) = (queue(), source());
        runtime.block_on(async {
            let blocked = tokio::task::spawn_blocking(move || occupied.recv());
            let mallory = || Box::pin(resolve(&queue, "mallory", &source, Some(secret(ENCRYPTED))));
            let mut attack = [mallory(), mallory(), mallory()];
            for one in &mut attack {
                assert!(futures::poll!(one).is_pending(), "derived in the main thread");
            }
            let mut bob = Box::pin(resolve(&queue, "bob", &source, Some(secret(ENCRYPTED))));
            assert!(futures::poll!(&mut bob).is_pending(), "derived in the main thread");
            let mut plain = Box::pin(resolve(&queue, "carol", &source, Some(secret("not encrypted"))));
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
