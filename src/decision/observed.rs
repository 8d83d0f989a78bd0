//! The input of `plan`: the observed state of one integration and of its Secrets.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::SecretString;

use crate::api::names::{FINALIZER, RENEW_REQUESTED_AT};
use crate::api::spec::OAuthIntegration;
use crate::api::status::OAuthIntegrationStatus;
use crate::fingerprint;
use crate::limiter::types::Delay;
use crate::oauth::credentials::Credentials;
use crate::oauth::lifetime::{Jitter, TokenTimes};
use crate::spec::chain;
use crate::spec::expiry::DeclaredExpiry;
use crate::spec::secret_values::Unresolved;
use crate::spec::validated::ValidatedSpec;
use crate::target::adoption::Adoptable;
use crate::target::content::TargetContent;
use crate::target::snapshot::TargetSnapshot;
use crate::target::template::SecretTemplate;

/// The maximum clock skew between two nodes of a healthy cluster.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// The observed state of one integration and of its Secrets.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate observation, and all combinations are possible")]
pub struct Observed {
    /// The wall clock.
    pub now: Timestamp,
    /// The integration's namespace.
    pub namespace: String,
    /// The integration's name.
    pub name: String,
    /// The integration's uid.
    pub uid: String,
    /// The integration's `metadata.generation`.
    pub generation: i64,
    /// Whether the integration is being deleted.
    pub deleting: bool,
    /// Whether its deletion waits for the operator.
    pub finalizer: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// The value of the `renew-requested-at` annotation.
    pub renew_requested_at: Option<String>,
    /// The parsed spec, or a message that says what to change in it.
    pub spec: Result<Arc<ValidatedSpec>, String>,
    /// The credentials Secret.
    pub credentials: CredentialsState,
    /// What the annotation of the credentials Secret says about their expiry; `None` if the Secret has not been seen.
    pub declared_expiry: Option<DeclaredExpiry>,
    /// Why the administrator does not allow this target; the message says what to change.
    pub target_not_allowed: Option<String>,
    /// Why there is no provider, if the integration refers to one; `spec` is then an error.
    pub provider_not_found: Option<String>,
    /// Why the integrations that this one needs tokens from can never have any: a cycle.
    pub dependency_cycle: Option<String>,
    /// Whether other integrations use the initial refresh token, if it would be sent.
    pub initial_refresh_token: InitialRefreshToken,
    /// The target Secret.
    pub target: TargetState,
    /// Whether the target was read from the API server, and not only taken from the cache.
    pub target_was_read: bool,
    /// The content of the target, or of the previous target if there is none yet.
    pub stored: StoredTokens,
    /// The Secret for the refresh token, if it is not the target.
    pub refresh_token_target: TargetState,
    /// Whether all Secrets for refresh tokens were read.
    pub refresh_tokens_were_read: bool,
    /// Secrets of this integration that are no longer its target, or no longer for its refresh token.
    pub previous_targets: Vec<Arc<TargetSnapshot>>,
    /// Whether the latest of them was read.
    pub previous_target_was_read: bool,
    /// Whether a response of the endpoint is held that has not been written to the Secret yet.
    pub write_pending: bool,
    /// The earliest time for the next token request, after requests in rapid succession.
    pub not_before: Option<Timestamp>,
    /// Whether an expression of the target failed on the stored token. No other one is evaluated on it, so that authors
    /// of specs cannot ask question after question about the same token.
    pub lacks_data: bool,
    /// The earliest time for another write of the target with its current token, after writes that were immediately
    /// overwritten.
    pub rewrite_not_before: Option<Timestamp>,
    /// When the namespace may write again, if its budget of writes is used up and was checked.
    pub throttled_until: Option<Timestamp>,
    /// Hash of the settings of the operator on which the result of an attempt depends.
    pub settings_hash: Arc<str>,
    /// The minimum interval between two scheduled renewals.
    pub min_renewal_interval: SignedDuration,
    /// The longest interval between two restarts of a workload that is restarted after renewals of this token.
    pub restart_interval: Option<SignedDuration>,
    /// Whether this process may act: leader election is off, or it holds the lease.
    pub is_leader: bool,
    /// Why a request must wait; `None` if it may be sent, or if none has been needed so far.
    pub delayed: Option<Delay>,
    /// Whether the endpoint's circuit was open and its host has responded since this integration's last attempt.
    pub host_recovered: bool,
    /// The end of the pause that the endpoint requests (`Retry-After`), as far as this process knows.
    pub requested_pause_until: Option<Timestamp>,
    /// The last written status.
    pub status: OAuthIntegrationStatus,
}

