//! Sends requests to token and revocation endpoints over HTTP.

mod sending;

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use secrecy::SecretString;
use url::Url;

use super::body::Member;
use super::discovery::Discovery;
use super::pin::ALLOWED_ENDPOINTS;
use super::prepare::Purpose;
use super::reach::{Forbidden, Reach};
use super::redact::shown;
use super::response::{self, Answer, Evaluated, Raw};
use super::transport::{Connection, Transport};
use super::{Ask, Credentials};
use crate::api::Reason;
use crate::error::{Error, Failure, chain};
use crate::leadership::Moment;
use crate::sandbox::{Job, Sandbox};

use sending::Sending;

/// The largest body that is read of an answer, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// A body up to this many bytes is parsed in less time than another thread takes to wake up.
const SMALL: usize = 1 << 16;
/// How many origins are remembered with their nonce; past this number all give a new one.
const NONCES: usize = 1_024;

/// Sends requests. Clones share the connections, and what is known of issuers.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    discovery: Discovery,
    reach: Arc<Reach>,
    sandbox: Sandbox,
    /// The nonces that origins want to see in proofs (RFC 9449, section 8.2).
    nonces: Arc<Mutex<HashMap<String, String>>>,
    witness: Option<Arc<Witness>>,
}

/// Sees each answer as it came: for `fetch --explain`.
pub type Witness = dyn Fn(&Ask, &Raw, &Evaluated) + Send + Sync;

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A token that is given back (RFC 7009).
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The revocation endpoint, where the issuer's metadata do not tell it.
    pub endpoint: Option<Url>,
    /// The token.
    pub token: SecretString,
    /// `token_type_hint` (RFC 7009, section 2.1): `access_token` or `refresh_token`.
    pub hint: &'static str,
}

impl Client {
    /// A client that goes only where `reach` says; see [`Transport::new`].
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(reach: Reach) -> Result<Self, Error> {
        let reach = Arc::new(reach);
        Ok(Self {
            transport: Transport::new(Arc::clone(&reach))?,
            discovery: Discovery::default(),
            reach,
            sandbox: Sandbox::new(),
            nonces: Arc::default(),
            witness: None,
        })
    }

