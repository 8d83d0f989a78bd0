//! Decides which stored tokens may be sent, and to which server: a token is sent only to the server that issued it,
//! with few exceptions. Pure.

#![deny(clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret, SecretString};

use crate::api::target::TargetKeys;
use crate::decision::observed::{CredentialsState, InitialRefreshToken, Observed, StoredTokens, TargetState};
use crate::fingerprint;
use crate::oauth::credentials::Credential;
use crate::oauth::lifetime::TokenTimes;
use crate::spec::credentials;
use crate::spec::validated::ValidatedSpec;
use crate::target::content::{DataValue, Provenance, TargetContent};
use crate::target::integrity::Integrity;
use crate::target::read;
use crate::target::snapshot::TargetSnapshot;

impl Observed {
    /// If a refresh token is required, and it is certain that there is none: the message that says what to change.
    #[must_use]
    pub fn missing_refresh_token(&self) -> Option<String> {
        let (Ok(spec), CredentialsState::Resolved(..)) = (&self.spec, &self.credentials) else { return None };
        let may_be_unread = match self.target {
            TargetState::Absent => !self.target_was_read || self.has_unread_previous_target(),
            TargetState::Owned(_) | TargetState::NotOwned(_) | TargetState::Adoptable(_) => !self.target_was_read,
        } || !self.refresh_tokens_were_read && !self.refresh_token_secrets().is_empty();
        let is_needed = spec.needs_refresh_token() || self.fallback_would_replace_refresh_token();
        if may_be_unread || !is_needed || self.refresh_token().is_some() {
            return None;
        }
        Some(if self.withholds_refresh_token() {
            let holder = self.stored.refresh_token_secret.as_ref().map(|secret| &secret.name);
            let holder = holder.unwrap_or(&spec.template.secret_name);
            credentials::withheld_refresh_token_message(&spec.credentials, holder)
        } else if let Some(lost) = self.replaced_initial_token() {
            credentials::lost_refresh_token_message(&spec.credentials, lost)
        } else {
            credentials::missing_refresh_token_message(&spec.credentials)
        })
    }

    /// The refresh token to send: the one in the target, because servers rotate it. The one in the credentials is the
    /// initial token, and is used again only after it was changed there.
    #[must_use]
    pub fn refresh_token(&self) -> Option<SecretString> {
        let CredentialsState::Resolved(credentials, _) = &self.credentials else { return None };
        if self.spec.as_ref().is_ok_and(|spec| spec.renewal.is_refresh_first()) {
            // It was issued for a certain spec and certain credentials: if these have changed, the grant is run.
            return self
                .stored
                .refresh_token
                .clone()
                .filter(|_| self.refresh_token_provenance().is_some_and(|provenance| self.may_refresh(provenance)));
        }
        // With a fallback, the integration continues without the initial token.
        let is_spent_by_another = matches!(self.initial_refresh_token, InitialRefreshToken::Spent(_));
        let first = credentials.get(Credential::RefreshToken).filter(|_| !is_spent_by_another).cloned();
        let current = self.stored.refresh_token.as_ref();
        let initial_refresh_token_hash = self.stored.initial_refresh_token_hash.as_deref();
        match (first, current.filter(|_| !self.withholds_refresh_token())) {
            // The initial token was already spent: sending it again could revoke the chain, which may still be
            // needed.
            (first, None) if current.is_some() || self.replaced_initial_token().is_some() => {
                first.filter(|first| !is_spent(first, initial_refresh_token_hash))
            }
            (first, None) => first,
            (Some(first), Some(_)) if differs_from(&first, initial_refresh_token_hash) => Some(first),
            (_, Some(current)) => Some(current.clone()),
        }
    }

