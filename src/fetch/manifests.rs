//! What the files hold.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use serde_json::Value;

use crate::api::{CaBundle, CaBundleKind, GROUP, OAuthIntegration};
use crate::error::Error;

/// What the files hold, without namespaces: files for one try seldom name them, and never two.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) integrations: Vec<OAuthIntegration>,
    pub(super) secrets: HashMap<String, Secret>,
    config_maps: HashMap<String, ConfigMap>,
}

impl Manifests {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Where it cannot be read or understood.
    pub(super) fn read(&mut self, file: &Path) -> Result<(), Error> {
        let problem = |why: String| Error::Manifest(format!("{}: {why}", file.display()));
        let text = contents(file).map_err(|error| problem(error.to_string()))?;
        // Without a snippet: the text around a mistake may be a password.
        let options = serde_saphyr::options! { with_snippet: false };
        let documents: Vec<Value> =
            serde_saphyr::from_multiple_with_options(&text, options).map_err(|error| problem(error.to_string()))?;
        documents.into_iter().try_for_each(|document| self.add(document)).map_err(problem)
    }

    fn add(&mut self, document: Value) -> Result<(), String> {
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (text("apiVersion").as_str(), text("kind").as_str()) {
            (version, "OAuthIntegration") if version.starts_with(GROUP) => {
                let integration = serde_json::from_value(document)
                    .map_err(|error| format!("an OAuthIntegration cannot be understood: {error}"))?;
                self.integrations.push(integration);
            }
            ("v1", "Secret") => {
                // The error would quote the value, which is secret.
                let secret: Secret = serde_json::from_value(document).map_err(|_| {
                    "a Secret cannot be understood: its data must be base64, its stringData text".to_owned()
                })?;
                self.secrets.insert(secret.name_any(), merged(secret));
            }
            ("v1", "ConfigMap") => {
                let config_map: ConfigMap = serde_json::from_value(document)
                    .map_err(|error| format!("a ConfigMap cannot be understood: {error}"))?;
                self.config_maps.insert(config_map.name_any(), config_map);
            }
            // Whatever else stands in the files is not what is tried here.
            _ => {}
        }
        Ok(())
    }

    /// The certificates of trusted authorities.
    ///
    /// # Errors
    ///
    /// A sentence that says what to add.
    pub(super) fn ca_bundle(&self, bundle: &CaBundle) -> Result<String, String> {
        let CaBundle { kind, name, key } = bundle;
        let text = match kind {
            CaBundleKind::Secret => self.secrets.get(name).and_then(|secret| {
                let bytes = secret.data.as_ref()?.get(key)?;
                String::from_utf8(bytes.0.clone()).ok()
            }),
            CaBundleKind::ConfigMap => {
                self.config_maps.get(name).and_then(|config_map| config_map.data.as_ref()?.get(key).cloned())
            }
        };
        text.ok_or_else(|| format!("the files hold no {kind:?} {name} with a text under key {key}: give its file too"))
    }
}

fn contents(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// What the API server does with `stringData`.
fn merged(mut secret: Secret) -> Secret {
    let text = secret.string_data.take().unwrap_or_default();
    let data = secret.data.get_or_insert_default();
    data.extend(text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
    secret
}
