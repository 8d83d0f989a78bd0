//! `oauth-operator fetch`: requests tokens for local manifests, without a cluster.
//!
//! The quickest way to try a configuration: the same parsing, planning, request and rendering as in the operator,
//! with files instead of the API server and standard output instead of the target Secret.

pub(crate) mod chained;
pub(crate) mod explain;
pub(crate) mod manifests;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use secrecy::{ExposeSecret, SecretString};

use crate::acquisition;
use crate::api::reason::FailureClass;
use crate::api::reason::Reason;
use crate::api::spec::OAuthIntegration;
use crate::api::status::OAuthIntegrationStatus;
use crate::cli::args::FetchArgs;
use crate::cli::fetch::manifests::Manifests;
use crate::clock::now;
use crate::controller::error::Error;
use crate::decision::expiry::{CredentialsExpiry, ExpiryNote, credentials_expiry};
use crate::decision::observed::{CredentialsState, Observed};
use crate::decision::outcome::Plan;
use crate::decision::plan::plan;
use crate::error_report;
use crate::oauth::allowed_endpoints::ALLOWED_ENDPOINTS;
use crate::oauth::client::Client;
use crate::oauth::credentials::Credential;
use crate::oauth::error::RequestError;
use crate::oauth::http::custom_ca::CustomCa;
use crate::oauth::http::egress::EgressPolicy;
use crate::oauth::lifetime::TokenTimes;
use crate::spec::credentials::Secrets;
use crate::spec::expiry::DeclaredExpiry;
use crate::spec::validated::ValidatedSpec;
use crate::spec::{advice, credentials};
use crate::target::annotations::{MANAGED_BY, OWN_PREFIX, WrittenKeys};
use crate::target::policy::TargetPolicy;
use crate::target::secret;

/// Wrong usage, or a file that cannot be read; clap uses the same code.
const USAGE: u8 = 2;
/// The configuration cannot work.
const CONFIGURATION: u8 = 3;

/// Fetches a token for every integration in the files and prints the Secrets.
#[must_use]
pub async fn run(arguments: FetchArgs) -> ExitCode {
    let FetchArgs { files, show_tokens, explain, spend_refresh_token: _, write, egress, targets } = arguments;
    let egress = EgressPolicy::from(egress);
    let settings = Settings {
        requires_pin: egress.require_pin,
        targets: TargetPolicy::new(targets.allow_target_types, targets.allow_target_metadata),
        spends: write.is_some(),
        explains: explain,
    };
    let work = async {
        let mut manifests = Manifests::default();
        files.iter().try_for_each(|file| manifests.read(file))?;
        if manifests.integrations.is_empty() {
            return Err(Error::Manifest("the given files contain no OAuthIntegration".to_owned()));
        }
        // Created before anything is sent: a new refresh token must not be lost because of a wrong path.
        let kept = write.as_deref().map(KeptTokens::create).transpose()?;
        let client = Client::new(egress)?;
        Ok((
            if explain {
                client.with_observers(Arc::new(explain::print), Arc::new(explain::print_data))
            } else {
                client
            },
            manifests,
            kept,
        ))
    };
    let (client, mut manifests, mut kept) = match work.await {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("error: {}", error_report::chain(&error));
            return ExitCode::from(USAGE);
        }
    };
    let mut worst = 0;
    for integration in manifests.integrations.clone() {
        let name = integration.name_any();
        let Fetched { result, refresh_token } = fetch(&client, &integration, &manifests, &settings).await;
        if let (Some(kept), Some(secret)) = (&mut kept, refresh_token)
            && let Err(error) = kept.add(&secret)
        {
            eprintln!("error: {name}: the new refresh token could not be written: {error}");
            worst = worst.max(USAGE);
        }
        match result {
            Ok(written) => {
                for secret in written {
                    // For integrations that follow, which may need its token.
                    manifests.secrets.insert(secret.name_any(), secret.clone());
                    println!("---\n{}", render(secret, show_tokens));
                }
            }
            Err(failure) => {
                eprintln!("error: {name}: {}: {}", failure.reason, failure.message);
                worst = worst.max(exit_code(failure.reason.class()));
            }
        }
    }
    ExitCode::from(worst)
}

/// The settings of the operator, as far as they are not part of the client.
struct Settings {
    requires_pin: bool,
    targets: TargetPolicy,
    /// Whether a refresh token from the files may be sent.
    spends: bool,
    /// Whether the expiry of the credentials is printed, even if it is far away.
    explains: bool,
}

/// The result for one integration.
struct Fetched {
    /// The Secrets that the operator would write.
    result: Result<Vec<Secret>, RequestError>,
    /// The credentials Secret with the new refresh token.
    refresh_token: Option<Secret>,
}