    /// The initial refresh token of the credentials, if it is sent next and is not in the target as well.
    #[must_use]
    pub fn initial_refresh_token_to_send(&self) -> Option<SecretString> {
        let (Ok(spec), CredentialsState::Resolved(credentials, _)) = (&self.spec, &self.credentials) else {
            return None;
        };
        if !spec.token_request.grant.is_refresh() || spec.renewal.is_refresh_first() {
            return None;
        }
        let sent = self.refresh_token()?;
        let is_sent = |known: Option<&SecretString>| is_same(known, Some(&sent));
        let is_initial = is_sent(credentials.get(Credential::RefreshToken));
        (is_initial && !is_sent(self.stored.refresh_token.as_ref())).then_some(sent)
    }

    /// Whether the client authenticates with the next client secret: the server rejected the current one before, and
    /// neither of them has changed since.
    #[must_use]
    pub fn uses_next_secret(&self) -> bool {
        let CredentialsState::Resolved(credentials, _) = &self.credentials else { return false };
        self.snapshot().is_some_and(|snapshot| {
            let provenance = &snapshot.provenance;
            provenance.uses_next_secret
                && fingerprint::matches(&provenance.credentials_hash, &credentials.hashed_parts())
        }) && credentials.has(Credential::NextClientSecret)
    }

    /// The maximum duration of one attempt, including a second request with the next client secret.
    #[must_use]
    pub fn max_attempt_duration(&self, spec: &ValidatedSpec) -> Duration {
        let CredentialsState::Resolved(credentials, _) = &self.credentials else { return spec.max_attempt_duration() };
        let has_next = credentials.has(Credential::NextClientSecret);
        let again = if has_next { spec.token_request.max_duration() } else { Duration::ZERO };
        spec.max_attempt_duration() + again
    }

    /// Whether the target holds a refresh token that is not sent: it was obtained with other credentials, from
    /// another endpoint or over another connection.
    #[must_use]
    pub fn withholds_refresh_token(&self) -> bool {
        let StoredTokens {
            refresh_token,
            binding,
            credentials_name,
            initial_refresh_token_hash: _,
            dpop_key: _,
            content: _,
            refresh_token_secret: _,
        } = &self.stored;
        // If an earlier release wrote the Secret, or the annotation was removed, the origin is unknown, and the chain
        // continues.
        let is_bound_elsewhere =
            !binding.is_empty() && !self.is_pinned() && self.spec.as_ref().is_ok_and(|spec| spec.binding != *binding);
        refresh_token.is_some() && (is_bound_elsewhere || !self.matches_source(credentials_name))
    }

    /// Whether tokens were obtained with the credentials that the spec names now; an earlier release did not record
    /// that.
    fn matches_source(&self, credentials_name: &str) -> bool {
        credentials_name.is_empty() || self.spec.as_ref().is_ok_and(|spec| spec.credentials_name == credentials_name)
    }

