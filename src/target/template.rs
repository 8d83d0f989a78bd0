//! The metadata, type and keys of a target Secret.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::spec::OAuthIntegrationSpec;
use crate::api::target::{DeletionPolicy, TargetKeys, default_type};
use crate::fingerprint;
use crate::oauth::expression::jsonata::Expression;
use crate::target::annotations::WrittenKeys;
use crate::target::types;

/// Key of the private key of `spec.dpop`, if the spec names none.
const DPOP_KEY: &str = "dpop_key";

/// Length of the dummy token of a dry run; tokens of large identity providers have about this length.
pub(crate) const PLACEHOLDER_LENGTH: usize = 1_500;

/// The shape of a target Secret, without its tokens.
#[derive(Clone, Debug)]
pub struct SecretTemplate {
    /// Name of the Secret.
    pub secret_name: String,
    /// Name of the Secret for the refresh token, if it is another one.
    pub refresh_token_secret: Option<String>,
    /// The key of each value.
    pub keys: TargetKeys,
    /// The expressions for more keys.
    pub data: BTreeMap<String, DataExpression>,
    /// Type of the Secret.
    pub type_: String,
    /// Labels from the spec.
    pub labels: BTreeMap<String, String>,
    /// Annotations from the spec.
    pub annotations: BTreeMap<String, String>,
    /// Whether it stays when its integration is deleted.
    pub retained: bool,
    /// Hash of everything that can change without a new token.
    pub hash: String,
}

/// An expression for one key.
#[derive(Clone, Debug)]
pub struct DataExpression {
    /// The whole expression.
    pub expression: Expression,
    /// Its fingerprint, by which a stored value is recognized as its result.
    pub fingerprint: String,
}

impl SecretTemplate {
    /// The shape that a spec requests.
    ///
    /// # Errors
    ///
    /// A message that names the field to change.
    pub fn new(integration: &str, spec: &OAuthIntegrationSpec) -> Result<Self, String> {
        let target = &spec.target;
        let mut keys = TargetKeys::clone(&target.keys);
        if spec.shared.dpop.is_some() {
            keys.dpop_key.get_or_insert_with(|| DPOP_KEY.to_owned());
        } else {
            keys.dpop_key = None;
        }
        let retained = target.deletion_policy == Some(DeletionPolicy::Retain);
        let mut looks = json!({
            "labels": target.labels,
            "annotations": target.annotations,
            "renewBefore": spec.shared.renew_before,
        });
        if let Some(jitter) = spec.shared.renewal.jitter {
            looks["jitter"] = json!(jitter);
        }
        if retained {
            looks["retained"] = json!(true);
        }
        if let Some(name) = &target.refresh_token_secret_name {
            looks["refreshTokenSecret"] = json!(name);
        }
        if !target.data.is_empty() {
            looks["data"] = json!(target.data);
        }
        let parsed = |text: &str| Expression::unchecked(text).map_err(|error| error.to_string());
        let data = target.data.iter().map(|(key, text)| {
            Ok((
                key.clone(),
                DataExpression { expression: parsed(text)?, fingerprint: fingerprint::unsalted(&json!(text)) },
            ))
        });
        let data = data.collect::<Result<_, String>>()?;
        let template = Self {
            data,
            refresh_token_secret: target.refresh_token_secret_name.clone(),
            secret_name: target.secret_name.clone().unwrap_or_else(|| integration.to_owned()),
            keys,
            type_: target.type_.clone(),
            labels: target.labels.clone(),
            annotations: target.annotations.clone(),
            retained,
            hash: fingerprint::unsalted(&looks),
        };
        types::check_required_keys(&template.type_, |key| template.has_key(key))?;
        Ok(template)
    }

    /// The shape of the Secret for the refresh token, if it is another one: workloads and other controllers do not use it,
    /// so it has no labels and annotations of the spec.
    #[must_use]
    pub fn for_refresh_token(&self) -> Option<Self> {
        let secret_name = self.refresh_token_secret.clone()?;
        let keys = TargetKeys {
            access_token: self.keys.access_token.clone(),
            refresh_token: self.keys.refresh_token.clone(),
            dpop_key: self.keys.dpop_key.clone(),
            token_type: None,
            expires_at: None,
            scope: None,
            previous_access_token: None,
        };
        Some(Self {
            secret_name,
            keys,
            data: BTreeMap::new(),
            type_: default_type(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ..self.clone()
        })
    }

    /// Whether values may be stored under a key.
    #[must_use]
    pub fn has_key(&self, key: &str) -> bool {
        self.data.contains_key(key) || WrittenKeys::of_tokens(&self.keys).any(|known| known == key)
    }

    /// Whether renewals keep the access token before the current one.
    #[must_use]
    pub const fn keeps_previous_token(&self) -> bool {
        self.keys.previous_access_token.is_some()
    }
}
