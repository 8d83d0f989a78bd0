//! Runs a grant for one integration: from what was observed to the content of its Secret. Shared by the operator and
//! by `fetch`; knows no cluster.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::{GrantType, Reason};
use crate::credentials::line_break_hint;
use crate::error::Failure;
use crate::fingerprint;
use crate::oauth::life::{self, Known, Life, Times};
use crate::oauth::{Answer, Client, Credentials};
use crate::plan::{CredentialsSeen, Observed};
use crate::target::{Content, Origin};
use crate::validated::{Validated, hashed_parts};

/// What a grant brought.
#[derive(Clone, Debug)]
pub struct Granted {
    /// What is to be written.
    pub content: Content,
    /// What people should be told about the life of the token.
    pub warning: Option<Reason>,
}

/// Sends one request and turns its answer into the content of the target. `issued_at` is the moment before.
///
/// # Errors
///
/// A [`Failure`] that names what to change and holds nothing secret.
pub async fn run(
    client: &Client,
    observed: &Observed,
    spec: &Validated,
    issued_at: Timestamp,
) -> Result<Granted, Failure> {
    let CredentialsSeen::Read(first, version) = &observed.credentials else {
        return Err(Failure::new(Reason::CredentialsMissing, "the credentials were not read: please report this"));
    };
    let credentials = Credentials { refresh_token: observed.refresh_token(), ..Credentials::clone(first) };
    let answer = client.fetch(&spec.ask, &credentials).await.map_err(|mut failure| {
        if failure.reason == Reason::RequestRefused {
            failure.message += &line_break_hint(&spec.credentials, &credentials);
        }
        failure
    })?;
    let origin = origin(observed, spec, first, version);
    Ok(granted(observed, spec, credentials, answer, origin, issued_at))
}

fn granted(
    observed: &Observed,
    spec: &Validated,
    sent: Credentials,
    answer: Answer,
    origin: Origin,
    issued_at: Timestamp,
) -> Granted {
    let Answer { access_token, refresh_token, expires_in, token_type, scope } = answer;
    let Life { length, warning } = life::of(&Known {
        issued_at,
        token_life: spec.token_life,
        expires_in,
        access_token: access_token.expose_secret(),
    });
    let content = Content {
        access_token: Some(access_token),
        // An answer without a refresh token says that the one which was sent goes on (RFC 6749, section 6).
        refresh_token: refresh_token.or(sent.refresh_token),
        token_type,
        // An answer without a scope says that it is the one asked for (RFC 6749, section 5.1).
        scope: scope.or_else(|| spec.ask.scope.clone()),
        times: life::times(&observed.uid, issued_at, length, spec.renew_before),
        origin,
    };
    Granted { content, warning }
}

fn origin(observed: &Observed, spec: &Validated, first: &Credentials, version: &str) -> Origin {
    let first_token = first.refresh_token.as_ref().map(|token| fingerprint::salted(&[token.expose_secret()]));
    Origin {
        spec_hash: spec.spec_hash.clone(),
        credentials_hash: fingerprint::salted(&hashed_parts(first)),
        credentials_version: version.to_owned(),
        refresh_token_hash: first_token.or_else(|| observed.holding.first_hash.clone()),
        renew_requested_at: observed.renew_requested_at.clone(),
    }
}

/// What is to be written of an answer that is of no use but for its new refresh token: that, beside the access token that
/// is there. Without one, the Secret holds the refresh token alone, and its times say that it is due.
#[must_use]
pub fn kept(observed: &Observed, spec: &Validated, token: SecretString, now: Timestamp) -> Option<Content> {
    let CredentialsSeen::Read(first, version) = &observed.credentials else { return None };
    if spec.ask.grant != GrantType::RefreshToken {
        // The other grants can always be run again.
        return None;
    }
    let origin = origin(observed, spec, first, version);
    let content = match &observed.holding.content {
        Some(content) => Content {
            origin: Origin { refresh_token_hash: origin.refresh_token_hash, ..content.origin.clone() },
            ..Content::clone(content)
        },
        None => Content {
            access_token: None,
            refresh_token: None,
            token_type: None,
            scope: None,
            times: Times { issued_at: now, expires_at: now, renew_at: now },
            origin,
        },
    };
    Some(Content { refresh_token: Some(token), ..content })
}

/// The content that is there, to be written again: the same token, renewed when the spec says now.
#[must_use]
pub fn rewritten(observed: &Observed, spec: &Validated, content: &Content) -> Content {
    let known = content.times;
    let life: SignedDuration = known.expires_at.duration_since(known.issued_at);
    let times = life::times(&observed.uid, known.issued_at, life, spec.renew_before);
    Content { times, ..content.clone() }
}