    /// Whether the owners of all credentials restrict where these may be sent. Tokens obtained with them may be sent
    /// to the same endpoints, but not elsewhere: each request is checked against the restrictions.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        let CredentialsState::Resolved(credentials, _) = &self.credentials else { return false };
        !credentials.pins.is_empty() && credentials.unpinned.is_empty() && credentials.not_forwarded.is_none()
    }

    /// Whether a Secret was retained by an integration with the same name and may be taken over: its owner allows it,
    /// or its tokens were obtained with the same credentials. Otherwise, anyone could claim it.
    #[must_use]
    pub fn may_take_over(&self, snapshot: &TargetSnapshot) -> bool {
        let name = self.name.as_str();
        let (Ok(spec), CredentialsState::Resolved(credentials, _)) = (&self.spec, &self.credentials) else {
            return false;
        };
        let has_credentials = spec.credentials.secret_name.is_some();
        let is_same = has_credentials
            && snapshot.provenance.credentials_name == spec.credentials_name
            && fingerprint::matches(&snapshot.provenance.credentials_hash, &credentials.hashed_parts());
        snapshot.is_retained_for(name) && (snapshot.adopt_by.as_deref() == Some(name) || is_same)
    }

    /// The Secret whose tokens would be lost if the integration took over another one with a refresh token: its own.
    #[must_use]
    pub fn has_other_tokens(&self) -> Option<&str> {
        let uses_refresh_tokens = self
            .spec
            .as_ref()
            .is_ok_and(|spec| spec.token_request.grant.is_refresh() || spec.renewal.is_refresh_first());
        let apart = self.refresh_token_snapshot().or_else(|| self.former_refresh_token_secrets().next());
        let own = apart.map(AsRef::as_ref).or_else(|| self.latest_previous_target());
        own.filter(|_| uses_refresh_tokens).map(|own| own.name.as_str())
    }

    /// Whether tokens of this origin were obtained for the current spec and with the credentials that were read, and
    /// may be sent to the endpoints of the current spec.
    #[must_use]
    pub fn matches_provenance(&self, provenance: &Provenance) -> bool {
        self.is_bound_here(provenance) && self.is_same_grant(provenance)
    }

    /// Whether a refresh token of this origin may be sent by `renewal.strategy`. Less strict than for a revocation:
    /// earlier releases did not record the binding, and a grant that can be run only once must not be run again
    /// because of an upgrade.
    fn may_refresh(&self, provenance: &Provenance) -> bool {
        (provenance.binding.is_empty() || self.is_bound_here(provenance)) && self.is_same_grant(provenance)
    }

    /// Whether the result of `renewal.fallback` would replace a refresh token that is withheld and may be needed
    /// again.
    #[must_use]
    pub fn fallback_would_replace_refresh_token(&self) -> bool {
        self.spec.as_ref().is_ok_and(|spec| spec.token_request.grant.is_refresh() && !spec.renewal.is_refresh_first())
            && self.withholds_refresh_token()
    }

    /// With `renewal.strategy`: the refresh token that is withheld only because it would be sent to a server other
    /// than its issuer, and its binding. The result of the grant must not replace it in the meantime, since it is
    /// used again after the change is reverted.
    #[must_use]
    pub fn withheld_by_strategy(&self) -> Option<(SecretString, String)> {
        let provenance = self.refresh_token_provenance()?;
        let by_strategy = self.spec.as_ref().is_ok_and(|spec| spec.renewal.is_refresh_first());
        let is_withheld = by_strategy && self.is_same_grant(provenance) && !self.may_refresh(provenance);
        let token = self.stored.refresh_token.clone().filter(|_| is_withheld)?;
        Some((token, provenance.binding.clone()))
    }

    /// Whether the Secret for the refresh token already is as it would be written with this content, so that it need not
    /// be written: most renewals do not replace the refresh token.
    #[must_use]
    pub fn has_stored_refresh_token(&self, content: &TargetContent) -> bool {
        let (Some(template), CredentialsState::Resolved(credentials, _)) = (self.template(), &self.credentials) else {
            return false;
        };
        let Some(stored) = &self.stored.refresh_token_secret else { return false };
        let (new, old) = (&content.provenance, &stored.provenance);
        let has_origin = new.spec_hash == old.spec_hash
            && new.credentials_name == old.credentials_name
            && new.binding == old.binding
            && new.refresh_token_hash == old.refresh_token_hash
            && fingerprint::matches(&old.credentials_hash, &credentials.hashed_parts());
        Some(&stored.name) == template.refresh_token_secret.as_ref()
            && stored.integration_uid == self.uid
            && stored.integrity == Integrity::Intact
            && stored.template_hash == template.hash
            && has_origin
            && is_same(self.stored.refresh_token.as_ref(), content.refresh_token.as_ref())
            && is_same(self.stored.dpop_key.as_ref(), content.dpop_key.as_ref())
    }

    /// The origin of the stored refresh token.
    fn refresh_token_provenance(&self) -> Option<&Provenance> {
        let elsewhere = self.stored.refresh_token_secret.as_deref();
        elsewhere.or_else(|| self.snapshot()).map(|snapshot| &snapshot.provenance)
    }

    /// If the server has replaced the initial refresh token, and its successor is, or was, in another Secret: its name.
    fn replaced_initial_token(&self) -> Option<&String> {
        self.snapshot().filter(|snapshot| snapshot.has_rotated)?.refresh_token_elsewhere()
    }

    /// Whether the spec sends stored tokens to the server that issued those of this origin, or their owner restricts
    /// where they may be sent.
    fn is_bound_here(&self, provenance: &Provenance) -> bool {
        self.spec.as_ref().is_ok_and(|spec| provenance.binding == spec.binding) || self.is_pinned()
    }

    /// Whether tokens of this origin were obtained for the current spec and with the credentials that were read.
    fn is_same_grant(&self, provenance: &Provenance) -> bool {
        let (Ok(spec), CredentialsState::Resolved(credentials, _)) = (&self.spec, &self.credentials) else {
            return false;
        };
        provenance.spec_hash == spec.spec_hash
            && self.matches_source(&provenance.credentials_name)
            && fingerprint::matches(&provenance.credentials_hash, &credentials.hashed_parts())
    }
}