impl From<RequestError> for Fetched {
    fn from(error: RequestError) -> Self {
        Self { result: Err(error), refresh_token: None }
    }
}

/// The file for new refresh tokens.
struct KeptTokens(std::fs::File);

impl KeptTokens {
    fn create(path: &Path) -> Result<Self, Error> {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.map(Self).map_err(|error| Error::Manifest(format!("--write {}: {error}", path.display())))
    }

    fn add(&mut self, secret: &Secret) -> std::io::Result<()> {
        let text = serde_saphyr::to_string(secret).map_err(std::io::Error::other)?;
        write!(self.0, "---\n{text}")?;
        self.0.sync_all()
    }
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

async fn fetch(client: &Client, integration: &OAuthIntegration, manifests: &Manifests, settings: &Settings) -> Fetched {
    let observed = observed(integration, manifests, settings);
    if let Some(provider) = manifests.provider_of(integration).filter(|_| settings.explains) {
        eprint!("{}", explain::sources(integration, provider));
    }
    let spec = match (plan(&observed), &observed.spec) {
        (Plan::Stall { reason, message }, _) => return RequestError::new(reason, message).into(),
        (_, Err(message)) => return RequestError::new(Reason::InvalidSpec, message.clone()).into(),
        (_, Ok(spec)) => spec,
    };
    let checked = client.check("", &spec.token_request.expressions_to_check()).await;
    let checked = checked
        .map_err(|error| {
            format!(
                "the expressions of spec.response, spec.request.body and spec.target.data cannot be parsed: {error}"
            )
        })
        .and_then(|checked| checked.map_err(|invalid| advice::invalid_expression(&invalid)));
    if let Err(message) = checked {
        return RequestError::new(Reason::InvalidSpec, message).into();
    }
    let sends_refresh_token = spec.token_request.grant.is_refresh() && observed.refresh_token().is_some();
    if sends_refresh_token && !settings.spends {
        return RequestError::new(Reason::InvalidSpec, unspent_message(spec)).into();
    }
    if let (false, CredentialsState::Resolved(credentials, _)) = (settings.requires_pin, &observed.credentials) {
        // Without an endpoint, nothing is sent anyway.
        let sends = spec.token_request.endpoint.known().is_some();
        for secret in credentials.unpinned.iter().filter(|_| sends) {
            eprintln!(
                "warning: {}: {secret} has no annotation {ALLOWED_ENDPOINTS}: an operator with --require-allowed-endpoints, the default of the chart, sends nothing",
                integration.name_any()
            );
        }
    }
    let acquired = acquisition::acquire_token(client, &observed, spec, None).await.result;
    print_expiry(&observed, acquired.as_ref().ok().map(|issued| issued.content.times), settings);
    let new_token = match &acquired {
        Ok(issued) => issued.content.refresh_token.as_ref(),
        Err(error) => error.refresh_token.as_ref().map(|token| &token.0),
    };
    let refresh_token = new_token.filter(|_| sends_refresh_token).and_then(|token| with_token(spec, manifests, token));
    let result = acquired.map(|issued| {
        if let Some(warning) = issued.warning {
            eprintln!("warning: {}: {warning}: {}", integration.name_any(), advice::warning_message(warning));
        }
        let owner = integration.controller_owner_ref(&()).unwrap_or_default();
        let namespace = integration.namespace().unwrap_or_default();
        let (template, content) = (&spec.template, &issued.content);
        let refresh_token = secret::build_refresh_token_secret(&namespace, &owner, None, template, content, now());
        let target = secret::build_secret(&namespace, &owner, None, template, content, now());
        refresh_token.filter(|_| content.refresh_token.is_some()).into_iter().chain([target]).collect()
    });
    Fetched { result, refresh_token }
}

fn print_expiry(observed: &Observed, times: Option<TokenTimes>, settings: &Settings) {
    let CredentialsExpiry { at, note, next: _ } = credentials_expiry(observed, times, now());
    if let Some(at) = at.filter(|_| settings.explains) {
        eprintln!("# the credentials of {} expire at {at}", observed.name);
    }
    if let Some(ExpiryNote { reason, message }) = note {
        eprintln!("warning: {}: {reason}: {message}", observed.name);
    }
}

fn unspent_message(spec: &ValidatedSpec) -> String {
    format!(
        "the refresh token of Secret {} was not sent, because many servers accept it only once, and then the cluster needs the next one: use --spend-refresh-token --write FILE, and apply FILE",
        spec.credentials.secret_of(Credential::RefreshToken).unwrap_or_default()
    )
}

/// The credentials Secret with the new refresh token.
fn with_token(spec: &ValidatedSpec, manifests: &Manifests, token: &SecretString) -> Option<Secret> {
    let mut secret = manifests.secrets.get(spec.credentials.secret_of(Credential::RefreshToken)?)?.clone();
    let field = spec.credentials.fields.iter().find(|field| field.credential == Credential::RefreshToken)?;
    let value = ByteString(token.expose_secret().as_bytes().to_vec());
    secret.data.get_or_insert_default().insert(field.key.clone(), value);
    Some(secret)
}

/// The observation as in a cluster without a target Secret.
fn observed(integration: &OAuthIntegration, manifests: &Manifests, settings: &Settings) -> Observed {
    let name = integration.name_any();
    let (spec, provider_not_found) = match manifests.spec_of(integration) {
        Ok(spec) => (Ok(Arc::new(spec)), None),
        Err((Reason::InvalidSpec, message)) => (Err(message), None),
        Err((_, message)) => (Err(message.clone()), Some(message)),
    };
    let credentials = match &spec {
        Ok(spec) => credentials_seen(spec, manifests),
        Err(_) => CredentialsState::NotRead(None),
    };
    let secret_name = spec.as_ref().ok().and_then(|spec| spec.credentials.secret_name.as_ref());
    let secret = secret_name.and_then(|name| manifests.secrets.get(name));
    let declared_expiry = secret.map(|secret| DeclaredExpiry::of(&secret.metadata));
    let target_not_allowed = spec.as_ref().ok().and_then(|spec| settings.targets.check(&spec.template).err());
    let observed = Observed { target_not_allowed, provider_not_found, ..Observed::new(integration, spec, now()) };
    let uid = if observed.uid.is_empty() { name } else { observed.uid };
    // The status in the file comes from a cluster, and does not apply here.
    let status = OAuthIntegrationStatus::default();
    Observed {
        uid,
        deleting: false,
        finalizer: false,
        suspend: false,
        credentials,
        declared_expiry,
        status,
        ..observed
    }
}

fn credentials_seen(spec: &ValidatedSpec, manifests: &Manifests) -> CredentialsState {
    let source = &spec.credentials;
    let names = [&source.secret_name, &source.user_secret_name];
    if let Some(name) = names.into_iter().flatten().find(|name| !manifests.secrets.contains_key(*name)) {
        return CredentialsState::Missing(format!(
            "Secret {name} is not in the given files: pass its manifest too, or change spec.credentials.secretName"
        ));
    }
    let [main, user] = names.map(|name| name.as_ref().and_then(|name| manifests.secrets.get(name)));
    let mut values = match credentials::resolve(source, Secrets { main, user }) {
        Ok(values) => values,
        Err(unresolved) => return unresolved.into(),
    };
    values.cache_owner = spec.cache_owner("");
    if spec.needs_refresh_token() && !values.has(Credential::RefreshToken) {
        return CredentialsState::Missing(credentials::missing_refresh_token_message(source));
    }
    match source.ca_bundle.as_ref().map(|bundle| manifests.ca_bundle(bundle)).transpose() {
        Ok(pem) => values.ca_bundle = pem.map(CustomCa::from),
        Err(message) => return CredentialsState::Missing(message),
    }
    if let Some(token) = &source.chained
        && let Err(message) = chained::add(&mut values, token, manifests)
    {
        return CredentialsState::DependencyMissing(message);
    }
    CredentialsState::Resolved(Arc::new(values), "file".to_owned())
}

/// The Secret as YAML, its data as text; tokens are masked unless `show_tokens` is set.
fn render(mut secret: Secret, show_tokens: bool) -> String {
    let data = secret.data.take().unwrap_or_default();
    let secret_keys: Vec<String> = WrittenKeys::of(&secret.metadata)
        .map(|WrittenKeys { keys, data }| {
            // Other values may be as secret as tokens.
            [keys.access_token, keys.refresh_token].into_iter().chain(keys.dpop_key).chain(data.into_keys()).collect()
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
    // A plain Secret that can be applied: without a cluster, the bookkeeping of the operator would be wrong.
    secret.metadata.owner_references = None;
    let is_own = |name: &str| name.starts_with(OWN_PREFIX) || name == MANAGED_BY;
    for entries in [&mut secret.metadata.labels, &mut secret.metadata.annotations] {
        *entries = entries.take().map(|mut entries| {
            entries.retain(|name, _| !is_own(name));
            entries
        });
        entries.take_if(|entries| entries.is_empty());
    }
    serde_saphyr::to_string(&secret).unwrap_or_else(|error| format!("# cannot be printed: {error}"))
}