/// The observed state of the credentials Secret.
#[derive(Clone, Debug)]
pub enum CredentialsState {
    /// Not read; contains its version, if known.
    NotRead(Option<String>),
    /// The Secret or one of its keys is missing; the message says which.
    Missing(String),
    /// A value or an annotation of it cannot be read; the message says which.
    Invalid(String),
    /// The operator has no permission to read it.
    AccessDenied(String),
    /// Another object that a request needs is missing, and it is not watched; the message says which.
    DependencyMissing(String),
    /// Its values, and its version.
    Resolved(Arc<Credentials>, String),
}

impl From<Unresolved> for CredentialsState {
    fn from(unresolved: Unresolved) -> Self {
        match unresolved {
            Unresolved::Missing(message) => Self::Missing(message),
            Unresolved::Invalid(message) => Self::Invalid(message),
        }
    }
}

impl CredentialsState {
    /// The observed version.
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::NotRead(version) => version.as_deref().unwrap_or("unknown"),
            Self::Missing(_) => "missing",
            Self::Invalid(_) => "invalid",
            Self::AccessDenied(_) => "unreadable",
            Self::DependencyMissing(_) => "incomplete",
            Self::Resolved(_, version) => version,
        }
    }
}

/// Whether other integrations of the namespace use the initial refresh token of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitialRefreshToken {
    /// None is known to use it, or it is not sent.
    Unshared,
    /// Another one has just sent it, and its response is not in a Secret yet.
    InUse,
    /// Another one has sent it, and the server has replaced it.
    Spent(Sibling),
}

/// Another integration of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The observed state of the target Secret.
#[derive(Clone, Debug)]
pub enum TargetState {
    /// Missing, or not looked up yet.
    Absent,
    /// A Secret of that name that is not owned by this integration.
    NotOwned(Conflict),
    /// The same, but its owner hands it over to this integration, and nothing prevents that.
    Adoptable(Arc<Adoptable>),
    /// The Secret of this integration.
    Owned(Arc<TargetSnapshot>),
}

/// Why a Secret is not the target of this integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It is the target of another integration, with this name.
    OtherIntegration(String),
    /// It does not belong to an integration.
    Foreign,
    /// The same, and its owner hands it over to an integration with another name.
    HandedToAnother,
    /// Its owner hands it over to this integration, but it cannot be taken over; the message says what to change.
    NotAdoptable(String),
}

/// The data read from the target, or from the previous target if there is none yet; read only if a grant or a write
/// needs it.
#[derive(Clone, Debug, Default)]
pub struct StoredTokens {
    /// Its full content, if it is intact.
    pub content: Option<Arc<TargetContent>>,
    /// Its refresh token.
    pub refresh_token: Option<SecretString>,
    /// The private key that its tokens are bound to.
    pub dpop_key: Option<SecretString>,
    /// Fingerprint of the initial refresh token from the credentials, with which the chain of renewals began.
    pub initial_refresh_token_hash: Option<String>,
    /// Name of the credentials with which its tokens were obtained.
    pub credentials_name: String,
    /// Fingerprint of where they may be sent; empty if unknown.
    pub binding: String,
    /// The Secret with the refresh token, if it is another one than that with the access token.
    pub refresh_token_secret: Option<Arc<TargetSnapshot>>,
}