impl StoredTokens {
    /// The stored result of the expression with this fingerprint, for a key of the target.
    #[must_use]
    pub fn data(&self, key: &str, fingerprint: &str) -> Option<&DataValue> {
        self.content.as_ref()?.data.get(key).filter(|data| data.fingerprint == fingerprint)
    }

    /// Adds the refresh token of another Secret than the target, if it is not older than the one that is known so far.
    pub fn add_refresh_token(&mut self, snapshot: &Arc<TargetSnapshot>, secret: &Secret, keys: &TargetKeys) {
        let Some(token) = read::read_value(secret, keys, |keys| Some(keys.refresh_token.clone())) else { return };
        let at = snapshot.times.map(|times| times.issued_at);
        if self.refresh_token.is_some() && at < self.content.as_deref().map(TargetContent::refresh_token_received_at) {
            return;
        }
        let provenance = &snapshot.provenance;
        let dpop_key = read::read_value(secret, keys, |keys| keys.dpop_key.clone());
        self.dpop_key = dpop_key.or_else(|| self.dpop_key.take());
        self.content = match self.content.as_deref() {
            Some(content) => Some(Arc::new(TargetContent {
                refresh_token: Some(token.clone()),
                refresh_token_at: at,
                dpop_key: self.dpop_key.clone(),
                provenance: content.provenance.with_refresh_token_of(provenance),
                ..content.clone()
            })),
            // The target was deleted: there is no access token, whose times these would be.
            None => read::read_content(secret).map(|content| {
                let issued_at = content.times.issued_at;
                Arc::new(TargetContent { times: TokenTimes::new(issued_at, issued_at, issued_at), ..content })
            }),
        };
        self.refresh_token = Some(token);
        self.initial_refresh_token_hash.clone_from(&provenance.refresh_token_hash);
        self.credentials_name.clone_from(&provenance.credentials_name);
        self.binding.clone_from(&provenance.binding);
        self.refresh_token_secret = Some(Arc::clone(snapshot));
    }
}

/// Whether two values are equal, or both missing.
fn is_same(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
}

/// Whether the refresh token in the credentials is not the one with which the chain of renewals began. If the initial
/// token is unknown (the annotations were removed), the chain continues, because sending an initial token twice could
/// revoke the chain.
fn differs_from(first: &SecretString, known: Option<&str>) -> bool {
    known.is_some_and(|known| !fingerprint::matches(known, &[first.expose_secret()]))
}

/// Whether the refresh token in the credentials is the one with which the chain of renewals began.
fn is_spent(first: &SecretString, known: Option<&str>) -> bool {
    known.is_some_and(|known| fingerprint::matches(known, &[first.expose_secret()]))
}
