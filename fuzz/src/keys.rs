//! Private keys and certificates, as users store them in Secrets. The input: PEM.

use oauth_operator::api::client_authentication::SigningAlgorithm;
use oauth_operator::oauth::http::connections::{check_ca_bundle, check_validity};
use oauth_operator::oauth::signing_key::{KeyError, SigningKey};

use crate::{NOW, check_message};

/// Reads a key and a certificate.
pub fn keys(data: &[u8]) {
    let Ok(pem) = std::str::from_utf8(data) else { return };
    for failure in [check_ca_bundle(pem).err(), check_validity(pem, *NOW).err()].into_iter().flatten() {
        check_message(&failure.message);
    }
    match SigningKey::from_pem(pem) {
        Ok(key) => {
            let signed = key.default_algorithm().and_then(|algorithm| key.sign(algorithm, b"message"));
            if let Err(problem) = signed {
                check_problem(&problem, pem);
            }
            // The two numbers of ES256 have a fixed length (RFC 7518, section 3.4).
            if let Ok(signature) = key.sign(SigningAlgorithm::ES256, b"message") {
                assert_eq!(signature.len(), 64);
            }
        }
        Err(problem) => check_problem(&problem, pem),
    }
}

/// No part of a key is shown.
fn check_problem(problem: &KeyError, pem: &str) {
    /// Base64 that is not part of the message.
    const LINE: usize = 16;
    let problem = problem.to_string();
    check_message(&problem);
    for line in pem.lines().filter(|line| line.len() >= LINE && !line.contains(['-', ' '])) {
        assert!(!problem.contains(line), "{problem} quotes {line}");
    }
}
