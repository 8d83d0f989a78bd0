//! `oauth-operator fetch`: the same steps on manifests from disk instead of a cluster.
//!
//! The quickest way to try a configuration: the same parsing, planning, request and rendering as in the operator, with
//! files in the place of the API server and standard output in the place of the target Secret.

mod explain;
mod manifests;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};

use crate::api::{Class, OAuthIntegration, RENEW_REQUESTED_AT};
use crate::config::FetchArguments;
use crate::error::{Error, Failure};
use crate::oauth::reach::Reach;
use crate::oauth::{Client, Credential, life};
use crate::observe::now;
use crate::plan::{CredentialsSeen, Holding, Observed, Plan, TargetSeen, plan};
use crate::target::{self, WrittenKeys};
use crate::validated::Validated;
use crate::{credentials, grant};

use manifests::Manifests;

/// Wrong usage, or a file that cannot be read; the code that clap uses as well.
const USAGE: u8 = 2;
/// The configuration cannot work.
const CONFIGURATION: u8 = 3;

/// Fetches a token for every integration in the files and prints the Secrets.
#[must_use]
pub async fn run(arguments: FetchArguments) -> ExitCode {
    let FetchArguments { files, show_tokens, explain } = arguments;
    let work = async {
        let mut manifests = Manifests::default();
        files.iter().try_for_each(|file| manifests.read(file))?;
        if manifests.integrations.is_empty() {
            return Err(Error::Manifest("the files hold no OAuthIntegration".to_owned()));
        }
        let client = Client::new(Reach::everywhere())?;
        Ok((if explain { client.seen_by(Arc::new(explain::print)) } else { client }, manifests))
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
        match fetch(&client, integration, &manifests).await {
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

async fn fetch(client: &Client, integration: &OAuthIntegration, manifests: &Manifests) -> Result<Secret, Failure> {
    let observed = observed(integration, manifests);
    match (plan(&observed), &observed.spec) {
        (Plan::Refuse { reason, message }, _) => Err(Failure::new(reason, message)),
        (_, Err(message)) => Err(Failure::new(crate::api::Reason::InvalidSpec, message.clone())),
        (_, Ok(spec)) => {
            let granted = grant::run(client, &observed, spec, &|_, _, _| {}, &|| {}).await?;
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
fn observed(integration: &OAuthIntegration, manifests: &Manifests) -> Observed {
    let name = integration.name_any();
    let spec = Validated::parse(&name, &integration.spec).map(Arc::new);
    let credentials = match &spec {
        Ok(spec) => credentials_seen(spec, manifests),
        Err(_) => CredentialsSeen::Unread(None),
    };
    Observed {
        now: now(),
        uid: integration.uid().unwrap_or(name),
        generation: integration.metadata.generation.unwrap_or_default(),
        deleting: false,
        finalizer: false,
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

fn credentials_seen(spec: &Validated, manifests: &Manifests) -> CredentialsSeen {
    let source = &spec.credentials;
    let secret = source.secret_name.as_ref().map(|name| (name, manifests.secrets.get(name)));
    let secret = match secret {
        Some((name, None)) => {
            return CredentialsSeen::Missing(format!(
                "the files hold no Secret {name}: give its file too, or name another in spec.credentials.secretName"
            ));
        }
        Some((_, found)) => found,
        None => None,
    };
    let mut values = match credentials::read(source, secret) {
        Ok(values) => values,
        Err(message) => return CredentialsSeen::Missing(message),
    };
    if spec.needs_refresh_token() && !values.has(Credential::RefreshToken) {
        return CredentialsSeen::Missing(credentials::no_refresh_token(source));
    }
    match source.ca_bundle.as_ref().map(|bundle| manifests.ca_bundle(bundle)).transpose() {
        Ok(pem) => values.ca_bundle = pem,
        Err(message) => return CredentialsSeen::Missing(message),
    }
    CredentialsSeen::Read(Arc::new(values), "file".to_owned())
}

/// The Secret as YAML, its data as text; tokens are masked unless they are asked for.
fn shown(mut secret: Secret, show_tokens: bool) -> String {
    let data = secret.data.take().unwrap_or_default();
    let secret_keys: Vec<String> = WrittenKeys::of(&secret.metadata)
        .map(|WrittenKeys { keys, extra }| {
            // What people call something more may be as secret as a token.
            [keys.access_token, keys.refresh_token].into_iter().chain(keys.dpop_key).chain(extra).collect()
        })
        .unwrap_or_default();
    let text: BTreeMap<String, String> = data
        .into_iter()
        .map(|(key, ByteString(value))| {
            let value = String::from_utf8_lossy(&value).into_owned();
            let masked = secret_keys.contains(&key) && !show_tokens;
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
