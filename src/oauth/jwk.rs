//! Private keys in JSON: a JWK (RFC 7517), or the file of a Google service account. Pure.

#![deny(clippy::disallowed_methods)]

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use der::asn1::{BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Encode, Sequence};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::api::signed_jwt::SigningAlgorithm;
use crate::oauth::key_error::KeyError;

/// The maximum length of a `kid`, as of `keyId` in the spec.
const MAX_KEY_ID: usize = 256;

const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key in JSON.
pub(crate) struct JsonKey<'a> {
    /// The key.
    pub(crate) material: Material<'a>,
    /// `kid`, or `private_key_id`.
    pub(crate) key_id: Option<String>,
    /// `alg`, if it is a signature algorithm with a private key.
    pub(crate) algorithm: Option<SigningAlgorithm>,
}

/// The key itself.
pub(crate) enum Material<'a> {
    /// Of the file of a service account.
    Pem(Cow<'a, str>),
    /// Of a JWK.
    Der(PrivateKeyDer<'static>),
}

/// The members of both formats. Others are ignored.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    private_key: Option<Cow<'a, str>>,
    private_key_id: Option<String>,
    keys: Option<IgnoredAny>,
    kty: Option<String>,
    crv: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(borrow)]
    k: Option<Cow<'a, str>>,
    #[serde(borrow)]
    d: Option<Cow<'a, str>>,
    #[serde(borrow)]
    n: Option<Cow<'a, str>>,
    #[serde(borrow)]
    e: Option<Cow<'a, str>>,
    #[serde(borrow)]
    p: Option<Cow<'a, str>>,
    #[serde(borrow)]
    q: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dq: Option<Cow<'a, str>>,
    #[serde(borrow)]
    qi: Option<Cow<'a, str>>,
    #[serde(borrow)]
    x: Option<Cow<'a, str>>,
    #[serde(borrow)]
    y: Option<Cow<'a, str>>,
}

/// RFC 8017, appendix A.1.2.
#[derive(Sequence)]
struct RsaPrivateKey<'a> {
    version: u8,
    n: UintRef<'a>,
    e: UintRef<'a>,
    d: UintRef<'a>,
    p: UintRef<'a>,
    q: UintRef<'a>,
    dp: UintRef<'a>,
    dq: UintRef<'a>,
    qi: UintRef<'a>,
}

/// RFC 5915, section 3.
#[derive(Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    curve: ObjectIdentifier,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    public_key: BitStringRef<'a>,
}

/// RFC 5958, section 2.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AlgorithmIdentifier,
    private_key: &'a OctetStringRef,
}

/// RFC 8410, section 3: without parameters.
#[derive(Sequence)]
struct AlgorithmIdentifier {
    oid: ObjectIdentifier,
}

/// Reads a key in JSON.
///
/// # Errors
///
/// Why it cannot be used, without quoting it.
pub(crate) fn parse(json: &str) -> Result<JsonKey<'_>, KeyError> {
    let members: Members<'_> = serde_json::from_str(json).map_err(|_| KeyError::NotPem)?;
    let material = match &members {
        Members { private_key: Some(pem), .. } => Material::Pem(pem.clone()),
        Members { keys: Some(_), .. } => return Err(KeyError::JwkSet),
        Members { kty: None, .. } => return Err(KeyError::NotPem),
        members => Material::Der(members.der()?),
    };
    let Members { private_key_id, kid, alg, .. } = members;
    let key_id = kid.or(private_key_id).filter(|id| !id.is_empty());
    if key_id.as_ref().is_some_and(|id| id.len() > MAX_KEY_ID) {
        return Err(KeyError::KeyIdTooLong);
    }
    // An algorithm of encryption, for example, does not say how to sign.
    let algorithm = alg.and_then(|alg| serde_json::from_value(alg.into()).ok());
    Ok(JsonKey {
        material,
        key_id,
        algorithm: algorithm.filter(|algorithm: &SigningAlgorithm| !algorithm.is_symmetric()),
    })
}

