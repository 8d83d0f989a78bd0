//! `oauth-operator fetch`: requests tokens for local manifests, without a cluster.
//!
//! The quickest way to try a configuration: the same parsing, planning, request and rendering as in the operator,
//! with files instead of the API server and standard output instead of the target Secret.

pub(crate) mod explain;
pub(crate) mod manifests;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};

use crate::acquisition;
use crate::api::reason::FailureClass;
use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::api::status::OAuthIntegrationStatus;
use crate::cli::args::FetchArgs;
use crate::cli::fetch::manifests::Manifests;
use crate::clock::now;
use crate::controller::error::Error;
use crate::decision::observed::{CredentialsState, Observed};
use crate::decision::outcome::Plan;
use crate::decision::plan::plan;
use crate::error_report::chain;
use crate::oauth::client::Client;
use crate::oauth::credentials::Credential;
use crate::oauth::error::RequestError;
use crate::oauth::http::custom_ca::CustomCa;
use crate::oauth::http::egress::EgressPolicy;
use crate::spec::validated::ValidatedSpec;
use crate::spec::{advice, credentials};
use crate::target::annotations::WrittenKeys;
use crate::target::secret;

/// Wrong usage, or a file that cannot be read; clap uses the same code.
const USAGE: u8 = 2;
/// The configuration cannot work.
const CONFIGURATION: u8 = 3;

/// Fetches a token for every integration in the files and prints the Secrets.
#[must_use]
pub async fn run(arguments: FetchArgs) -> ExitCode {
    let FetchArgs { files, show_tokens, explain } = arguments;
    let work = async {
        let mut manifests = Manifests::default();
        files.iter().try_for_each(|file| manifests.read(file))?;
        if manifests.integrations.is_empty() {
            return Err(Error::Manifest("the given files contain no OAuthIntegration".to_owned()));
        }
        let client = Client::new(EgressPolicy::unrestricted())?;
        Ok((if explain { client.with_observer(Arc::new(explain::print)) } else { client }, manifests))
    };
    let (client, manifests) = match work.await {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            return ExitCode::from(USAGE);
        }
    };
    let mut worst = 0;
    for integration in &manifests.integrations {
        let name = integration.name_any();
        match fetch(&client, integration, &manifests).await {
            Ok(secret) => println!("---\n{}", render(secret, show_tokens)),
            Err(failure) => {
                eprintln!("error: {name}: {}: {}", failure.reason, failure.message);
                worst = worst.max(exit_code(failure.reason.class()));
            }
        }
    }
    ExitCode::from(worst)
}

/// The exit code of a failure class.
const fn exit_code(class: FailureClass) -> u8 {
    match class {
        FailureClass::NotAFailure => 0,
        FailureClass::Transient => 1,
        FailureClass::Configuration => CONFIGURATION,
        FailureClass::Rejected => 4,
    }
}

async fn fetch(client: &Client, integration: &OAuthIntegration, manifests: &Manifests) -> Result<Secret, RequestError> {
    let observed = observed(integration, manifests);
    match (plan(&observed), &observed.spec) {
        (Plan::Stall { reason, message }, _) => Err(RequestError::new(reason, message)),
        (_, Err(message)) => Err(RequestError::new(Reason::InvalidSpec, message.clone())),
        (_, Ok(spec)) => {
            let checked = client.check("", &spec.token_request.expressions).await;
            checked
                .map_err(|error| format!("the expressions of spec.response cannot be parsed: {error}"))
                .and_then(|checked| checked.map_err(|invalid| advice::invalid_expression(&invalid)))
                .map_err(|message| RequestError::new(Reason::InvalidSpec, message))?;
            let issued = acquisition::acquire_token(client, &observed, spec, None).await.result?;
            if let Some(warning) = issued.warning {
                eprintln!("warning: {}: {warning}: {}", integration.name_any(), advice::warning_message(warning));
            }
            let owner = integration.controller_owner_ref(&()).unwrap_or_default();
            let namespace = integration.namespace().unwrap_or_default();
            Ok(secret::build_secret(&namespace, &owner, None, &spec.template, &issued.content))
        }
    }
}

/// The observation as in a cluster without a target Secret.
fn observed(integration: &OAuthIntegration, manifests: &Manifests) -> Observed {
    let name = integration.name_any();
    let spec = ValidatedSpec::parse(&name, &integration.spec).map(Arc::new);
    let credentials = match &spec {
        Ok(spec) => credentials_seen(spec, manifests),
        Err(_) => CredentialsState::NotRead(None),
    };
    let observed = Observed::new(integration, spec, now());
    let uid = if observed.uid.is_empty() { name } else { observed.uid };
    // The status in the file comes from a cluster, and does not apply here.
    let status = OAuthIntegrationStatus::default();
    Observed { uid, deleting: false, finalizer: false, suspend: false, credentials, status, ..observed }
}

fn credentials_seen(spec: &ValidatedSpec, manifests: &Manifests) -> CredentialsState {
    let source = &spec.credentials;
    let secret = source.secret_name.as_ref().map(|name| (name, manifests.secrets.get(name)));
    let secret = match secret {
        Some((name, None)) => {
            return CredentialsState::Missing(format!(
                "Secret {name} is not in the given files: pass its manifest too, or change spec.credentials.secretName"
            ));
        }
        Some((_, found)) => found,
        None => None,
    };
    let mut values = match credentials::resolve(source, secret) {
        Ok(values) => values,
        Err(message) => return CredentialsState::Missing(message),
    };
    if spec.needs_refresh_token() && !values.has(Credential::RefreshToken) {
        return CredentialsState::Missing(credentials::missing_refresh_token_message(source));
    }
    match source.ca_bundle.as_ref().map(|bundle| manifests.ca_bundle(bundle)).transpose() {
        Ok(pem) => values.ca_bundle = pem.map(CustomCa::from),
        Err(message) => return CredentialsState::Missing(message),
    }
    CredentialsState::Resolved(Arc::new(values), "file".to_owned())
}

/// The Secret as YAML, its data as text; tokens are masked unless `show_tokens` is set.
fn render(mut secret: Secret, show_tokens: bool) -> String {
    let data = secret.data.take().unwrap_or_default();
    let secret_keys: Vec<String> = WrittenKeys::of(&secret.metadata)
        .map(|WrittenKeys { keys, extra }| {
            // Additional values may be as secret as tokens.
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
    // Without a cluster there is no UID, and the API server rejects an owner reference without one.
    if secret.owner_references().iter().any(|owner| owner.uid.is_empty()) {
        secret.metadata.owner_references = None;
    }
    serde_saphyr::to_string(&secret).unwrap_or_else(|error| format!("# cannot be printed: {error}"))
}
