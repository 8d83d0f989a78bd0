//! Encrypted keys and PKCS#12 files, as users store them in Secrets. The input: the file, which is binary in contrast to those
//! of the other targets.

use oauth_operator::oauth::key_file::pkcs12::Pkcs12;
use oauth_operator::oauth::key_file::{Budget, Format, decrypt_pem, format};
use oauth_operator::oauth::signing_key::SigningKey;
use secrecy::{ExposeSecret, SecretString};

use crate::check_message;

/// The passphrase of the files in the corpus.
const PASSPHRASE: &str = "word";

/// Reads a file: what is found is PEM, and an error is a short message.
pub fn key_files(data: &[u8]) {
    let mut budget = Budget::default();
    let found = format(data).and_then(|format| match format {
        Format::Plain => Ok(Vec::new()),
        Format::EncryptedPem => {
            let text = std::str::from_utf8(data).expect("only text is PEM");
            decrypt_pem(text, Some(PASSPHRASE), &mut budget).map(|key| vec![key])
        }
        Format::Binary => {
            let file = Pkcs12::read(data, Some(PASSPHRASE), &mut budget)?;
            Ok([file.key(), file.certificates()].into_iter().flatten().collect::<Vec<SecretString>>())
        }
    });
    match found {
        Ok(found) => {
            for pem in found {
                let pem = pem.expose_secret();
                assert!(pem.starts_with("-----BEGIN ") && pem.ends_with("-----\n"), "no PEM");
                assert!(pem.lines().all(|line| line.len() <= 64), "a long line");
                let _ = SigningKey::from_pem(pem);
            }
        }
        Err(problem) => check_message(&problem.to_string()),
    }
}
