//! The CEL rules and bounds of the API, by name, and the CRD that carries them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use super::OAuthIntegration;
use crate::error::Error;

pub(super) const TARGET_IS_NOT_CREDENTIALS: &str = "!has(self.spec.credentials) || self.spec.credentials.secretName != (has(self.spec.target) && has(self.spec.target.secretName) ? self.spec.target.secretName : self.metadata.name)";

/// Without credentials there is nothing to sign with, and no user.
pub(super) const CREDENTIALS_NEEDED: &str = "has(self.credentials) || (has(self.clientAuthentication) && self.clientAuthentication.method in ['service_account_token', 'none'] && self.grantType in ['client_credentials', 'token_exchange'] && (self.grantType != 'token_exchange' || (has(self.tokenExchange) && self.tokenExchange.subjectTokenSource == 'ServiceAccount')))";
pub(super) const SERVICE_ACCOUNT_TOKEN_GIVEN: &str = "has(self.serviceAccountToken) == ((has(self.clientAuthentication) && self.clientAuthentication.method == 'service_account_token') || (has(self.tokenExchange) && self.tokenExchange.subjectTokenSource == 'ServiceAccount'))";

pub(super) const ENDPOINT: &str = r"isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' && self.matches('^https?://[^/?#@\\s]+([/?][^#\\s]*)?$')";

pub(super) const TOKEN_LIFE: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('5s') && duration(self) <= duration('8760h')";
pub(super) const RENEW_BEFORE: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('8760h')";
pub(super) const TIMEOUT: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('60s')";

pub(super) const SECRET_NAME: &str =
    r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";

pub(super) const ASSERTION_LIFE: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('10s') && duration(self) <= duration('1h')";
pub(super) const SERVICE_ACCOUNT_TOKEN_LIFE: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('10m') && duration(self) <= duration('1h')";
pub(super) const REVOKE_AFTER: &str = r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')";

/// The members that a request may hold by itself, which `bodyKeys` may rename.
pub(super) const BODY_KEYS: &str = "self.all(name, name in ['grant_type', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'refresh_token', 'username', 'password', 'assertion', 'subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'scope'])";
pub(super) const BODY_KEYS_DISTINCT: &str = "self.all(name, self.exists_one(other, self[other] == self[name]))";

pub(super) const EXTRA_NAMES: &str = r"self.all(name, name.matches('^[-._a-zA-Z0-9]+$') && size(name) <= 253)";
/// What `extra` writes must not stand under the key of another value.
pub(super) const EXTRA_NOT_TOKENS: &str = "!has(self.response) || !has(self.response.extra) || self.response.extra.all(name, !(name in [\
 has(self.target) && has(self.target.keys) ? self.target.keys.accessToken : 'access_token',\
 has(self.target) && has(self.target.keys) ? self.target.keys.refreshToken : 'refresh_token',\
 has(self.target) && has(self.target.keys) && has(self.target.keys.tokenType) ? self.target.keys.tokenType : '',\
 has(self.target) && has(self.target.keys) && has(self.target.keys.expiresAt) ? self.target.keys.expiresAt : '',\
 has(self.target) && has(self.target.keys) && has(self.target.keys.scope) ? self.target.keys.scope : '',\
 has(self.target) && has(self.target.keys) && has(self.target.keys.dpopKey) ? self.target.keys.dpopKey : 'dpop_key']))";

pub(super) const RESOURCE_KEY: &str = "!(self in ['grant_type', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'refresh_token', 'username', 'password', 'assertion', 'subject_token', 'actor_token', 'scope'])";

pub(super) const HEADER_NAMES: &str = "self.all(name, !(name.lowerAscii() in ['authorization', 'proxy-authorization', 'cookie', 'host', 'content-type', 'content-length', 'transfer-encoding', 'connection', 'dpop']))";
pub(super) const HEADER_TEXT: &str =
    r"self.all(name, name.matches('^[A-Za-z0-9-]+$') && self[name].matches('^[ -~]*$'))";

