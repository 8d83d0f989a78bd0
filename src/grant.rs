//! Runs a grant for one integration: from what was observed to the content of its Secret. Shared by the operator and
//! by `fetch`; knows no cluster.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::api::{GrantType, Reason};
use crate::credentials::line_break_hint;
use crate::error::Failure;
use crate::fingerprint;
use crate::leadership::Moment;
use crate::oauth::key::Key;
use crate::oauth::life::{self, Known, Life, Spread, Times};
use crate::oauth::{Answer, Ask, Client, Credential, Credentials};
use crate::observe::now;
use crate::plan::{CredentialsSeen, Observed};
use crate::target::{Content, Origin};
use crate::validated::Validated;

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

/// Told of an answer that is a success, before it is read.
pub type Answered<'a> = &'a (dyn Fn() + Sync);

/// Asks for a token and turns the answer into the content of the target: one request, or two where a refresh token is
/// refused and the spec names another way.
///
/// # Errors
///
/// A [`Failure`] that names what to change and holds nothing secret.
pub async fn run(
    client: &Client,
    observed: &Observed,
    spec: &Validated,
    count: Count<'_>,
    answered: Answered<'_>,
) -> Result<Granted, Failure> {
    let CredentialsSeen::Read(first, version) = &observed.credentials else {
        return Err(Failure::new(Reason::CredentialsMissing, "the credentials were not read: please report this"));
    };
    let dpop_key = dpop_key(observed, spec)?;
    let attempt = Attempt { client, observed, spec, first, version, dpop_key, count, answered };
    let Some(fallback) = &spec.fallback else {
        return attempt.send(&spec.ask, observed.refresh_token()).await;
    };
    let begun = Moment::now();
    let refused = match observed.refresh_token() {
        Some(token) => match attempt.send(&spec.ask, Some(token)).await {
            // A process that was frozen meanwhile has no time left for a second request: another may act by now.
            Err(failure) if is_refused(spec, &failure) && begun.passed() <= spec.ask.longest() => Some(failure),
            done => return done,
        },
        None => None,
    };
    if let Some(lacking) = lacking(fallback, first) {
        return Err(match refused {
            None => Failure::new(Reason::CredentialsMissing, lacking),
            Some(refused) => Failure { message: format!("{}; {lacking}", refused.message), ..refused },
        });
    }
    let mut granted = attempt.send(fallback, None).await.map_err(|failure| match &refused {
        Some(_) => {
            let other = if spec.by_strategy { "grant" } else { "fallback" };
            let message =
                format!("the refresh token is not valid any more, and the {other} failed: {}", failure.message);
            Failure { message, ..failure }
        }
        None => failure,
    })?;
    // That a refresh token ends some day belongs to the strategy; without one, people rely on it.
    if refused.is_some() && !spec.by_strategy {
        granted.warning = Some(Reason::FellBack);
    }
    Ok(granted)
}

/// Whether a refresh token is of no use any more. By strategy, the grant can be run whatever the words are: log-ins of one's own
/// making do not use those of RFC 6749.
fn is_refused(spec: &Validated, failure: &Failure) -> bool {
    failure.invalid_grant || (spec.by_strategy && failure.reason == Reason::RequestRefused)
}

/// The key that the tokens are bound to: the one that they are bound to already, or a new one.
fn dpop_key(observed: &Observed, spec: &Validated) -> Result<Option<SecretString>, Failure> {
    let usable = |key: &&SecretString| Key::from_pem(key.expose_secret()).is_ok_and(|key| key.point().is_some());
    match observed.holding.dpop_key.as_ref().filter(usable) {
        _ if !spec.ask.dpop => Ok(None),
        Some(key) => Ok(Some(key.clone())),
        // There is none yet, or somebody has spoiled it.
        None => {
            let problem =
                |problem| Failure::new(Reason::CredentialsUnusable, format!("the key of spec.dpop {problem}"));
            Key::generate().map(Some).map_err(problem)
        }
    }
}

