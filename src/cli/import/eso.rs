//! The objects of the External Secrets Operator, as far as they are translated.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

const GENERATORS: &str = "generators.external-secrets.io/";
const EXTERNAL_SECRETS: &str = "external-secrets.io/";

/// The objects in the given files.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// By kind (`Webhook` or `ClusterGenerator`), namespace (empty for the latter) and name.
    pub(crate) generators: BTreeMap<(String, String, String), Webhook>,
    pub(crate) external_secrets: Vec<ExternalSecret>,
    /// What is not translated, for users.
    pub(crate) skipped: Vec<String>,
}

impl Objects {
    /// Adds an object, or the objects of a list; others are ignored.
    pub(crate) fn add(&mut self, document: &Value) {
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if let (true, Some(Value::Array(items))) = (kind.ends_with("List"), document.get("items")) {
            for item in items {
                self.add(item);
            }
            return;
        }
        let meta: Metadata =
            document.get("metadata").cloned().and_then(|meta| serde_json::from_value(meta).ok()).unwrap_or_default();
        let spec = document.get("spec").cloned().unwrap_or_default();
        let added = match kind.as_str() {
            "Webhook" if version.starts_with(GENERATORS) => {
                self.add_generator(&kind, &meta.namespace, &meta.name, spec)
            }
            "ClusterGenerator" if version.starts_with(GENERATORS) && spec["kind"] == "Webhook" => {
                self.add_generator(&kind, "", &meta.name, spec["generator"]["webhookSpec"].clone())
            }
            "ExternalSecret" if version.starts_with(EXTERNAL_SECRETS) => {
                let parsed = serde_json::from_value(spec).map_err(|error| error.to_string());
                parsed.map(|spec| self.external_secrets.push(ExternalSecret { meta: meta.clone(), spec }))
            }
            _ if version.starts_with(GENERATORS) => Err("only generators of kind Webhook are translated".to_owned()),
            _ => Ok(()),
        };
        if let Err(why) = added {
            self.skipped.push(format!("{kind} {}: {why}", meta.name));
        }
    }

    fn add_generator(&mut self, kind: &str, namespace: &str, name: &str, spec: Value) -> Result<(), String> {
        // The error of serde could quote a value.
        let spec =
            serde_json::from_value(spec).map_err(|_| "its spec is not that of a Webhook generator".to_owned())?;
        self.generators.insert((kind.to_owned(), namespace.to_owned(), name.to_owned()), spec);
        Ok(())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// `WebhookSpec` of `generators.external-secrets.io/v1alpha1`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Webhook {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) auth: Option<Value>,
    pub(crate) body: String,
    pub(crate) timeout: Option<String>,
    pub(crate) result: WebhookResult,
    pub(crate) secrets: Vec<WebhookSecret>,
    /// PEM in base64.
    pub(crate) ca_bundle: Option<String>,
    pub(crate) ca_provider: Option<CaProvider>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WebhookResult {
    pub(crate) json_path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WebhookSecret {
    /// Its name in templates.
    pub(crate) name: String,
    pub(crate) secret_ref: Metadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CaProvider {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) namespace: Option<String>,
}

/// An ExternalSecret of `external-secrets.io/v1` or `v1beta1`.
#[derive(Clone, Debug)]
pub(crate) struct ExternalSecret {
    pub(crate) meta: Metadata,
    pub(crate) spec: ExternalSecretSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ExternalSecretSpec {
    pub(crate) refresh_interval: Option<String>,
    pub(crate) target: Target,
    pub(crate) data: Vec<Value>,
    pub(crate) data_from: Vec<DataFrom>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) creation_policy: Option<String>,
    pub(crate) deletion_policy: Option<String>,
    pub(crate) template: Option<Template>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Template {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) data: BTreeMap<String, String>,
    pub(crate) metadata: TemplateMetadata,
    #[serde(rename = "templateFrom")]
    pub(crate) sources: Vec<Value>,
    pub(crate) merge_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateMetadata {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct DataFrom {
    pub(crate) source_ref: SourceRef,
    pub(crate) rewrite: Vec<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SourceRef {
    pub(crate) generator_ref: Option<GeneratorRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GeneratorRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}
