//! Private keys and their JWS signatures (RFC 7518, section 3; RFC 8037).

#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p521::ecdsa::signature::Signer;
use p521::pkcs8::DecodePrivateKey;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{SignatureAlgorithm, SignatureScheme};
use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use crate::api::signed_jwt::SigningAlgorithm;
use crate::oauth::jwk;
use crate::oauth::jwk::{JsonKey, Material};
use crate::oauth::key_error::KeyError;

/// The size of a coordinate, and of each of the two integers in an ES256 signature, in bytes.
const P256_BYTES: usize = 32;
/// The size of each of the two integers in an ES384 signature, in bytes.
const P384_BYTES: usize = 48;

/// A private key that signs.
#[derive(Clone)]
pub struct SigningKey {
    key: Key,
    key_id: Option<String>,
    algorithm: Option<SigningAlgorithm>,
}

/// The implementation, which depends on the type of the key.
#[derive(Clone)]
enum Key {
    /// RSA, P-256, P-384 and Ed25519.
    Ring(Arc<dyn rustls::sign::SigningKey>),
    /// P-521, which ring does not support.
    P521(Arc<p521::ecdsa::SigningKey>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.kind()).finish()
    }
}

impl SigningKey {
    /// Reads a key: PEM of PKCS#8, PKCS#1 (RSA) or SEC1 (EC); a JWK (RFC 7517); or the JSON file of a Google service
    /// account.
    ///
    /// # Errors
    ///
    /// Why it cannot be used, without quoting it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if !text.trim_start().starts_with('{') {
            return Ok(Self { key: Key::from_pem(text)?, key_id: None, algorithm: None });
        }
        let JsonKey { material, key_id, algorithm } = jwk::parse(text)?;
        let key = match material {
            Material::Pem(pem) => Key::from_pem(&pem)?,
            Material::Der(der) => Key::from_der(der)?,
        };
        Ok(Self { key, key_id, algorithm })
    }

    /// `kid`: the id that is stored with the key.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
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
    /// When it is an EC key on an unsupported curve.
    pub fn default_algorithm(&self) -> Result<SigningAlgorithm, KeyError> {
        const DEFAULTS: [SigningAlgorithm; 4] =
            [SigningAlgorithm::RS256, SigningAlgorithm::ES256, SigningAlgorithm::ES384, SigningAlgorithm::EdDSA];
        match (&self.key, self.algorithm) {
            (_, Some(algorithm)) => Ok(algorithm),
            (Key::P521(_), None) => Ok(SigningAlgorithm::ES512),
            (Key::Ring(key), None) => {
                let can_sign = |algorithm: &SigningAlgorithm| {
                    scheme(*algorithm).is_some_and(|scheme| key.choose_scheme(&[scheme]).is_some())
                };
                DEFAULTS.into_iter().find(can_sign).ok_or(KeyError::UnsupportedCurve)
            }
        }
    }

    /// Signs, and returns the signature in the format of JWS.
    ///
    /// # Errors
    ///
    /// When the key cannot sign with the algorithm.
    pub fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mismatch = KeyError::AlgorithmMismatch { kind: self.kind(), algorithm };
        let key = match &self.key {
            Key::Ring(key) => key,
            Key::P521(key) if algorithm == SigningAlgorithm::ES512 => return sign_es512(key, message),
            Key::P521(_) => return Err(mismatch),
        };
        let scheme = scheme(algorithm);
        let signer = scheme.and_then(|scheme| key.choose_scheme(&[scheme])).ok_or(mismatch)?;
        let signature = signer.sign(message).map_err(|_| KeyError::SignatureFailed)?;
        match algorithm {
            SigningAlgorithm::ES256 => der_to_fixed(&signature, P256_BYTES).ok_or(KeyError::SignatureFailed),
            SigningAlgorithm::ES384 => der_to_fixed(&signature, P384_BYTES).ok_or(KeyError::SignatureFailed),
            _ => Ok(signature),
        }
    }

    fn kind(&self) -> &'static str {
        match &self.key {
            Key::P521(_) => "an EC key",
            Key::Ring(key) => match key.algorithm() {
                SignatureAlgorithm::RSA => "an RSA key",
                SignatureAlgorithm::ECDSA => "an EC key",
                SignatureAlgorithm::ED25519 => "an Ed25519 key",
                _ => "another key",
            },
        }
    }

    /// The two coordinates of the public point of a P-256 key.
    #[must_use]
    pub fn p256_coordinates(&self) -> Option<([u8; P256_BYTES], [u8; P256_BYTES])> {
        let Key::Ring(key) = &self.key else { return None };
        key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
        let public = key.public_key()?;
        // The SubjectPublicKeyInfo of a P-256 key ends with the uncompressed point: 4, x, y.
        let point = public.as_ref().last_chunk::<{ 1 + 2 * P256_BYTES }>().filter(|point| point[0] == 4)?;
        let x = point[1..=P256_BYTES].try_into().ok()?;
        let y = point[1 + P256_BYTES..].try_into().ok()?;
        Some((x, y))
    }
}

impl Key {
    fn from_pem(pem: &str) -> Result<Self, KeyError> {
        // Environment variables and JSON often contain `\n` in place of line breaks.
        let pem = Zeroizing::new(pem.replace("\\n", "\n"));
        if pem.contains("ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        Self::from_der(PrivateKeyDer::from_pem_slice(pem.trim().as_bytes()).map_err(|_| KeyError::NotPem)?)
    }

    fn from_der(mut der: PrivateKeyDer<'static>) -> Result<Self, KeyError> {
        let key = Self::parse(&der);
        der.zeroize();
        key
    }

    fn parse(der: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        let p521 = match der {
            PrivateKeyDer::Pkcs8(key) => p521::SecretKey::from_pkcs8_der(key.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Sec1(key) => p521::SecretKey::from_sec1_der(key.secret_sec1_der()).ok(),
            _ => None,
        };
        if let Some(key) = p521 {
            return Ok(Self::P521(Arc::new(key.into())));
        }
        // The error is dropped because it may quote the key.
        rustls::crypto::ring::sign::any_supported_type(der).map(Self::Ring).map_err(|_| KeyError::Unsupported)
    }
}

/// RFC 7518, section 3.4. The nonce is derived from key and message (RFC 6979).
fn sign_es512(key: &p521::ecdsa::SigningKey, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let signature: p521::ecdsa::Signature = key.try_sign(message).map_err(|_| KeyError::SignatureFailed)?;
    Ok(signature.to_bytes().to_vec())
}

/// The scheme of TLS with the same signatures; `None` for those that ring does not implement, and those without a
/// private key.
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
        // TLS has a scheme for P-521, but ring does not implement it.
        SigningAlgorithm::ES512 | SigningAlgorithm::HS256 | SigningAlgorithm::HS384 | SigningAlgorithm::HS512 => {
            return None;
        }
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