/// What the credentials lack for a fallback.
fn lacking(fallback: &Ask, credentials: &Credentials) -> Option<String> {
    let needs = fallback.needs();
    let all: Vec<&str> = needs.iter().map(|need| words(*need)).collect();
    needs
        .iter()
        .any(|need| !credentials.has(*need))
        .then(|| format!("spec.renewal.fallback needs {}: add them to the credentials Secret", all.join(" and ")))
}

/// A credential, in the words of people.
const fn words(credential: Credential) -> &'static str {
    match credential {
        Credential::ClientId => "client id",
        Credential::ClientSecret => "client secret",
        Credential::Username => "user name",
        Credential::Password => "password",
        Credential::RefreshToken => "refresh token",
        Credential::PrivateKey => "private key",
        Credential::TlsCertificate => "client certificate",
        Credential::TlsKey => "its private key",
        Credential::SubjectToken => "subject token",
        Credential::ActorToken => "actor token",
    }
}

/// What all requests of one attempt have in common.
struct Attempt<'a> {
    client: &'a Client,
    observed: &'a Observed,
    spec: &'a Validated,
    first: &'a Credentials,
    version: &'a str,
    dpop_key: Option<SecretString>,
    count: Count<'a>,
    answered: Answered<'a>,
}

impl Attempt<'_> {
    /// Sends one request.
    async fn send(&self, ask: &Ask, refresh_token: Option<SecretString>) -> Result<Granted, Failure> {
        let mut credentials = self.first.with_refresh_token(refresh_token.filter(|_| ask.grant.is_refresh()));
        credentials.dpop_key.clone_from(&self.dpop_key);
        let issued_at = now();
        let answer = self.client.fetch(ask, &credentials, self.answered).await;
        (self.count)(ask.grant.kind(), answer.as_ref().err(), now().duration_since(issued_at));
        let answer = answer.map_err(|mut failure| {
            if failure.reason == Reason::RequestRefused {
                failure.message += &line_break_hint(&self.spec.credentials, &credentials);
            }
            failure
        })?;
        Ok(self.granted(ask, &credentials, answer, issued_at))
    }

    fn granted(&self, ask: &Ask, sent: &Credentials, answer: Answer, issued_at: Timestamp) -> Granted {
        let Self { observed, spec, .. } = self;
        let Answer { access_token, refresh_token, expires_in, expires_at, token_type, scope, mut extra, date } = answer;
        let Life { length, warning } = life::of(&Known {
            issued_at: date.filter(|date| date.duration_since(issued_at).abs() > PRECISION).unwrap_or(issued_at),
            token_life: spec.token_life,
            expires_in,
            expires_at,
            access_token: access_token.expose_secret(),
        });
        // As with the refresh token: what the answer to a refresh does not tell anew goes on.
        if let (true, Some(before)) = (ask.grant.is_refresh(), &observed.holding.content) {
            for (key, value) in before.extra.iter().filter(|(key, _)| ask.expressions.extra.contains_key(*key)) {
                extra.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let content = Content {
            access_token: Some(access_token),
            // An answer without a refresh token says that the one which was sent goes on (RFC 6749, section 6).
            refresh_token: refresh_token.or_else(|| sent.get(Credential::RefreshToken).cloned()),
            token_type,
            // An answer without a scope says that it is the one asked for (RFC 6749, section 5.1).
            scope: scope.or_else(|| ask.scope.clone()),
            extra,
            dpop_key: self.dpop_key.clone(),
            times: life::times(&observed.uid, issued_at, length, spec.renew_before, observed.spread()),
            origin: origin(observed, spec, self.first, self.version),
        };
        Granted { content, warning }
    }
}

fn origin(observed: &Observed, spec: &Validated, first: &Credentials, version: &str) -> Origin {
    let first_token = first.get(Credential::RefreshToken).map(|token| fingerprint::salted(&[token.expose_secret()]));
    Origin {
        spec_hash: spec.spec_hash.clone(),
        credentials_hash: fingerprint::salted(&first.hashed_parts()),
        credentials_name: spec.credentials_name.clone(),
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
    if !spec.ask.grant.is_refresh() || (spec.by_strategy && observed.holding.content.is_none()) {
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
            extra: std::collections::BTreeMap::new(),
            dpop_key: observed.holding.dpop_key.clone(),
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
