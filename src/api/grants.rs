//! What some grants need beside the credentials: `assertion`, `tokenExchange`.

use kube::KubeSchema;
use kube::core::Duration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SigningAlgorithm, rules};

/// The assertion of `grantType: jwt_bearer` (RFC 7523, section 2.1), signed with `credentials.keys.privateKey`. `iat`, `exp`
/// and a fresh `jti` are always in it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// `iss`: who says so. Default: the client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
    /// `sub`: for whom the token is asked. Optional: not sent without it, as GitHub and Google want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub subject: Option<String>,
    /// `aud`: who is to believe it. Default: the issuer where `spec.issuer` is given, else the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub audience: Option<String>,
    /// Other claims, by name, with any JSON value, such as `{scope: "https://www.googleapis.com/auth/drive"}`. Never a
    /// credential.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "rules::any_object")]
    pub claims: Map<String, Value>,
    /// Where it goes: `Body` (the default), as the member `assertion` beside `grant_type`, or `AuthorizationHeader`, as
    /// `Authorization: Bearer …` with neither of them, as GitHub Apps ask for installation tokens.
    #[serde(default, skip_serializing_if = "AssertionPlace::is_body")]
    pub place: AssertionPlace,
    /// `alg`: how it is signed. Default: RS256, ES256 or EdDSA, as the key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<SigningAlgorithm>,
    /// `kid`: by which name the server knows the key. Optional: not sent without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub key_id: Option<String>,
    /// How long it may be used, such as `60s`; 10s to 1h. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(rules::ASSERTION_LIFE).message("assertion.lifetime must be a duration from 10s to 1h, such as 60s"))]
    pub lifetime: Option<Duration>,
}

/// Where an assertion goes.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AssertionPlace {
    /// The body of the request.
    #[default]
    Body,
    /// The Authorization header.
    AuthorizationHeader,
}

impl AssertionPlace {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_body(&self) -> bool {
        *self == Self::Body
    }
}

/// What `grantType: token_exchange` (RFC 8693) exchanges for what.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchange {
    /// Where the subject token comes from: `Secret` (the default), which is `credentials.keys.subjectToken`, or
    /// `ServiceAccount`, which is `spec.serviceAccountToken`.
    #[serde(default)]
    pub subject_token_source: SubjectTokenSource,
    /// What the subject token is (RFC 8693, section 3). Default: `urn:ietf:params:oauth:token-type:access_token`, and
    /// `urn:ietf:params:oauth:token-type:jwt` for a ServiceAccount's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub subject_token_type: Option<String>,
    /// What the token under `credentials.keys.actorToken` is. Optional: without it no actor token is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub actor_token_type: Option<String>,
    /// What is wanted in exchange. Optional: without it the server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub requested_token_type: Option<String>,
}

/// Where a subject token comes from.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubjectTokenSource {
    /// The credentials Secret.
    #[default]
    Secret,
    /// The API server, for `spec.serviceAccountToken`.
    ServiceAccount,
}
