//! Private keys and their JWS signatures (RFC 7518, section 3; RFC 8037).

#![deny(clippy::disallowed_methods)]

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{SignatureAlgorithm, SignatureScheme};
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::api::client_authentication::SigningAlgorithm;

/// The size of a coordinate, and of each of the two integers in an ES256 signature, in bytes.
const P256_BYTES: usize = 32;
/// The size of each of the two integers in an ES384 signature, in bytes.
const P384_BYTES: usize = 48;

/// A private key that signs.
#[derive(Clone)]
pub struct SigningKey(Arc<dyn rustls::sign::SigningKey>);

/// Why a key is unusable. The messages never quote the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// PEM with a passphrase.
    #[error("the private key is encrypted: store it without a passphrase")]
    Encrypted,
    /// The text is not a private key.
    #[error(
        "the value is not a private key as PEM (-----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY) or in the JSON file of a Google service account"
    )]
    NotPem,
    /// The type or size of the key is not supported.
    #[error("the private key cannot be used for signing: use RSA of 2048 bits or more, EC P-256, EC P-384 or Ed25519")]
    Unsupported,
    /// An EC key on another curve.
    #[error("the private key is an EC key on a curve other than P-256 and P-384: use one of these, or an RSA key")]
    UnsupportedCurve,
    /// DPoP proofs are signed with ES256.
    #[error("the private key is not an EC key on P-256")]
    NotP256,
    /// The key cannot sign with the algorithm.
    #[error("the private key is {kind}, which cannot sign with {algorithm:?}: change the algorithm, or remove it")]
    AlgorithmMismatch {
        /// The type of the key.
        kind: &'static str,
        /// The algorithm.
        algorithm: SigningAlgorithm,
    },
    /// Signing failed.
    #[error("signing with the private key failed: generate a new key")]
    SignatureFailed,
    /// No key could be generated.
    #[error("the key could not be generated: the system does not provide random numbers")]
    NoRandomNumbers,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.0.algorithm()).finish()
    }
}

impl SigningKey {
    /// Reads a key: PEM of PKCS#8, PKCS#1 (RSA) or SEC1 (EC); or the JSON file of a Google service account.
    ///
    /// # Errors
    ///
    /// Why it cannot be used, without quoting it.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pem = pem_of(pem);
        if pem.contains("ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let der = PrivateKeyDer::from_pem_slice(pem.trim().as_bytes()).map_err(|_| KeyError::NotPem)?;
        // The error is dropped because it may quote the key.
        let key = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| KeyError::Unsupported)?;
        Ok(Self(key))
    }

    /// Generates a P-256 key: PEM of PKCS#8.
    ///
    /// # Errors
    ///
    /// When the system provides no random numbers.
    pub fn generate() -> Result<SecretString, KeyError> {
        let rng = ring::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)
            .map_err(|_| KeyError::NoRandomNumbers)?;
        // RFC 7468, section 2: 64 characters per line.
        let text = STANDARD.encode(pkcs8.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")).into())
    }

    /// The default signature algorithm of the key.
    ///
    /// # Errors
    ///
    /// When it is an EC key on another curve than P-256 and P-384.
    pub fn default_algorithm(&self) -> Result<SigningAlgorithm, KeyError> {
        const DEFAULTS: [SigningAlgorithm; 4] =
            [SigningAlgorithm::RS256, SigningAlgorithm::ES256, SigningAlgorithm::ES384, SigningAlgorithm::EdDSA];
        let can_sign = |algorithm: &SigningAlgorithm| {
            scheme(*algorithm).is_some_and(|scheme| self.0.choose_scheme(&[scheme]).is_some())
        };
        DEFAULTS.into_iter().find(can_sign).ok_or(KeyError::UnsupportedCurve)
    }

    /// Signs, and returns the signature in the format of JWS.
    ///
    /// # Errors
    ///
    /// When the key cannot sign with the algorithm.
    pub fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let kind = match self.0.algorithm() {
            SignatureAlgorithm::RSA => "an RSA key",
            SignatureAlgorithm::ECDSA => "an EC key",
            SignatureAlgorithm::ED25519 => "an Ed25519 key",
            _ => "another key",
        };
        let mismatch = KeyError::AlgorithmMismatch { kind, algorithm };
        let scheme = scheme(algorithm);
        let signer = scheme.and_then(|scheme| self.0.choose_scheme(&[scheme])).ok_or(mismatch)?;
        let signature = signer.sign(message).map_err(|_| KeyError::SignatureFailed)?;
        match algorithm {
            SigningAlgorithm::ES256 => der_to_fixed(&signature, P256_BYTES).ok_or(KeyError::SignatureFailed),
            SigningAlgorithm::ES384 => der_to_fixed(&signature, P384_BYTES).ok_or(KeyError::SignatureFailed),
            _ => Ok(signature),
        }
    }

    /// The two coordinates of the public point of a P-256 key.
    #[must_use]
    pub fn p256_coordinates(&self) -> Option<([u8; P256_BYTES], [u8; P256_BYTES])> {
        self.0.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
        let public = self.0.public_key()?;
        // The SubjectPublicKeyInfo of a P-256 key ends with the uncompressed point: 4, x, y.
        let point = public.as_ref().last_chunk::<{ 1 + 2 * P256_BYTES }>().filter(|point| point[0] == 4)?;
        let x = point[1..=P256_BYTES].try_into().ok()?;
        let y = point[1 + P256_BYTES..].try_into().ok()?;
        Some((x, y))
    }
}