    /// The same, with somebody who sees each answer.
    #[must_use]
    pub fn seen_by(self, witness: Arc<Witness>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// Runs a grant: sends one request and reads its answer. Nothing is repeated here, but for a server that asks for a nonce.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that names what to change and holds nothing secret.
    ///
    /// `answered` is told as soon as there is an answer that is a success: what follows takes no time of the endpoint's.
    pub async fn fetch(
        &self,
        ask: &Ask,
        credentials: &Credentials,
        answered: &(dyn Fn() + Sync),
    ) -> Result<Answer, Failure> {
        let (raw, sent) = self.exchange(ask, credentials, &Purpose::Token).await?;
        let is_success = matches!(raw.status, 200..300);
        if is_success {
            answered();
        }
        let evaluated = if is_success || self.witness.is_some() {
            self.evaluate(&credentials.tenant, ask, &raw).await
        } else {
            Evaluated::default()
        };
        if let Some(witness) = &self.witness {
            witness(ask, &raw, &evaluated);
        }
        if raw.body.len() <= SMALL {
            return response::read(&raw, ask, &sent, Timestamp::now(), &evaluated);
        }
        let ask = ask.clone();
        // A large body may keep a thread busy, which must not be the one that serves others.
        let reading = move || response::read(&raw, &ask, &sent, Timestamp::now(), &evaluated);
        tokio::task::spawn_blocking(reading).await.unwrap_or_else(|_| {
            Err(Failure::new(Reason::InvalidResponse, "reading the answer failed: please report this"))
        })
    }

    /// Evaluates what is more than a path of names, where it can do no harm.
    async fn evaluate(&self, tenant: &str, ask: &Ask, raw: &Raw) -> Evaluated {
        let others = ask.expressions.all().filter(|expression| !expression.is_path());
        let expressions: Vec<String> = others.map(|expression| expression.text().to_owned()).collect();
        if expressions.is_empty() {
            return Evaluated::default();
        }
        let body = std::str::from_utf8(&raw.body).unwrap_or_default().to_owned();
        let job = Job { expressions, status: raw.status, headers: raw.headers.clone(), body };
        let yields = self.sandbox.evaluate(tenant, &job).await;
        Evaluated::of(&job.expressions, yields)
    }

    /// Gives a token back.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that holds nothing secret. A token that the server does not know is none (RFC 7009, section 2.2).
    pub async fn revoke(&self, ask: &Ask, credentials: &Credentials, revocation: &Revocation) -> Result<(), Failure> {
        let (raw, sent) = self.exchange(ask, credentials, &Purpose::Revocation(revocation)).await?;
        response::revoked(&raw, &sent)
    }

    /// Sends a request, and once more where the server wants a nonce of its own in the proof: of the first it has used
    /// nothing then (RFC 9449, section 8).
    async fn exchange(
        &self,
        ask: &Ask,
        credentials: &Credentials,
        purpose: &Purpose<'_>,
    ) -> Result<(Raw, Vec<Member>), Failure> {
        let whole = Moment::now();
        let connection = self.transport.connection(ask, credentials)?;
        let url = self.address(&connection, ask, purpose).await?;
        self.admit(ask, credentials, purpose, &url)?;
        let nonce = ask.dpop.then(|| self.nonce(&url)).flatten();
        let sending = Sending { connection: &connection, url: &url, ask, credentials, purpose, whole };
        let (mut raw, mut sent) = sending.send(nonce.as_deref()).await.inspect_err(|failure| {
            // The endpoint may have moved.
            if failure.reason == Reason::EndpointUnreachable {
                self.discovery.forget(&connection, &ask.endpoint);
            }
        })?;
        let wanted = raw.header("dpop-nonce").filter(|_| ask.dpop).map(ToOwned::to_owned);
        if let Some(wanted) = wanted {
            self.remember(&url, &wanted);
            if response::wants_nonce(&raw) && nonce.as_deref() != Some(wanted.as_str()) {
                (raw, sent) = sending.send(Some(&wanted)).await?;
            }
        }
        if matches!(raw.status, 300..400 | 404 | 405 | 410) {
            self.discovery.forget(&connection, &ask.endpoint);
        }
        Ok((raw, sent))
    }

    /// Where the request goes; the issuer is asked for it where the spec does not say.
    async fn address(&self, connection: &Connection, ask: &Ask, purpose: &Purpose<'_>) -> Result<Url, Failure> {
        let given = match purpose {
            Purpose::Token => &ask.endpoint.url,
            Purpose::Revocation(revocation) => &revocation.endpoint,
        };
        if let Some(url) = given {
            return Ok(url.clone());
        }
        let Some(issuer) = &ask.endpoint.issuer else {
            return Err(Failure::new(
                Reason::InvalidSpec,
                "neither an endpoint nor an issuer is given: set spec.tokenEndpoint or spec.issuer",
            ));
        };
        self.reach.judge(issuer).map_err(|why| forbidden("spec.issuer", &why))?;
        let metadata = self.discovery.metadata(connection, issuer, &ask.endpoint.audience, ask.timeout).await?;
        match purpose {
            Purpose::Token => metadata.token_endpoint(ask),
            Purpose::Revocation(_) => metadata.revocation_endpoint(ask),
        }
    }

    /// Whether the endpoint may be asked at all, and by these credentials.
    fn admit(&self, ask: &Ask, credentials: &Credentials, purpose: &Purpose<'_>, url: &Url) -> Result<(), Failure> {
        let field = match purpose {
            Purpose::Token => ask.endpoint.field,
            Purpose::Revocation(_) => "spec.revocation.endpoint",
        };
        self.reach.judge(url).map_err(|why| forbidden(field, &why))?;
        for pin in &credentials.pins {
            let of = &pin.of;
            if !pin.admits(url) {
                let (origin, path, list) = (url.origin().ascii_serialization(), url.path(), pin.list());
                return Err(Failure::new(
                    Reason::EndpointForbidden,
                    format!(
                        "{of} may be sent only to {list}, as its annotation {ALLOWED_ENDPOINTS} says, and not to {origin}{path}: change {field}, or the annotation"
                    ),
                ));
            }
            let own_authority = pin.secret.is_some() && pin.secret == credentials.authority_of;
            if credentials.ca_bundle.is_some() && !own_authority && !pin.allow_ca_bundle {
                return Err(Failure::new(
                    Reason::EndpointForbidden,
                    format!(
                        "{of} says where it may be sent, and an authority of others could stand in that place: take the certificates of spec.connection.caBundle from that very Secret, or let its owner set the annotation {}",
                        super::pin::ALLOW_CA_BUNDLE,
                    ),
                ));
            }
        }
        let pinned = self.reach.require_pin || !credentials.pins.is_empty();
        if pinned && url.scheme() == "http" && ask.proxy.is_some() {
            return Err(Failure::new(
                Reason::EndpointForbidden,
                "through spec.connection.proxy credentials that say where they may be sent go only by https: the proxy would see them"
                    .to_owned(),
            ));
        }
        match credentials.unpinned.first() {
            Some(of) if self.reach.require_pin => Err(Failure::new(
                Reason::EndpointForbidden,
                format!(
                    "{of} does not say where it may be sent, and --require-endpoint-pin is set: add the annotation {ALLOWED_ENDPOINTS} with {}",
                    url.origin().ascii_serialization()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn nonce(&self, url: &Url) -> Option<String> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).get(&url.origin().ascii_serialization()).cloned()
    }

    fn remember(&self, url: &Url, nonce: &str) {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.len() >= NONCES {
            nonces.clear();
        }
        nonces.insert(url.origin().ascii_serialization(), nonce.to_owned());
    }
}

/// What may not be asked.
pub(super) fn forbidden(field: &str, why: &Forbidden) -> Failure {
    Failure::new(Reason::EndpointForbidden, format!("{field} is not asked: {why}"))
}

/// What the resolver has said, among the causes of an error.
fn forbidden_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Forbidden> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

/// Why there is no answer. `field` is the member of the spec that tells where it was sent.
pub(super) fn unanswered(error: &reqwest::Error, host: &str, field: &str, sent: &[Member]) -> Failure {
    if let Some(why) = forbidden_in(error) {
        return forbidden(field, why);
    }
    // The outermost error repeats the URL; what happened is in its causes.
    let cause = error.source().map_or_else(|| error.to_string(), chain);
    let cause = shown(&cause, sent);
    if error.is_builder() {
        Failure::new(Reason::InvalidSpec, format!("the request could not be built: {cause}: check {field}"))
    } else if error.is_connect() {
        Failure::new(Reason::EndpointUnreachable, format!("failed to connect to {host}: {cause}: check {field}"))
    } else {
        Failure::new(Reason::EndpointUnreachable, format!("the connection to {host} broke off: {cause}"))
    }
}
