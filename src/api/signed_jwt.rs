//! The settings of a JWT that the operator signs: `clientAuthentication.assertion` and `assertion`.

// For the whole file, because a derive copies the struct without its attributes.
#![allow(clippy::struct_excessive_bools, reason = "independent fields of the API")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::duration::Duration;
use crate::api::{schema, validation};

/// A JWT that the operator signs (RFC 7523). It always contains `iat`, `exp` and a unique `jti`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SignedJwt {
    /// `iss`: the issuer. Default: the client ID. Example: `123456`, the id of a GitHub App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// `sub`: the subject. In a client assertion, it identifies the client. In the assertion of a grant, it is the user for
    /// whom the token is requested; GitHub Apps need none. Default: the client ID in a client assertion, otherwise not sent.
    /// Example: `user@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub subject: Option<String>,
    /// `aud`: the intended audience. Default: the issuer if `spec.issuer` is set or `spec.protectedResource` names one, else
    /// the token endpoint; with `grantType: self_signed_jwt` not sent. Example: `https://login.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub audience: Option<String>,
    /// Additional claims, by name, with any JSON value; up to 16 KiB, nested up to 8 levels deep. They are not
    /// secret: never put a credential here. Default: none. Example: `{scope:
    /// "https://www.googleapis.com/auth/drive"}`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub claims: Map<String, Value>,
    /// `alg`, see [`SigningAlgorithm`], whose description is that of the field in the CRD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,
    /// `kid`: the id of the key at the server. Default: the `kid` of the key if it is a JWK, or the `private_key_id` of a
    /// Google service account; otherwise not sent. Example: `key-2026`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key_id: Option<String>,
    /// `typ`: the type of the JWT. Default: `JWT`. Example: `client-authentication+jwt`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: Option<String>,
    /// Lifetime of the JWT, from 10s to 1h. Default: `60s`; `20m` with `grantType: self_signed_jwt`. Example: `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::ASSERTION_LIFETIME).message("the lifetime of an assertion must be a duration from 10s to 1h, such as 60s"))]
    pub lifetime: Option<Duration>,
    /// How far `iat` is in the past, up to 5m: servers whose clocks are behind reject a later one. `exp` stays the same, so
    /// that the time between both is longer. Times are by the server's clock if its last response shows that it is off by
    /// 5s to 10m. Default: `0s`. Example: `60s`, as GitHub recommends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(validation::ISSUED_AT_SKEW).message("issuedAtSkew of an assertion must be a duration up to 5m, such as 60s"))]
    pub issued_at_skew: Option<Duration>,
    /// Whether to send `nbf`, the time before which the assertion is not valid: the same as `iat`. Default: false. Example:
    /// `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_before: bool,
    /// `x5t#S256`: whether to send the SHA-256 thumbprint of the certificate under `credentials.keys.tlsCertificate`,
    /// which Entra ID uses to find the key. Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate_thumbprint: bool,
    /// `x5t`: whether to send the SHA-1 thumbprint of the same certificate, for servers that do not know `x5t#S256`.
    /// Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate_thumbprint_sha1: bool,
    /// `x5c`: whether to send the certificates under `credentials.keys.tlsCertificate`, that of the key first, at most 16
    /// KiB. Servers that trust the CA need no key of the client. Default: false. Example: `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate_chain: bool,
}

impl SignedJwt {
    /// Whether the header describes the certificate of the key.
    #[must_use]
    pub const fn needs_certificate(&self) -> bool {
        self.certificate_thumbprint || self.certificate_thumbprint_sha1 || self.certificate_chain
    }
}

/// `alg`: the JWS signature algorithm (RFC 7518, section 3.1; RFC 8037). HS256, HS384 and HS512 apply only to
/// `client_secret_jwt` and to `grantType: self_signed_jwt`. Default: the `alg` of the key if it is a JWK that has one, or else that of its type: RS256, ES256,
/// ES384, ES512 or EdDSA; HS256 with `client_secret_jwt`. Example: `PS256`.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// RSA with PKCS#1 v1.5 and SHA-256.
    RS256,
    /// RSA with PKCS#1 v1.5 and SHA-384.
    RS384,
    /// RSA with PKCS#1 v1.5 and SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// ECDSA with P-521 and SHA-512.
    ES512,
    /// Ed25519.
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

impl SigningAlgorithm {
    /// Whether it signs with a secret, and not with a private key.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}