/// The member of a Google service account file that is a private key.
#[derive(Deserialize)]
struct ServiceAccountFile<'a> {
    #[serde(borrow)]
    private_key: Cow<'a, str>,
}

/// The PEM in a value: that of a service account file, or with line breaks in place of `\n`, as which environment variables
/// and JSON often contain them.
fn pem_of(value: &str) -> Zeroizing<String> {
    let file = Some(value).filter(|value| value.trim_start().starts_with('{'));
    let file = file.and_then(|file| serde_json::from_str::<ServiceAccountFile<'_>>(file).ok());
    match file {
        Some(ServiceAccountFile { private_key }) => Zeroizing::new(private_key.into_owned()),
        None => Zeroizing::new(value.replace("\\n", "\n")),
    }
}

/// The scheme of TLS with the same signatures; `None` for algorithms without a private key.
const fn scheme(algorithm: SigningAlgorithm) -> Option<SignatureScheme> {
    Some(match algorithm {
        SigningAlgorithm::RS256 => SignatureScheme::RSA_PKCS1_SHA256,
        SigningAlgorithm::RS384 => SignatureScheme::RSA_PKCS1_SHA384,
        SigningAlgorithm::RS512 => SignatureScheme::RSA_PKCS1_SHA512,
        SigningAlgorithm::PS256 => SignatureScheme::RSA_PSS_SHA256,
        SigningAlgorithm::PS384 => SignatureScheme::RSA_PSS_SHA384,
        SigningAlgorithm::PS512 => SignatureScheme::RSA_PSS_SHA512,
        SigningAlgorithm::ES256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        SigningAlgorithm::ES384 => SignatureScheme::ECDSA_NISTP384_SHA384,
        SigningAlgorithm::EdDSA => SignatureScheme::ED25519,
        SigningAlgorithm::HS256 | SigningAlgorithm::HS384 | SigningAlgorithm::HS512 => return None,
    })
}

/// Converts an ECDSA signature from ASN.1 DER (a sequence of two integers), which TLS uses, to two integers of fixed
/// length, which JWS uses (RFC 7518, section 3.4).
///
/// The lengths of P-384 and smaller curves fit into one byte.
fn der_to_fixed(der: &[u8], size: usize) -> Option<Vec<u8>> {
    let [0x30, _, rest @ ..] = der else { return None };
    let (r, rest) = integer(rest, size)?;
    let (s, rest) = integer(rest, size)?;
    rest.is_empty().then(|| [r, s].concat())
}

/// A DER integer as a fixed number of bytes: without the leading zero byte of the sign, and padded with zeros.
fn integer(der: &[u8], size: usize) -> Option<(Vec<u8>, &[u8])> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
    let value = value.strip_prefix(&[0]).unwrap_or(value);
    let mut number = vec![0; size];
    number.get_mut(size.checked_sub(value.len())?..)?.copy_from_slice(value);
    Some((number, rest))
}
