//! Why a private key, or a secret as a key, is unusable.

use crate::api::signed_jwt::SigningAlgorithm;

/// Why a key is unusable. The messages never quote the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// PEM with a passphrase.
    #[error("the private key is encrypted: store it without a passphrase")]
    Encrypted,
    /// The text is not a private key.
    #[error(
        "the value is not a private key as PEM (-----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY), PKCS#12, a JWK, or the JSON file of a Google service account"
    )]
    NotPem,
    /// The type or size of the key is not supported.
    #[error(
        "the private key cannot be used for signing: use RSA of 2048 to 4096 bits, EC P-256, EC P-384, EC P-521 or Ed25519"
    )]
    Unsupported,
    /// An EC key on another curve.
    #[error(
        "the private key is an EC key on a curve other than P-256, P-384 and P-521: use one of these, or an RSA key"
    )]
    UnsupportedCurve,
    /// Several keys.
    #[error("the value is a JWK set: store only the JWK of the private key, without {{\"keys\": […]}} around it")]
    JwkSet,
    /// A JWK without the private member.
    #[error("the JWK contains no private key (d): store the private JWK, and give the public one to the server")]
    PublicJwk,
    /// A JWK of a secret.
    #[error(
        "the JWK is symmetric (kty oct), not a private key: store its secret as the client secret, and use client_secret_jwt"
    )]
    SymmetricJwk,
    /// A JWK that lacks members, or with members that are not base64url.
    #[error(
        "the JWK is not complete: an RSA key needs n, e, d, p, q, dp, dq and qi, an EC key crv, x, y and d, an OKP key crv and d, as base64url"
    )]
    MalformedJwk,
    /// An id that is longer than the spec allows.
    #[error("the kid of the key has more than 256 bytes: shorten it")]
    KeyIdTooLong,
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
