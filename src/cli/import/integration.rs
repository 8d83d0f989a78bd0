//! Translates ExternalSecrets with Webhook generators into integrations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use url::Url;

use crate::api::duration::Duration;
use crate::api::names::GROUP;
use crate::api::spec::OAuthIntegrationSpec;
use crate::cli::import::eso::{DataFrom, ExternalSecret, ExternalSecretSpec, Metadata, Objects, Template, Webhook};
use crate::cli::import::json_path::{quoted, to_jsonata};
use crate::cli::import::request::{Translated, translate};
use crate::cli::import::template::{Piece, only_value, parse};
use crate::oauth::allowed_endpoints::ALLOWED_ENDPOINTS;
use crate::spec::validated::ValidatedSpec;
use crate::target::annotations::ADOPT_BY;
use crate::target::policy::METADATA;

/// The member of the response that is the token, unless a template names another one.
const ACCESS_TOKEN: &str = "access_token";
/// The minimum of `tokenLife`, in seconds.
const MIN_TOKEN_LIFE: u64 = 5;

/// One translated ExternalSecret or generator.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// Its kind and name.
    pub(crate) name: String,
    namespace: String,
    pub(crate) documents: Vec<Value>,
    /// What to do and to check.
    pub(crate) notes: Vec<String>,
    /// Why there is no integration.
    pub(crate) problem: Option<String>,
}

/// Translates all objects.
pub(crate) fn all(objects: &Objects) -> Vec<Imported> {
    let mut unused: Vec<_> = objects.generators.keys().cloned().collect();
    let mut all = Vec::new();
    for external in &objects.external_secrets {
        let references =
            external.spec.data_from.iter().filter_map(|from| Some((from, from.source_ref.generator_ref.as_ref()?)));
        for (from, reference) in references {
            if !["Webhook", "ClusterGenerator"].contains(&reference.kind.as_str()) {
                continue;
            }
            let namespace = if reference.kind == "Webhook" { external.meta.namespace.clone() } else { String::new() };
            let key = (reference.kind.clone(), namespace, reference.name.clone());
            unused.retain(|other| *other != key);
            let name = format!("ExternalSecret {}", external.meta.name);
            let is_second =
                all.iter().any(|other: &Imported| other.name == name && other.namespace == external.meta.namespace);
            if is_second {
                all.push(Imported {
                    problem: Some(
                        "it has several generators, and an integration writes one Secret: write the other one by hand"
                            .to_owned(),
                    ),
                    name,
                    ..Imported::default()
                });
                continue;
            }
            all.push(match objects.generators.get(&key) {
                Some(webhook) => imported(name, &external.meta, webhook, Some((external, from))),
                None => Imported {
                    problem: Some(format!(
                        "{} {} is not in the given files, or is no Webhook",
                        reference.kind, reference.name
                    )),
                    name,
                    ..Imported::default()
                },
            });
        }
    }
    for key in unused {
        if let Some(webhook) = objects.generators.get(&key) {
            let (kind, namespace, name) = key;
            let meta = Metadata { name, namespace };
            let mut found = imported(format!("{kind} {}", meta.name), &meta, webhook, None);
            if found.problem.is_none() {
                found
                    .notes
                    .push("no ExternalSecret in the given files uses it: spec.target has the defaults".to_owned());
            }
            all.push(found);
        }
    }
    all
}

fn imported(
    name: String,
    meta: &Metadata,
    webhook: &Webhook,
    external: Option<(&ExternalSecret, &DataFrom)>,
) -> Imported {
    let mut integration = Integration::default();
    let namespace = meta.namespace.clone();
    match integration.build(meta, webhook, external) {
        Ok(()) => {
            Imported { name, namespace, documents: integration.documents, notes: integration.notes, problem: None }
        }
        Err(problem) => {
            Imported { name, namespace, notes: integration.notes, problem: Some(problem), documents: Vec::new() }
        }
    }
}

#[derive(Debug, Default)]
struct Integration {
    spec: Map<String, Value>,
    documents: Vec<Value>,
    notes: Vec<String>,
}