impl Members<'_> {
    fn der(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        let crv = self.crv.as_deref().unwrap_or_default();
        let kty = self.kty.as_deref().unwrap_or_default();
        if kty == "oct" || self.k.is_some() {
            return Err(KeyError::SymmetricJwk);
        }
        if self.d.is_none() {
            return Err(KeyError::PublicJwk);
        }
        match (kty, crv) {
            ("RSA", _) => self.rsa(),
            ("EC", "P-256") => self.ec(P256, 32),
            ("EC", "P-384") => self.ec(P384, 48),
            ("EC", "P-521") => self.ec(P521, 66),
            ("EC", _) => Err(KeyError::UnsupportedCurve),
            ("OKP", "Ed25519") => self.ed25519(),
            _ => Err(KeyError::Unsupported),
        }
    }

    #[expect(clippy::many_single_char_names, reason = "the names of RFC 7518, section 6.3")]
    fn rsa(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        let numbers = [&self.n, &self.e, &self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi];
        let numbers = numbers.map(|number| bytes(number.as_ref()));
        let [n, e, d, p, q, dp, dq, qi] = &numbers;
        let key = RsaPrivateKey {
            version: 0,
            n: uint(n)?,
            e: uint(e)?,
            d: uint(d)?,
            p: uint(p)?,
            q: uint(q)?,
            dp: uint(dp)?,
            dq: uint(dq)?,
            qi: uint(qi)?,
        };
        Ok(PrivatePkcs1KeyDer::from(encoded(&key)?).into())
    }

    fn ec(&self, curve: ObjectIdentifier, size: usize) -> Result<PrivateKeyDer<'static>, KeyError> {
        // RFC 7518, section 6.2: the numbers have the size of the curve; some implementations omit leading zeros.
        let [d, x, y] = [&self.d, &self.x, &self.y].map(|number| padded(&bytes(number.as_ref())?, size));
        let (d, point) = (d?, [&[4], x?.as_slice(), y?.as_slice()].concat());
        let key = EcPrivateKey {
            version: 1,
            private_key: OctetStringRef::new(&d).map_err(malformed)?,
            curve,
            public_key: BitStringRef::from_bytes(&point).map_err(malformed)?,
        };
        Ok(PrivateSec1KeyDer::from(encoded(&key)?).into())
    }

    fn ed25519(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        let seed = padded(&bytes(self.d.as_ref())?, 32)?;
        let inner = OctetStringRef::new(&seed).and_then(|seed| seed.to_der()).map(Zeroizing::new).map_err(malformed)?;
        let key = PrivateKeyInfo {
            version: 0,
            algorithm: AlgorithmIdentifier { oid: ED25519 },
            private_key: OctetStringRef::new(&inner).map_err(malformed)?,
        };
        Ok(PrivatePkcs8KeyDer::from(encoded(&key)?).into())
    }
}

fn malformed(_: der::Error) -> KeyError {
    KeyError::MalformedJwk
}

/// The bytes of a member, which the format requires.
fn bytes(member: Option<&Cow<'_, str>>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = member.ok_or(KeyError::MalformedJwk)?.trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| KeyError::MalformedJwk)
}

fn padded(number: &[u8], size: usize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let zeros = size.checked_sub(number.len()).ok_or(KeyError::MalformedJwk)?;
    Ok(Zeroizing::new([vec![0; zeros].as_slice(), number].concat()))
}

fn uint(bytes: &Result<Zeroizing<Vec<u8>>, KeyError>) -> Result<UintRef<'_>, KeyError> {
    let bytes = bytes.as_ref().map_err(Clone::clone)?;
    UintRef::new(bytes).map_err(malformed)
}

fn encoded(key: &impl Encode) -> Result<Vec<u8>, KeyError> {
    key.to_der().map_err(malformed)
}
