//! The metadata, type and keys of a target Secret.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::spec::OAuthIntegrationSpec;
use crate::api::target::{DeletionPolicy, TargetKeys};
use crate::fingerprint;

/// Key of the private key of `spec.dpop`, if the spec names none.
const DPOP_KEY: &str = "dpop_key";

/// Length of the dummy token of a dry run; tokens of large identity providers have about this length.
pub(crate) const PLACEHOLDER_LENGTH: usize = 1_500;

/// The shape of a target Secret, without its tokens.
#[derive(Clone, Debug)]
pub struct SecretTemplate {
    /// Name of the Secret.
    pub secret_name: String,
    /// The key of each value.
    pub keys: TargetKeys,
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

impl SecretTemplate {
    /// The shape that a spec requests.
    #[must_use]
    pub fn new(integration: &str, spec: &OAuthIntegrationSpec) -> Self {
        let target = &spec.target;
        let mut keys = target.keys.clone();
        if spec.dpop.is_some() {
            keys.dpop_key.get_or_insert_with(|| DPOP_KEY.to_owned());
        } else {
            keys.dpop_key = None;
        }
        let retained = target.deletion_policy == Some(DeletionPolicy::Retain);
        let mut looks = json!({
            "labels": target.labels,
            "annotations": target.annotations,
            "renewBefore": spec.renew_before,
        });
        if let Some(jitter) = spec.renewal.jitter {
            looks["jitter"] = json!(jitter);
        }
        if retained {
            looks["retained"] = json!(true);
        }
        Self {
            secret_name: target.secret_name.clone().unwrap_or_else(|| integration.to_owned()),
            keys,
            type_: target.type_.clone(),
            labels: target.labels.clone(),
            annotations: target.annotations.clone(),
            retained,
            hash: fingerprint::unsalted(&looks),
        }
    }
}
