//! The manifests in the given files.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::connection::{CaBundle, CaBundleKind};
use crate::api::names::GROUP;
use crate::api::provider::{ClusterOAuthProvider, OAuthProvider, ProviderKind, ProviderRef};
use crate::api::reason::Reason;
use crate::api::shared_spec::SharedSpec;
use crate::api::spec::OAuthIntegration;
use crate::controller::error::Error;
use crate::spec::allow::Allow;
use crate::spec::provider::{Origin, Provider};
use crate::spec::validated::{ProviderUse, ValidatedSpec};

/// The objects in the files. Namespaces are ignored: files for `fetch` rarely specify one, and never more than one.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) integrations: Vec<OAuthIntegration>,
    providers: HashMap<ProviderRef, Result<Provider, String>>,
    /// The labels of namespaces.
    namespaces: HashMap<String, BTreeMap<String, String>>,
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
                self.integrations.push(parsed("OAuthIntegration", document)?);
            }
            (version, "OAuthProvider") if version.starts_with(GROUP) => {
                let provider: OAuthProvider = parsed("OAuthProvider", document)?;
                let reference = ProviderRef { kind: ProviderKind::Namespaced, name: provider.name_any() };
                self.add_provider(reference, provider.spec.shared, Ok(Allow::All));
            }
            (version, "ClusterOAuthProvider") if version.starts_with(GROUP) => {
                let provider: ClusterOAuthProvider = parsed("ClusterOAuthProvider", document)?;
                let reference = ProviderRef { kind: ProviderKind::Cluster, name: provider.name_any() };
                let allow = Allow::new(&provider.spec.allow);
                self.add_provider(reference, provider.spec.provider.shared, allow);
            }
            ("v1", "Namespace") => {
                let labels = serde_json::from_value(document["metadata"]["labels"].clone()).unwrap_or_default();
                self.namespaces.insert(document["metadata"]["name"].as_str().unwrap_or_default().to_owned(), labels);
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

    fn add_provider(&mut self, reference: ProviderRef, spec: SharedSpec, allow: Result<Allow, String>) {
        let origin = Origin {
            reference: reference.clone(),
            uid: String::new(),
            generation: 0,
            namespace: "the given files".to_owned(),
        };
        let provider = allow.map(|allow| Provider { origin, spec: Arc::new(spec), allow });
        self.providers.insert(reference, provider);
    }

    /// The spec of an integration, with the fields of its provider.
    ///
    /// # Errors
    ///
    /// The reason, and a message that says what to change.
    pub(crate) fn spec_of(&self, integration: &OAuthIntegration) -> Result<ValidatedSpec, (Reason, String)> {
        let invalid = |message| (Reason::InvalidSpec, message);
        let name = integration.name_any();
        let Some(reference) = &integration.spec.provider_ref else {
            return ValidatedSpec::parse(&name, &integration.spec).map_err(invalid);
        };
        let provider = self.providers.get(reference).ok_or_else(|| {
            (Reason::ProviderNotFound, format!("{reference} is not in the given files: pass its manifest too"))
        })?;
        let provider = provider.as_ref().map_err(|message| invalid(format!("{reference}: {message}")))?;
        let namespace = integration.namespace().unwrap_or_else(|| "default".to_owned());
        let with = ProviderUse { provider, namespace: &namespace, labels: self.namespaces.get(&namespace) };
        ValidatedSpec::parse_with(&name, &integration.spec, with).map_err(invalid)
    }

    /// The provider of an integration.
    pub(crate) fn provider_of(&self, integration: &OAuthIntegration) -> Option<&Provider> {
        self.providers.get(integration.spec.provider_ref.as_ref()?)?.as_ref().ok()
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

/// An object of the API, without unknown fields.
///
/// # Errors
///
/// If it cannot be parsed.
fn parsed<K: DeserializeOwned>(kind: &str, document: Value) -> Result<K, String> {
    let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut unknown = Vec::new();
    // The path of a wrong type, which the error itself does not name.
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(document, &mut track);
    // An optional object is `?` in a path.
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
    let object = serde_ignored::deserialize(deserializer, &mut note);
    let object = object.map_err(|error| format!("{kind} {name}: {}: {error}", track.path()))?;
    // As kubectl reports them. A status is that of another version of the operator.
    unknown.retain(|path| !matches!(path.as_str(), "apiVersion" | "kind") && !path.starts_with("status."));
    if unknown.is_empty() { Ok(object) } else { Err(format!("{kind} {name}: unknown fields: {}", unknown.join(", "))) }
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