impl Integration {
    fn build(
        &mut self,
        meta: &Metadata,
        webhook: &Webhook,
        external: Option<(&ExternalSecret, &DataFrom)>,
    ) -> Result<(), String> {
        let Translated { spec, secret, notes } = translate(webhook, &format!("{}-credentials", meta.name))?;
        self.spec = spec;
        self.notes = notes;
        self.trust(meta, webhook);
        let path = match webhook.result.json_path.as_str() {
            "" => String::new(),
            path => to_jsonata(path).ok_or("its result.jsonPath is more than a path of names")?,
        };
        let template = external.and_then(|(external, _)| external.spec.target.template.as_ref());
        let token = token_member(template);
        if token != ACCESS_TOKEN {
            self.notes.push(format!(
                "the token is taken from the member {token} of the response: check spec.response.accessToken"
            ));
        }
        self.response(&path, &token);
        if let Some((external, from)) = external {
            self.target(external, from, &path, &token);
        }
        let name = &meta.name;
        let spec: OAuthIntegrationSpec =
            serde_json::from_value(json!(self.spec)).map_err(|error| format!("a value does not fit: {error}"))?;
        ValidatedSpec::parse(name, &spec)?;
        let mut object = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "OAuthIntegration", "metadata": {"name": name},
            "spec": self.spec,
        });
        if !meta.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(meta.namespace);
        }
        self.documents.push(object);
        if let (Some(secret), Some(url)) = (secret, spec.shared.token_endpoint) {
            let allowed = Url::parse(&url).map(|url| url[..url::Position::AfterPath].to_owned()).unwrap_or(url);
            self.notes
                .push(format!("allow the endpoint: kubectl annotate secret {secret} {ALLOWED_ENDPOINTS}={allowed}"));
        }
        Ok(())
    }

    fn trust(&mut self, meta: &Metadata, webhook: &Webhook) {
        let bundle = if let Some(provider) = &webhook.ca_provider {
            if provider.namespace.as_ref().is_some_and(|namespace| *namespace != meta.namespace) {
                self.notes
                    .push(format!("copy {} {} into the namespace of the integration", provider.kind, provider.name));
            }
            json!({"kind": provider.kind, "name": provider.name, "key": provider.key})
        } else if let Some(pem) = &webhook.ca_bundle {
            let name = format!("{}-ca", meta.name);
            let pem = STANDARD.decode(pem).ok().and_then(|pem| String::from_utf8(pem).ok()).unwrap_or_default();
            let mut object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": pem},
            });
            if !meta.namespace.is_empty() {
                object["metadata"]["namespace"] = json!(meta.namespace);
            }
            self.documents.push(object);
            json!({"name": name})
        } else {
            return;
        };
        self.spec.insert("connection".to_owned(), json!({"caBundle": bundle}));
        self.notes.push("credentials whose endpoints are restricted also need the annotation oauth.evolutionx.io/allow-ca-bundle=true".to_owned());
    }

    fn response(&mut self, path: &str, token: &str) {
        if path.is_empty() && token == ACCESS_TOKEN {
            return;
        }
        let at = |name: &str| member(path, name);
        let response = json!({
            "accessToken": at(token), "refreshToken": at("refresh_token"), "expiresIn": at("expires_in"),
        });
        self.spec.insert("response".to_owned(), response);
    }

    fn target(&mut self, external: &ExternalSecret, from: &DataFrom, path: &str, token: &str) {
        let ExternalSecretSpec { refresh_interval, target, data, data_from } = &external.spec;
        let name = if target.name.is_empty() { &external.meta.name } else { &target.name };
        let mut object = json!({"secretName": name});
        let interval = refresh_interval.as_deref().unwrap_or("1h");
        let seconds = interval.parse::<Duration>().map(std::time::Duration::from).map(|interval| interval.as_secs());
        if seconds.is_ok_and(|seconds| (1..MIN_TOKEN_LIFE).contains(&seconds)) {
            self.notes.push(format!(
                "the refreshInterval, {interval}, is shorter than any tokenLife: the token is renewed before it expires"
            ));
        } else if interval.chars().any(|digit| ('1'..='9').contains(&digit)) {
            self.spec.insert("tokenLife".to_owned(), json!(interval));
            self.notes.push(format!("tokenLife is the refreshInterval, {interval}: remove it if the response or the token says how long it lives"));
        }
        if data.len() + data_from.len() > 1 {
            self.notes
                .push(format!("only the generator is translated: Secret {name} has other keys from other sources"));
        }
        if !from.rewrite.is_empty() {
            self.notes.push("rewrite is not translated: see spec.target.keys".to_owned());
        }
        match &target.template {
            Some(template) => self.template(template, path, token, &mut object),
            None => self.notes.push("only access_token and refresh_token of the response are stored: write other members into spec.target.data".to_owned()),
        }
        self.spec.insert("target".to_owned(), object);
        let owner = &external.meta.name;
        let scope = match external.meta.namespace.as_str() {
            "" => String::new(),
            namespace => format!(" --namespace {namespace}"),
        };
        // The External Secrets Operator may delete the Secret itself.
        let retain = match target.deletion_policy.as_deref() {
            Some("Delete") => format!(
                r#"kubectl patch externalsecret {owner}{scope} --type merge --patch '{{"spec": {{"target": {{"deletionPolicy": "Retain"}}}}}}' && "#
            ),
            _ => String::new(),
        };
        let cascade = match target.creation_policy.as_deref() {
            None | Some("Owner") => " --cascade=orphan",
            Some(_) => "",
        };
        self.notes.push(format!(
            "apply the integration, check it, and take the Secret over: {retain}kubectl delete externalsecret {owner}{scope}{cascade} && kubectl annotate secret {name}{scope} {ADOPT_BY}={owner}"
        ));
    }

    fn template(&mut self, template: &Template, path: &str, token: &str, target: &mut Value) {
        if let Some(type_) = &template.type_ {
            target["type"] = json!(type_);
        }
        if !template.sources.is_empty() {
            self.notes.push("templateFrom is not translated: see spec.target.data".to_owned());
        }
        for (field, all) in [("labels", &template.metadata.labels), ("annotations", &template.metadata.annotations)] {
            for (key, value) in all {
                if METADATA.contains(&key.as_str()) {
                    target[field][key] = json!(value);
                } else {
                    self.notes.push(format!("{field} of the Secret: an administrator must allow {key} (--allow-target-metadata); then add it to spec.target.{field}"));
                }
            }
        }
        if template.data.is_empty() {
            return;
        }
        for (key, text) in &template.data {
            if ["quote", "toJson"].iter().any(|filter| text.contains(filter)) {
                self.notes.push(format!(
                    "the key {key} of the Secret is not translated: its template quotes a value; in spec.target.data, an object is written as JSON"
                ));
                continue;
            }
            let pieces = match parse(text) {
                Ok(pieces) => pieces,
                Err(why) => {
                    self.notes.push(format!("the key {key} of the Secret is not translated: {why}"));
                    continue;
                }
            };
            let standard = [(token, "accessToken"), ("refresh_token", "refreshToken")];
            let field =
                only_value(&pieces).and_then(|path| standard.iter().find(|(name, _)| *path == [(*name).to_owned()]));
            match (field, expression(&pieces, path, token)) {
                (Some((_, field)), _) => target["keys"][*field] = json!(key),
                (None, Some(expression)) => target["data"][key] = json!(expression),
                (None, None) => {
                    self.notes.push(format!("the key {key} of the Secret is not translated: see spec.target.data"));
                }
            }
        }
        if template.merge_policy.as_deref() != Some("Merge") && target["keys"]["accessToken"].is_null() {
            self.notes
                .push("the Secret also has the key access_token now, in which the operator keeps the token".to_owned());
        }
    }
}

