//! JSON Web Tokens that the operator signs: assertions (RFC 7523) and DPoP proofs (RFC 9449). Pure.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use sha2::{Sha256, Sha384, Sha512};

use crate::api::signed_jwt::SigningAlgorithm;
use crate::oauth::certificate_header::CertificateHeader;
use crate::oauth::key_error::KeyError;
use crate::oauth::signing_key::SigningKey;

/// The values that make each JWT unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtStamp {
    /// The time.
    pub now: Timestamp,
    /// `jti`: the unique identifier (RFC 7519, section 4.1.7).
    pub id: String,
}

impl JwtStamp {
    /// The time and a random identifier of 128 bits.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { now, id: hex::encode(rand::random::<[u8; 16]>()) }
    }
}

/// The claims of an assertion (RFC 7523, section 3).
#[derive(Clone, Debug, Default)]
pub struct Claims<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: Option<&'a str>,
    /// `aud`.
    pub audience: Option<&'a str>,
    /// The time until `exp`.
    pub lifetime: Duration,
    /// How far `iat` is in the past.
    pub issued_at_skew: Duration,
    /// Whether to send `nbf`, the same as `iat`.
    pub not_before: bool,
    /// Additional claims; those above take precedence.
    pub others: Option<&'a Map<String, Value>>,
}

impl Claims<'_> {
    fn json(&self, stamp: &JwtStamp) -> Value {
        let Self { issuer, subject, audience, lifetime, issued_at_skew, not_before, others } = self;
        let now = stamp.now.as_second();
        let seconds = |duration: &Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let issued_at = now.saturating_sub(seconds(issued_at_skew));
        let mut claims = others.cloned().unwrap_or_default();
        claims.extend([
            ("iss".to_owned(), json!(issuer)),
            ("iat".to_owned(), json!(issued_at)),
            ("exp".to_owned(), json!(now.saturating_add(seconds(lifetime)))),
            ("jti".to_owned(), json!(stamp.id)),
        ]);
        for (name, value) in [("aud", audience), ("sub", subject)] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), json!(value));
            }
        }
        if *not_before {
            claims.insert("nbf".to_owned(), json!(issued_at));
        }
        Value::Object(claims)
    }
}

/// The parameters of the JOSE header other than `alg`.
#[derive(Clone, Debug, Default)]
pub struct JoseHeader<'a> {
    /// `typ`. Default: `JWT`.
    pub type_: Option<&'a str>,
    /// `kid`. Default: the id that is stored with the key.
    pub key_id: Option<&'a str>,
    /// The certificate of the key.
    pub certificate: CertificateHeader,
}

/// An assertion signed with a private key; `algorithm` defaults to the default algorithm of the key.
///
/// # Errors
///
/// When the key cannot sign with the algorithm.
pub fn sign(
    key: &SigningKey,
    algorithm: Option<SigningAlgorithm>,
    header: &JoseHeader<'_>,
    claims: &Claims<'_>,
    stamp: &JwtStamp,
) -> Result<SecretString, KeyError> {
    let algorithm = algorithm.map_or_else(|| key.default_algorithm(), Ok)?;
    compact(&header.json(algorithm, key.key_id()), &claims.json(stamp), |message| key.sign(algorithm, message))
}

impl JoseHeader<'_> {
    fn json(&self, algorithm: SigningAlgorithm, id_of_key: Option<&str>) -> Value {
        let Self { type_, key_id, certificate: CertificateHeader { thumbprint, thumbprint_sha1, chain } } = self;
        let mut members = json!({"alg": format!("{algorithm:?}"), "typ": type_.unwrap_or("JWT")});
        let optional = [
            ("kid", key_id.or(id_of_key).map(Value::from)),
            ("x5t#S256", thumbprint.clone().map(Value::from)),
            ("x5t", thumbprint_sha1.clone().map(Value::from)),
            ("x5c", chain.clone().map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                members[name] = value;
            }
        }
        members
    }
}

/// An assertion signed with the client secret; `algorithm` defaults to HS256.
///
/// # Errors
///
/// When the algorithm needs a private key. A secret of any length is a valid key.
pub fn sign_with_secret(
    secret: &SecretString,
    algorithm: Option<SigningAlgorithm>,
    header: &JoseHeader<'_>,
    claims: &Claims<'_>,
    stamp: &JwtStamp,
) -> Result<SecretString, KeyError> {
    let algorithm = algorithm.unwrap_or(SigningAlgorithm::HS256);
    let key = secret.expose_secret().as_bytes();
    compact(&header.json(algorithm, None), &claims.json(stamp), |message| match algorithm {
        SigningAlgorithm::HS256 => mac::<Hmac<Sha256>>(key, message),
        SigningAlgorithm::HS384 => mac::<Hmac<Sha384>>(key, message),
        SigningAlgorithm::HS512 => mac::<Hmac<Sha512>>(key, message),
        _ => Err(KeyError::AlgorithmMismatch { kind: "a secret", algorithm }),
    })
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| KeyError::SignatureFailed)?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().to_vec())
}

/// A proof that the sender possesses a key (RFC 9449, section 4.2).
///
/// # Errors
///
/// When the key is not an EC key on P-256.
pub fn dpop_proof(
    key: &SigningKey,
    method: &str,
    url: &str,
    nonce: Option<&str>,
    stamp: &JwtStamp,
) -> Result<SecretString, KeyError> {
    let jwk = jwk(key).ok_or(KeyError::NotP256)?;
    let mut claims = json!({"jti": stamp.id, "htm": method, "htu": url, "iat": stamp.now.as_second()});
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
    compact(&header, &claims, |message| key.sign(SigningAlgorithm::ES256, message))
}

/// The public key, as JSON (RFC 7517; RFC 7518, section 6.2).
#[must_use]
pub fn jwk(key: &SigningKey) -> Option<Value> {
    let (x, y) = key.p256_coordinates()?;
    Some(json!({"kty": "EC", "crv": "P-256", "x": encode(&x), "y": encode(&y)}))
}

/// `BASE64URL(header) . BASE64URL(payload) . BASE64URL(signature)` (RFC 7515, section 3.1).
fn compact(
    header: &Value,
    payload: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
) -> Result<SecretString, KeyError> {
    let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload.to_string().as_bytes()));
    let signature = sign(message.as_bytes())?;
    Ok(format!("{message}.{}", encode(&signature)).into())
}

/// Base64 for URLs, without padding (RFC 7515, section 2).
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
