//! JSON Web Tokens that the operator makes: assertions (RFC 7523) and proofs (RFC 9449). Pure.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::key::Key;
use crate::api::SigningAlgorithm;

/// What makes one token differ from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// The time.
    pub now: Timestamp,
    /// `jti`: a name that no other token has (RFC 7519, section 4.1.7).
    pub id: String,
}

impl Fresh {
    /// The time and a random name of 128 bits.
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
    pub audience: &'a str,
    /// The time between `iat` and `exp`.
    pub lifetime: Duration,
    /// All others.
    pub others: Option<&'a Map<String, Value>>,
}

impl Claims<'_> {
    fn json(&self, fresh: &Fresh) -> Value {
        let Self { issuer, subject, audience, lifetime, others } = self;
        let now = fresh.now.as_second();
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let mut claims = others.cloned().unwrap_or_default();
        claims.extend([
            ("iss".to_owned(), json!(issuer)),
            ("aud".to_owned(), json!(audience)),
            ("iat".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now.saturating_add(lifetime))),
            ("jti".to_owned(), json!(fresh.id)),
        ]);
        if let Some(subject) = subject {
            claims.insert("sub".to_owned(), json!(subject));
        }
        Value::Object(claims)
    }
}

/// What stands in the header beside `alg`.
#[derive(Clone, Debug, Default)]
pub struct Header<'a> {
    /// `kid`.
    pub key_id: Option<&'a str>,
    /// `x5t#S256` (RFC 7515, section 4.1.8).
    pub certificate_thumbprint: Option<String>,
}

/// An assertion that a private key signs; without an `algorithm`, by the one that is the key's own.
///
/// # Errors
///
/// What is wrong with the key.
pub fn signed(
    key: &Key,
    algorithm: Option<SigningAlgorithm>,
    header: &Header<'_>,
    claims: &Claims<'_>,
    fresh: &Fresh,
) -> Result<SecretString, String> {
    let algorithm = algorithm.map_or_else(|| key.default_algorithm(), Ok)?;
    let Header { key_id, certificate_thumbprint } = header;
    let mut members = json!({"alg": format!("{algorithm:?}"), "typ": "JWT"});
    if let Some(key_id) = key_id {
        members["kid"] = json!(key_id);
    }
    if let Some(thumbprint) = certificate_thumbprint {
        members["x5t#S256"] = json!(thumbprint);
    }
    compact(&members, &claims.json(fresh), |message| key.sign(algorithm, message))
}

/// An assertion that the client secret signs, by HS256.
///
/// # Errors
///
/// None; a secret of any length is a key.
pub fn signed_by_secret(secret: &SecretString, claims: &Claims<'_>, fresh: &Fresh) -> Result<SecretString, String> {
    compact(&json!({"alg": "HS256", "typ": "JWT"}), &claims.json(fresh), |message| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
            .map_err(|_| "is no key for HS256".to_owned())?;
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    })
}

/// A proof that the sender holds a key (RFC 9449, section 4.2).
///
/// # Errors
///
/// Where the key is not one of P-256.
pub fn proof(key: &Key, method: &str, url: &str, nonce: Option<&str>, fresh: &Fresh) -> Result<SecretString, String> {
    let jwk = jwk(key).ok_or_else(|| "is not an EC key of P-256".to_owned())?;
    let mut claims = json!({"jti": fresh.id, "htm": method, "htu": url, "iat": fresh.now.as_second()});
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
    compact(&header, &claims, |message| key.sign(SigningAlgorithm::ES256, message))
}

/// The public key, as JSON (RFC 7517; RFC 7518, section 6.2).
#[must_use]
pub fn jwk(key: &Key) -> Option<Value> {
    let (x, y) = key.point()?;
    Some(json!({"kty": "EC", "crv": "P-256", "x": encode(&x), "y": encode(&y)}))
}

/// The SHA-256 thumbprint of a public key as JSON (RFC 7638): of the members that make the key, by name, without blanks.
#[must_use]
pub fn thumbprint(jwk: &Value) -> Option<String> {
    let names: &[&str] = match jwk["kty"].as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let members: Option<Vec<String>> =
        names.iter().map(|name| Some(format!("\"{name}\":\"{}\"", jwk[name].as_str()?))).collect();
    Some(encode(&Sha256::digest(format!("{{{}}}", members?.join(",")))))
}

/// `BASE64URL(header) . BASE64URL(payload) . BASE64URL(signature)` (RFC 7515, section 3.1).
fn compact(
    header: &Value,
    payload: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<SecretString, String> {
    let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload.to_string().as_bytes()));
    let signature = sign(message.as_bytes())?;
    Ok(format!("{message}.{}", encode(&signature)).into())
}

/// Base64 for URLs, without padding (RFC 7515, section 2).
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