/// The member of the response that is the token: `access_token`, unless the template of the Secret uses others only.
fn token_member(template: Option<&Template>) -> String {
    let texts = template.iter().flat_map(|template| template.data.values());
    let names: Vec<String> = texts
        .filter_map(|text| parse(text).ok())
        .flatten()
        .filter_map(|piece| match piece {
            Piece::Value(path) if path.len() == 1 => path.into_iter().next(),
            _ => None,
        })
        .collect();
    let is_other = |name: &str| name.starts_with("refresh") || name.ends_with("_type") || name.ends_with("Type");
    let is_token = |name: &&String| name.to_ascii_lowercase().contains("token") && !is_other(name);
    match names.iter().find(|name| *name == ACCESS_TOKEN).or_else(|| names.iter().find(is_token)) {
        Some(name) => name.clone(),
        None => ACCESS_TOKEN.to_owned(),
    }
}

/// The JSONata expression of a key of the Secret.
fn expression(pieces: &[Piece], path: &str, token: &str) -> Option<String> {
    let parts: Option<Vec<String>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => Some(json!(text).to_string()),
            Piece::Value(names) if *names == [token.to_owned()] => Some(ACCESS_TOKEN.to_owned()),
            Piece::Value(names) if names.len() == 1 => {
                quoted(names.first()?)?;
                Some(format!("response.{}", member(path, names.first()?)))
            }
            Piece::Value(_) | Piece::Basic(..) => None,
        })
        .collect();
    parts.map(|parts| parts.join(" & "))
}

fn member(path: &str, name: &str) -> String {
    let name = quoted(name).unwrap_or_default();
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
