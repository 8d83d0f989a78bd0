//! Private keys, and what they sign: JWS signatures (RFC 7518, section 3; RFC 8037).

#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use secrecy::SecretString;

use crate::api::SigningAlgorithm;

/// Bytes of each of the two numbers of an ES256 signature.
const P256_BYTES: usize = 32;

/// A private key that signs.
#[derive(Clone)]
pub struct Key(Arc<dyn SigningKey>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.0.algorithm()).finish()
    }
}

impl Key {
    /// Reads a key: PEM of PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
    ///
    /// # Errors
    ///
    /// What is wrong with it, without any part of it.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        if pem.contains("ENCRYPTED") {
            return Err("is encrypted: write it without a password".to_owned());
        }
        let der = PrivateKeyDer::from_pem_slice(pem.trim().as_bytes()).map_err(|_| {
            "is not a private key as PEM (-----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY)".to_owned()
        })?;
        // The error may quote what it could not parse.
        let key = rustls::crypto::ring::sign::any_supported_type(&der)
            .map_err(|_| "is not a key that can sign: RSA of 2048 bits or more, EC P-256 or Ed25519".to_owned())?;
        Ok(Self(key))
    }

    /// Makes a key of P-256: PEM of PKCS#8.
    ///
    /// # Errors
    ///
    /// Where the system has no random numbers.
    pub fn generate() -> Result<SecretString, String> {
        let rng = ring::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng)
            .map_err(|_| "could not be made: the system has no random numbers".to_owned())?;
        // RFC 7468, section 2: 64 characters on each line.
        let text = STANDARD.encode(pkcs8.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")).into())
    }

    /// How it signs where nothing else is wanted.
    ///
    /// # Errors
    ///
    /// For an EC key of another curve than P-256.
    pub fn default_algorithm(&self) -> Result<SigningAlgorithm, String> {
        let mut algorithms = [SigningAlgorithm::RS256, SigningAlgorithm::ES256, SigningAlgorithm::EdDSA].into_iter();
        algorithms
            .find(|algorithm| self.0.choose_scheme(&[scheme(*algorithm)]).is_some())
            .ok_or_else(|| "is an EC key of another curve than P-256: make one of that, or an RSA key".to_owned())
    }

    /// Signs, in the form of a JWS.
    ///
    /// # Errors
    ///
    /// Where the key is not one for the algorithm.
    pub fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, String> {
        let kind = match self.0.algorithm() {
            SignatureAlgorithm::RSA => "an RSA key",
            SignatureAlgorithm::ECDSA => "an EC key",
            SignatureAlgorithm::ED25519 => "an Ed25519 key",
            _ => "another key",
        };
        let signer = self.0.choose_scheme(&[scheme(algorithm)]).ok_or_else(|| {
            format!("is {kind}, which cannot sign by {algorithm:?}: change the algorithm, or take it out")
        })?;
        let signature = signer.sign(message).map_err(|_| "does not sign: make a new one".to_owned())?;
        match algorithm {
            SigningAlgorithm::ES256 => fixed(&signature).ok_or_else(|| "does not sign: make a new one".to_owned()),
            SigningAlgorithm::RS256 | SigningAlgorithm::PS256 | SigningAlgorithm::EdDSA => Ok(signature),
        }
    }

    /// The point of a P-256 key: its two coordinates.
    #[must_use]
    pub fn point(&self) -> Option<([u8; P256_BYTES], [u8; P256_BYTES])> {
        self.0.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
        let public = self.0.public_key()?;
        // The last thing in a SubjectPublicKeyInfo of P-256 is the uncompressed point: 4, x, y.
        let point = public.as_ref().last_chunk::<{ 1 + 2 * P256_BYTES }>().filter(|point| point[0] == 4)?;
        let x = point[1..=P256_BYTES].try_into().ok()?;
        let y = point[1 + P256_BYTES..].try_into().ok()?;
        Some((x, y))
    }
}

const fn scheme(algorithm: SigningAlgorithm) -> SignatureScheme {
    match algorithm {
        SigningAlgorithm::RS256 => SignatureScheme::RSA_PKCS1_SHA256,
        SigningAlgorithm::PS256 => SignatureScheme::RSA_PSS_SHA256,
        SigningAlgorithm::ES256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        SigningAlgorithm::EdDSA => SignatureScheme::ED25519,
    }
}

/// TLS writes an ECDSA signature as ASN.1 (a sequence of two integers), a JWS as two numbers of fixed length (RFC 7518,
/// section 3.4).
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, _, rest @ ..] = der else { return None };
    let (r, rest) = integer(rest)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then(|| [r, s].concat())
}

/// An integer, without the zero that keeps it positive and with those that fill it up.
fn integer(der: &[u8]) -> Option<([u8; P256_BYTES], &[u8])> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
    let value = value.strip_prefix(&[0]).unwrap_or(value);
    let mut number = [0; P256_BYTES];
    number.get_mut(P256_BYTES.checked_sub(value.len())?..)?.copy_from_slice(value);
    Some((number, rest))
}