pub(super) const TYPE_STAYS: &str = "self.type == oldSelf.type || (has(self.secretName) && (!has(oldSelf.secretName) || self.secretName != oldSelf.secretName))";
pub(super) const SECRET_TYPE: &str =
    "!(self in ['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token'])";

pub(super) const NOT_RESERVED: &str =
    "self.all(key, key != 'app.kubernetes.io/managed-by' && !key.startsWith('oauth.evolutionx.io/'))";
pub(super) const LABELS: &str = r"self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && self[key].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'))";
/// Keys by which others are told what to do with a Secret: to mirror it into other namespaces, to take it for a cluster's or a
/// repository's credentials. Who may write an integration need not be allowed to write such a Secret.
pub(super) const NOT_STEERING: &str = r"self.all(key, key.startsWith('app.kubernetes.io/') || !key.matches('^([^/]+[.])?(kubernetes[.]io|k8s[.]io|argoproj[.]io|fluxcd[.]io|helm[.]sh|cert-manager[.]io|external-secrets[.]io|crossplane[.]io|emberstack[.]com|mittwald[.]de|istio[.]io|tekton[.]dev|cattle[.]io|rancher[.]io|openshift[.]io|jenkins[.]io|vmware[.]com)/'))";
pub(super) const ANNOTATIONS: &str = r"self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";

/// Each key against the ones before it, so that no pair is left out.
pub(super) const DISTINCT_KEYS: &str = "self.accessToken != self.refreshToken\
 && (!has(self.tokenType) || !(self.tokenType in [self.accessToken, self.refreshToken]))\
 && (!has(self.expiresAt) || !(self.expiresAt in [self.accessToken, self.refreshToken, has(self.tokenType) ? self.tokenType : '']))\
 && (!has(self.scope) || !(self.scope in [self.accessToken, self.refreshToken, has(self.tokenType) ? self.tokenType : '', has(self.expiresAt) ? self.expiresAt : '']))\
 && (!has(self.dpopKey) || !(self.dpopKey in [self.accessToken, self.refreshToken, has(self.tokenType) ? self.tokenType : '', has(self.expiresAt) ? self.expiresAt : '', has(self.scope) ? self.scope : '']))";

/// A key of a Secret, as the API server itself checks it.
pub(super) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"})
}

pub(super) fn parameters(_: &mut SchemaGenerator) -> Schema {
    text_map(64, 4096)
}

pub(super) fn body_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 15,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 128},
    })
}

pub(super) fn extra(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 4096},
    })
}

/// An object with members of any kind.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

pub(super) fn headers(_: &mut SchemaGenerator) -> Schema {
    text_map(32, 2048)
}

pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    text_map(32, 63)
}

pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    text_map(32, 4096)
}

/// The bounds keep the estimated cost of the CEL rules within what the API server admits.
fn text_map(entries: u32, length: u32) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": entries,
        "additionalProperties": {"type": "string", "maxLength": length},
    })
}

/// The CRD that `make crds` writes and the chart installs.
///
/// Its default status makes `kubectl get` and kstatus tell an integration that no operator has seen yet from
/// one that is done, at no API call (the way of the Gateway API).
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = OAuthIntegration::crd();
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        unwrap_lines(schema);
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(json!({"conditions": [{
                "type": "Ready",
                "status": "Unknown",
                "reason": "Pending",
                "message": "waiting for the operator",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }]})));
        }
    }
    crd
}

/// Prints the CRD: `oauth-operator crd`.
///
/// # Errors
///
/// When it cannot be written as YAML.
pub fn print_crd() -> Result<(), Error> {
    let yaml = serde_saphyr::to_string(&crd()).map_err(|error| Error::Manifest(error.to_string()))?;
    print!("{yaml}");
    Ok(())
}

/// The line breaks of the source are not those of the text: `kubectl explain` breaks lines by itself.
fn unwrap_lines(schema: &mut JSONSchemaProps) {
    if let Some(text) = &mut schema.description {
        *text = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(unwrap_lines);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unwrap_lines(items);
    }
}
