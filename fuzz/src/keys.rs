//! Private keys and certificates, as people put them into Secrets. The input: PEM.

use oauth_operator::api::SigningAlgorithm;
use oauth_operator::oauth::key::Key;
use oauth_operator::oauth::transport::{check_authorities, check_validity};

use crate::{NOW, check_message};

/// Reads a key and a certificate.
pub fn keys(data: &[u8]) {
    let Ok(pem) = std::str::from_utf8(data) else { return };
    for failure in [check_authorities(pem).err(), check_validity(pem, *NOW).err()].into_iter().flatten() {
        check_message(&failure.message);
    }
    match Key::from_pem(pem) {
        Ok(key) => {
            let signed = key.default_algorithm().and_then(|algorithm| key.sign(algorithm, b"message"));
            if let Err(problem) = signed {
                check_problem(&problem, pem);
            }
            // The two numbers of ES256 have a length (RFC 7518, section 3.4).
            if let Ok(signature) = key.sign(SigningAlgorithm::ES256, b"message") {
                assert_eq!(signature.len(), 64);
            }
        }
        Err(problem) => check_problem(&problem, pem),
    }
}

/// Nothing of a key is shown.
fn check_problem(problem: &str, pem: &str) {
    /// Base64 that is no word of the message.
    const LINE: usize = 16;
    check_message(problem);
    for line in pem.lines().filter(|line| line.len() >= LINE && !line.contains(['-', ' '])) {
        assert!(!problem.contains(line), "{problem} quotes {line}");
    }
}
