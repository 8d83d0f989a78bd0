//! Runs a grant for one integration: from what was observed to the content of its Secret. Shared by the operator and
//! by `fetch`; knows no cluster.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::{GrantType, Reason};
use crate::credentials::line_break_hint;
use crate::error::Failure;
use crate::fingerprint;
use crate::leadership::Moment;
use crate::oauth::life::{self, Known, Life, Spread, Times};
use crate::oauth::{Answer, Ask, Client, Credentials};
use crate::observe::now;
use crate::plan::{CredentialsSeen, Observed};
use crate::target::{Content, Origin};
use crate::validated::{Validated, hashed_parts};

/// `Date` tells whole seconds, and an answer takes its time: below this the two clocks count as one.
const PRECISION: SignedDuration = SignedDuration::from_secs(5);

/// What a grant brought.
#[derive(Clone, Debug)]
pub struct Granted {
    /// What is to be written.
    pub content: Content,
    /// What people should be told about the life of the token.
    pub warning: Option<Reason>,
}

/// Told of each request: its grant, how it failed, how long it took.
pub type Count<'a> = &'a (dyn Fn(GrantType, Option<&Failure>, SignedDuration) + Sync);

/// Asks for a token and turns the answer into the content of the target: one request, or two where a refresh token is
/// refused and the spec names a fallback.
///
/// # Errors
///
/// A [`Failure`] that names what to change and holds nothing secret.
pub async fn run(client: &Client, observed: &Observed, spec: &Validated, count: Count<'_>) -> Result<Granted, Failure> {
    let CredentialsSeen::Read(first, _) = &observed.credentials else {
        return Err(Failure::new(Reason::CredentialsMissing, "the credentials were not read: please report this"));
    };
    let Some(fallback) = &spec.fallback else {
        return attempt(client, observed, spec, &spec.ask, observed.refresh_token(), count).await;
    };
    let begun = Moment::now();
    let refused = match observed.refresh_token() {
        Some(token) => match attempt(client, observed, spec, &spec.ask, Some(token), count).await {
            // A process that was frozen meanwhile has no time left for a second request: another may act by now.
            Err(failure) if failure.invalid_grant && begun.passed() <= spec.ask.timeout => Some(failure),
            done => return done,
        },
        None => None,
    };
    if let Some(lacking) = lacking(fallback.grant, first) {
        return Err(refused.map_or_else(
            || Failure::new(Reason::CredentialsMissing, lacking.to_owned()),
            |refused| Failure { message: format!("{}; {lacking}", refused.message), ..refused },
        ));
    }
    let mut granted =
        attempt(client, observed, spec, fallback, None, count).await.map_err(|failure| match &refused {
            Some(_) => Failure {
                message: format!(
                    "the refresh token is not valid any more, and the fallback failed: {}",
                    failure.message
                ),
                ..failure
            },
            None => failure,
        })?;
    if refused.is_some() {
        granted.warning = Some(Reason::FellBack);
    }
    Ok(granted)
}

/// What the credentials lack for a fallback.
fn lacking(grant: GrantType, credentials: &Credentials) -> Option<&'static str> {
    let Credentials { client_id, client_secret, username, password, refresh_token: _ } = credentials;
    match grant {
        GrantType::UserPassword if username.is_none() || password.is_none() => {
            Some("spec.renewal.fallback needs user name and password: add them to the credentials Secret")
        }
        GrantType::ClientCredentials if client_id.is_none() || client_secret.is_none() => {
            Some("spec.renewal.fallback needs client id and client secret: add them to the credentials Secret")
        }
        _ => None,
    }
}

/// Sends one request.
async fn attempt(
    client: &Client,
    observed: &Observed,
    spec: &Validated,
    ask: &Ask,
    refresh_token: Option<SecretString>,
    count: Count<'_>,
) -> Result<Granted, Failure> {
    let CredentialsSeen::Read(first, version) = &observed.credentials else {
        return Err(Failure::new(Reason::CredentialsMissing, "the credentials were not read: please report this"));
    };
    let credentials = Credentials { refresh_token, ..Credentials::clone(first) };
    let issued_at = now();
    let answer = client.fetch(ask, &credentials).await;
    count(ask.grant, answer.as_ref().err(), now().duration_since(issued_at));
    let answer = answer.map_err(|mut failure| {
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
    let Answer { access_token, refresh_token, expires_in, token_type, scope, date } = answer;
    let Life { length, warning } = life::of(&Known {
        issued_at: date.filter(|date| date.duration_since(issued_at).abs() > PRECISION).unwrap_or(issued_at),
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
        times: life::times(&observed.uid, issued_at, length, spec.renew_before, observed.spread()),
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
    let times = life::times(&observed.uid, known.issued_at, life, spec.renew_before, Spread::Usual);
    Content { times, ..content.clone() }
}