impl Observed {
    /// The observation of an integration about which nothing else is known: without target and credentials, and not
    /// delayed.
    #[must_use]
    pub fn new(integration: &OAuthIntegration, spec: Result<Arc<ValidatedSpec>, String>, now: Timestamp) -> Self {
        let ObjectMeta { name, namespace, uid, generation, deletion_timestamp, finalizers, annotations, .. } =
            &integration.metadata;
        Self {
            now,
            namespace: namespace.clone().unwrap_or_default(),
            name: name.clone().unwrap_or_default(),
            uid: uid.clone().unwrap_or_default(),
            generation: generation.unwrap_or_default(),
            deleting: deletion_timestamp.is_some(),
            finalizer: finalizers.iter().flatten().any(|name| name == FINALIZER),
            suspend: integration.spec.suspend,
            renew_requested_at: annotations.as_ref().and_then(|all| all.get(RENEW_REQUESTED_AT)).cloned(),
            spec,
            credentials: CredentialsState::NotRead(None),
            declared_expiry: None,
            target_not_allowed: None,
            provider_not_found: None,
            dependency_cycle: None,
            initial_refresh_token: InitialRefreshToken::Unshared,
            target: TargetState::Absent,
            target_was_read: false,
            refresh_token_target: TargetState::Absent,
            refresh_tokens_were_read: false,
            stored: StoredTokens::default(),
            previous_targets: Vec::new(),
            previous_target_was_read: false,
            write_pending: false,
            not_before: None,
            lacks_data: false,
            rewrite_not_before: None,
            throttled_until: None,
            settings_hash: Arc::from(""),
            min_renewal_interval: SignedDuration::ZERO,
            restart_interval: None,
            is_leader: true,
            delayed: None,
            host_recovered: false,
            requested_pause_until: None,
            status: integration.status.clone().unwrap_or_default(),
        }
    }

    /// The latest Secret of this integration that is no longer its target.
    #[must_use]
    pub fn latest_previous_target(&self) -> Option<&TargetSnapshot> {
        let targets = self.previous_targets.iter().filter(|previous| !previous.is_for_refresh_token());
        targets.max_by_key(|previous| previous.version).map(AsRef::as_ref)
    }

    /// The snapshot of the Secret for the refresh token, if it is owned by this integration.
    #[must_use]
    pub fn refresh_token_snapshot(&self) -> Option<&Arc<TargetSnapshot>> {
        match &self.refresh_token_target {
            TargetState::Owned(snapshot) => Some(snapshot),
            TargetState::Absent | TargetState::NotOwned(_) | TargetState::Adoptable(_) => None,
        }
    }

    /// The Secrets of this integration in which the refresh token was before: it has been, or will be, moved from there.
    pub fn former_refresh_token_secrets(&self) -> impl Iterator<Item = &Arc<TargetSnapshot>> {
        let is_own = |previous: &&Arc<TargetSnapshot>| {
            previous.is_owned_by(&self.uid) && !previous.is_retained_by_another(&self.name, &self.uid)
        };
        self.previous_targets.iter().filter(|previous| previous.is_for_refresh_token()).filter(is_own)
    }

    /// The known Secret with this name that a write may replace.
    #[must_use]
    pub fn known_secret(&self, name: &str) -> Option<&TargetSnapshot> {
        let others = self.refresh_token_snapshot().into_iter().chain(&self.previous_targets).map(AsRef::as_ref);
        self.replaced().into_iter().chain(others).find(|known| known.name == name)
    }

    /// The names of the Secrets that may hold the refresh token, other than the target, the one of the spec last: after
    /// a crash between two writes, there can be more than one.
    #[must_use]
    pub fn refresh_token_secrets(&self) -> Vec<String> {
        let wanted = self.template().and_then(|template| template.refresh_token_secret.as_ref());
        let known = self.former_refresh_token_secrets().map(|previous| &previous.name);
        let recorded = self.snapshot().or(self.latest_previous_target()).and_then(|it| it.refresh_token_elsewhere());
        let mut names: Vec<String> = known.chain(recorded).filter(|name| Some(*name) != wanted).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names.extend(wanted.cloned());
        names
    }

    /// The name of the Secret with the refresh token of the stored access token, if it does not exist any more.
    #[must_use]
    pub fn missing_refresh_token_secret(&self) -> Option<&String> {
        let name = self.snapshot()?.refresh_token_elsewhere()?;
        let is_known =
            self.refresh_token_snapshot().into_iter().chain(&self.previous_targets).any(|it| it.name == *name);
        (!is_known).then_some(name)
    }

    pub(crate) fn has_unread_previous_target(&self) -> bool {
        !self.previous_target_was_read && self.latest_previous_target().is_some()
    }

    /// The snapshot of the target, if it is owned by this integration.
    #[must_use]
    pub fn snapshot(&self) -> Option<&TargetSnapshot> {
        match &self.target {
            TargetState::Owned(snapshot) => Some(snapshot),
            TargetState::Absent | TargetState::NotOwned(_) | TargetState::Adoptable(_) => None,
        }
    }

