//! `oauth-operator fetch`: the same steps on manifests from disk instead of a cluster.
//!
//! The quickest way to try a configuration: the same parsing, planning, request and rendering as in the operator, with
//! files in the place of the API server and standard output in the place of the target Secret.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use crate::api::{Class, GROUP, OAuthIntegration, RENEW_REQUESTED_AT};
use crate::config::FetchArguments;
use crate::error::{Error, Failure};
use crate::oauth::{Client, life};
use crate::observe::now;
use crate::plan::{CredentialsSeen, Holding, Observed, Plan, TargetSeen, plan};
use crate::target;
use crate::validated::Validated;
use crate::{credentials, grant};

/// Wrong usage, or a file that cannot be read; the code that clap uses as well.
const USAGE: u8 = 2;
/// The configuration cannot work.
const CONFIGURATION: u8 = 3;

/// Fetches a token for every integration in the files and prints the Secrets.
#[must_use]
pub async fn run(arguments: FetchArguments) -> ExitCode {
    let FetchArguments { files, show_tokens } = arguments;
    let work = async {
        let mut manifests = Manifests::default();
        files.iter().try_for_each(|file| manifests.read(file))?;
        if manifests.integrations.is_empty() {
            return Err(Error::Manifest("the files hold no OAuthIntegration".to_owned()));
        }
        Ok((Client::new()?, manifests))
    };
    let (client, manifests) = match work.await {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("error: {}", crate::error::chain(&error));
            return ExitCode::from(USAGE);
        }
    };
    let mut worst = 0;
    for integration in &manifests.integrations {
        let name = integration.name_any();
        match fetch(&client, integration, &manifests.secrets).await {
            Ok(secret) => println!("---\n{}", shown(secret, show_tokens)),
            Err(failure) => {
                eprintln!("error: {name}: {}: {}", failure.reason, failure.message);
                worst = worst.max(exit_code(failure.reason.class()));
            }
        }
    }
    ExitCode::from(worst)
}

/// The exit code for a class of failures.
const fn exit_code(class: Class) -> u8 {
    match class {
        Class::Fine => 0,
        Class::Passing => 1,
        Class::Configuration => CONFIGURATION,
        Class::Refused => 4,
    }
}

/// What the files hold, without namespaces: files for one try seldom name them, and never two.
#[derive(Debug, Default)]
struct Manifests {
    integrations: Vec<OAuthIntegration>,
    secrets: HashMap<String, Secret>,
}

impl Manifests {
    fn read(&mut self, file: &Path) -> Result<(), Error> {
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
            // Whatever else stands in the files is not what is tried here.
            _ => {}
        }
        Ok(())
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

async fn fetch(
    client: &Client,
    integration: &OAuthIntegration,
    secrets: &HashMap<String, Secret>,
) -> Result<Secret, Failure> {
    let observed = observed(integration, secrets);
    match (plan(&observed), &observed.spec) {
        (Plan::Refuse { reason, message }, _) => Err(Failure::new(reason, message)),
        (_, Err(message)) => Err(Failure::new(crate::api::Reason::InvalidSpec, message.clone())),
        (_, Ok(spec)) => {
            let granted = grant::run(client, &observed, spec, &|_, _, _| {}).await?;
            if let Some(warning) = granted.warning {
                eprintln!("warning: {}: {warning}: {}", integration.name_any(), life::advice(warning));
            }
            let owner = integration.controller_owner_ref(&()).unwrap_or_default();
            let namespace = integration.namespace().unwrap_or_default();
            Ok(target::secret(&namespace, &owner, None, &spec.shape, &granted.content))
        }
    }
}

/// The same picture as from a cluster in which there is no target yet.
fn observed(integration: &OAuthIntegration, secrets: &HashMap<String, Secret>) -> Observed {
    let name = integration.name_any();
    let spec = Validated::parse(&name, &integration.spec).map(Arc::new);
    let credentials = match &spec {
        Ok(spec) => credentials_seen(spec, secrets),
        Err(_) => CredentialsSeen::Unread(None),
    };
    Observed {
        now: now(),
        uid: integration.uid().unwrap_or(name),
        generation: integration.metadata.generation.unwrap_or_default(),
        deleting: false,
        suspend: false,
        renew_requested_at: integration.annotations().get(RENEW_REQUESTED_AT).cloned(),
        spec,
        credentials,
        target: TargetSeen::Absent,
        holding: Holding::default(),
        former_targets: Vec::new(),
        answer_held: false,
        not_before: None,
        leads: true,
        closed: None,
        endpoint_back: false,
        status: crate::api::OAuthIntegrationStatus::default(),
    }
}

fn credentials_seen(spec: &Validated, secrets: &HashMap<String, Secret>) -> CredentialsSeen {
    let source = &spec.credentials;
    let Some(secret) = secrets.get(&source.secret_name) else {
        return CredentialsSeen::Missing(format!(
            "the files hold no Secret {}: give its file too, or name another in spec.credentials.secretName",
            source.secret_name
        ));
    };
    match credentials::read(source, secret) {
        Ok(values) if spec.needs_refresh_token() && values.refresh_token.is_none() => {
            CredentialsSeen::Missing(credentials::no_refresh_token(source))
        }
        Ok(values) => CredentialsSeen::Read(Arc::new(values), "file".to_owned()),
        Err(message) => CredentialsSeen::Missing(message),
    }
}

/// The Secret as YAML, its data as text; tokens are masked unless they are asked for.
fn shown(mut secret: Secret, show_tokens: bool) -> String {
    let data = secret.data.take().unwrap_or_default();
    let token_keys: Vec<String> = secret
        .annotations()
        .get(target::KEYS)
        .and_then(|keys| serde_json::from_str::<crate::api::TargetKeys>(keys).ok())
        .map(|keys| vec![keys.access_token, keys.refresh_token])
        .unwrap_or_default();
    let text: BTreeMap<String, String> = data
        .into_iter()
        .map(|(key, ByteString(value))| {
            let value = String::from_utf8_lossy(&value).into_owned();
            let masked = token_keys.contains(&key) && !show_tokens;
            let value = if masked { format!("*** ({} characters)", value.chars().count()) } else { value };
            (key, value)
        })
        .collect();
    secret.string_data = Some(text);
    if secret.metadata.namespace.as_deref() == Some("") {
        secret.metadata.namespace = None;
    }
    // Without a cluster there is no uid, and an owner without one is refused.
    if secret.owner_references().iter().any(|owner| owner.uid.is_empty()) {
        secret.metadata.owner_references = None;
    }
    serde_saphyr::to_string(&secret).unwrap_or_else(|error| format!("# cannot be printed: {error}"))
}
