//! The manifests in the given files.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use serde_json::Value;

use crate::api::connection::{CaBundle, CaBundleKind};
use crate::api::names::GROUP;
use crate::api::spec::OAuthIntegration;
use crate::controller::error::Error;

/// The objects in the files. Namespaces are ignored: files for `fetch` rarely specify one, and never more than one.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) integrations: Vec<OAuthIntegration>,
    pub(crate) secrets: HashMap<String, Secret>,
    config_maps: HashMap<String, ConfigMap>,
}

impl Manifests {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read or parsed.
    pub(crate) fn read(&mut self, file: &Path) -> Result<(), Error> {
        documents(file)?.into_iter().try_for_each(|document| self.add(document)).map_err(|why| problem(file, &why))
    }

    fn add(&mut self, document: Value) -> Result<(), String> {
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (text("apiVersion").as_str(), text("kind").as_str()) {
            (version, "OAuthIntegration") if version.starts_with(GROUP) => {
                let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let mut unknown = Vec::new();
                // The path of a wrong type, which the error itself does not name.
                let mut track = serde_path_to_error::Track::new();
                let deserializer = serde_path_to_error::Deserializer::new(document, &mut track);
                // An optional object is `?` in a path.
                let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
                let integration = serde_ignored::deserialize(deserializer, &mut note);
                let integration =
                    integration.map_err(|error| format!("OAuthIntegration {name}: {}: {error}", track.path()))?;
                // As kubectl reports them. A status is that of another version of the operator.
                unknown.retain(|path| !matches!(path.as_str(), "apiVersion" | "kind") && !path.starts_with("status."));
                if !unknown.is_empty() {
                    return Err(format!("OAuthIntegration {name}: unknown fields: {}", unknown.join(", ")));
                }
                self.integrations.push(integration);
            }
            ("v1", "Secret") => {
                // The error would quote the value, which is secret.
                let secret: Secret = serde_json::from_value(document)
                    .map_err(|_| "not a valid Secret: values in data must be base64-encoded, and values in stringData must be strings".to_owned())?;
                self.secrets.insert(secret.name_any(), merged(secret));
            }
            ("v1", "ConfigMap") => {
                let config_map: ConfigMap =
                    serde_json::from_value(document).map_err(|error| format!("not a valid ConfigMap: {error}"))?;
                self.config_maps.insert(config_map.name_any(), config_map);
            }
            // Other objects are ignored.
            _ => {}
        }
        Ok(())
    }

    /// The CA certificates to trust.
    ///
    /// # Errors
    ///
    /// A message that says what to add.
    pub(crate) fn ca_bundle(&self, bundle: &CaBundle) -> Result<String, String> {
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
        text.ok_or_else(|| {
            format!("{kind:?} {name} with text under key {key} is not in the given files: pass its manifest too")
        })
    }
}

/// The documents in a file.
///
/// # Errors
///
/// If it cannot be read or parsed.
pub(crate) fn documents(file: &Path) -> Result<Vec<Value>, Error> {
    let text = contents(file).map_err(|error| problem(file, &error.to_string()))?;
    // No snippet in errors: the text around an error may be a password.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_multiple_with_options(&text, options).map_err(|error| problem(file, &error.to_string()))
}

fn problem(file: &Path, why: &str) -> Error {
    Error::Manifest(format!("{}: {why}", file.display()))
}

fn contents(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// Merges `stringData` into `data`, as the API server does.
fn merged(mut secret: Secret) -> Secret {
    let text = secret.string_data.take().unwrap_or_default();
    let data = secret.data.get_or_insert_default();
    data.extend(text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
    secret
}