    /// The snapshot of the Secret that a write replaces: the target, or the Secret that becomes the target.
    #[must_use]
    pub fn replaced(&self) -> Option<&TargetSnapshot> {
        match &self.target {
            TargetState::Adoptable(adoptable) => Some(&adoptable.snapshot),
            TargetState::Owned(_) | TargetState::Absent | TargetState::NotOwned(_) => self.snapshot(),
        }
    }

    /// The template of the target.
    #[must_use]
    pub fn template(&self) -> Option<&SecretTemplate> {
        self.spec.as_ref().ok().map(|spec| &spec.template)
    }

    /// Whether the time of a past action is in the future, which means that the clock was set back in the meantime:
    /// it is then unknown how long ago the action happened.
    pub(crate) fn is_in_future(&self, done: Timestamp) -> bool {
        done.duration_since(self.now) > SKEW
    }

    /// When the current token expires; the current time if there is none.
    #[must_use]
    pub fn token_expiry(&self) -> Timestamp {
        self.times().map_or(self.now, |times| times.expires_at)
    }

    /// The jitter for the renewal of a token that is obtained now: wide, unless the renewal happens when it is due.
    #[must_use]
    pub fn spread(&self) -> Jitter {
        let Some(TokenTimes { issued_at, expires_at, renew_at, .. }) = self.times() else { return Jitter::Wide };
        let late = self.now.duration_since(renew_at);
        let is_on_schedule = !late.is_negative() && late <= expires_at.duration_since(issued_at) / 10;
        if is_on_schedule { Jitter::Narrow } else { Jitter::Wide }
    }

    /// The times of the current token.
    #[must_use]
    pub fn times(&self) -> Option<TokenTimes> {
        self.snapshot()?.times.map(|times| self.in_time_for_restarts(times))
    }

    /// The times of a token, renewed early enough for the workloads that are restarted after its renewals. This is not
    /// stored, so that it follows these workloads at once.
    #[must_use]
    pub fn in_time_for_restarts(&self, times: TokenTimes) -> TokenTimes {
        let (Some(interval), Ok(spec)) = (self.restart_interval, &self.spec) else { return times };
        let advanced = times.renewed_for_restarts(&self.uid, interval, spec.renewal_time);
        let earliest = advanced.renewed_after(self.min_renewal_interval).renew_at;
        TokenTimes { renew_at: earliest.min(times.renew_at), ..times }
    }

    /// Whether tokens with these times expire, or almost expire, before they may be renewed.
    #[must_use]
    pub fn is_too_short(&self, times: TokenTimes) -> bool {
        let min_interval = self.min_renewal_interval;
        times.expires_at.duration_since(times.issued_at) < min_interval + min_interval / 4
    }

    /// The value of the `renew-requested-at` annotation for which the stored token was requested.
    #[must_use]
    pub fn handled_renew_request(&self) -> Option<&String> {
        self.snapshot().and_then(|snapshot| snapshot.provenance.renew_requested_at.as_ref())
    }

    /// Whether secrets are sent in the query of a URL.
    #[must_use]
    pub fn sends_secrets_in_query(&self) -> bool {
        let request = self.spec.as_ref().ok().map(|spec| &spec.token_request);
        request.is_some_and(|request| request.sends_query() && request.has_secret_parameters())
    }

    /// Whether refreshing the stored token no longer extends anything.
    #[must_use]
    pub fn session_ends(&self) -> bool {
        self.snapshot().and_then(|snapshot| snapshot.times).is_some_and(|times| times.session_ends)
    }

    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        Some(self.times()?.renew_at)
    }

    /// Hash of the inputs of an attempt. It contains versions, not values, because many users can read a status. With the
    /// settings of the operator, an integration is retried soon after an administrator has corrected them.
    #[must_use]
    pub fn inputs_hash(&self) -> String {
        let mut inputs = vec![
            serde_json::json!(self.generation),
            serde_json::json!(chain::without_token(self.credentials.version())),
            serde_json::json!(self.renew_requested_at),
            serde_json::json!(&*self.settings_hash),
        ];
        let provider = self.spec.as_ref().ok().and_then(|spec| spec.credentials.provider.as_ref());
        inputs.extend(provider.map(|provider| serde_json::json!([provider.uid, provider.generation])));
        let mut text = fingerprint::unsalted(&serde_json::json!(inputs));
        text.truncate(16);
        text
    }
}
