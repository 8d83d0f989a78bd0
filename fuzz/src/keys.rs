//! Private keys and certificates, as users store them in Secrets. The input: PEM or a JWK.

use oauth_operator::api::signed_jwt::SigningAlgorithm;
use oauth_operator::oauth::http::connections::{check_ca_bundle, check_validity};
use oauth_operator::oauth::key_error::KeyError;
use oauth_operator::oauth::signing_key::SigningKey;

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
            // The two numbers of ECDSA have a fixed length (RFC 7518, section 3.4).
            let lengths =
                [(SigningAlgorithm::ES256, 64), (SigningAlgorithm::ES384, 96), (SigningAlgorithm::ES512, 132)];
            for (algorithm, length) in lengths {
                if let Ok(signature) = key.sign(algorithm, b"message") {
                    assert_eq!(signature.len(), length);
                }
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
