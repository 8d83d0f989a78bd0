//! Where an issuer has its endpoints: its metadata (OpenID Connect Discovery 1.0, RFC 8414), kept for an hour.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::ACCEPT;
use serde::Deserialize;
use url::Url;

use super::client::{self, MAX_BODY};
use super::transport::Connection;
use super::{Ask, Endpoint};
use crate::api::{ClientAuthenticationMethod as Method, Reason};
use crate::error::Failure;

/// How long metadata are believed.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// How many issuers are remembered; past this number all are asked anew.
const KEPT: usize = 1_024;
/// OpenID Connect Discovery 1.0, section 4: after the issuer.
const OPENID: &str = "/.well-known/openid-configuration";
/// RFC 8414, section 3: between the host and the path of the issuer.
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// What is used of an issuer's metadata (RFC 8414, section 2; RFC 8705, section 5).
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    issuer: String,
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    mtls_endpoint_aliases: BTreeMap<String, String>,
}

/// By what an issuer is known: who reaches it by another way, or trusts others, may see another.
type Key = (Option<[u8; 32]>, Url);
/// Metadata, and since when they are known.
type Known = HashMap<Key, (Instant, Arc<Metadata>)>;

/// The metadata of issuers. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    known: Arc<Mutex<Known>>,
}

impl Discovery {
    /// The metadata of an issuer, asked for where they are not known. `name` is the issuer as the spec writes it.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that tells what is wrong with them, or with the way to them.
    pub async fn metadata(
        &self,
        connection: &Connection,
        issuer: &Url,
        name: &str,
        timeout: Duration,
    ) -> Result<Arc<Metadata>, Failure> {
        let key = (connection.id, issuer.clone());
        if let Some((at, metadata)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && at.elapsed() < KEPT_FOR
            && metadata.issuer == name
        {
            return Ok(Arc::clone(metadata));
        }
        let asking = ask(&connection.http, issuer, name);
        let metadata = Arc::new(tokio::time::timeout(timeout, asking).await.map_err(|_| timed_out(issuer, timeout))??);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, (Instant::now(), Arc::clone(&metadata)));
        Ok(metadata)
    }

    /// What is known of an issuer was not of use: it is asked anew the next time.
    pub fn forget(&self, connection: &Connection, endpoint: &Endpoint) {
        if let Some(issuer) = &endpoint.issuer {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&(connection.id, issuer.clone()));
        }
    }
}

impl Metadata {
    /// Reads the metadata that `issuer` has given.
    ///
    /// # Errors
    ///
    /// Where they are none, or those of another issuer.
    pub fn parse(issuer: &str, body: &[u8]) -> Result<Self, Failure> {
        let metadata: Self = serde_json::from_slice(body).map_err(|_| {
            invalid("the metadata of the issuer are not those of RFC 8414, section 2: check spec.issuer")
        })?;
        if metadata.issuer == issuer {
            Ok(metadata)
        } else {
            // RFC 8414, section 3.3: it must be identical, and metadata where it is not must not be used.
            let other = printable(&metadata.issuer);
            Err(invalid(&format!("the metadata name another issuer, {other}, and are not used: correct spec.issuer")))
        }
    }

    /// The token endpoint for a request.
    ///
    /// # Errors
    ///
    /// Where the issuer has none, or does not offer the method by which the client shows who it is.
    pub fn token_endpoint(&self, ask: &Ask) -> Result<Url, Failure> {
        self.offers(ask.client.method)?;
        let alias = self.mtls_endpoint_aliases.get("token_endpoint");
        let alias = alias.filter(|_| ask.client.method == Method::TlsClientAuth);
        self.endpoint("token_endpoint", alias.or(self.token_endpoint.as_ref()))
    }

    /// The revocation endpoint.
    ///
    /// # Errors
    ///
    /// Where the issuer has none.
    pub fn revocation_endpoint(&self, ask: &Ask) -> Result<Url, Failure> {
        let alias = self.mtls_endpoint_aliases.get("revocation_endpoint");
        let alias = alias.filter(|_| ask.client.method == Method::TlsClientAuth);
        self.endpoint("revocation_endpoint", alias.or(self.revocation_endpoint.as_ref()))
    }

    /// Many servers take more than they tell of where they tell nothing; what they do tell is believed.
    fn offers(&self, method: Method) -> Result<(), Failure> {
        let wanted = match method {
            // For the server it is an assertion that somebody else has signed.
            Method::ServiceAccountToken => "private_key_jwt",
            method => method.as_str(),
        };
        match &self.token_endpoint_auth_methods_supported {
            // A self-signed certificate goes the same way (RFC 8705, section 2.2).
            Some(offered)
                if method == Method::TlsClientAuth
                    && offered.iter().any(|name| name == "self_signed_tls_client_auth") =>
            {
                Ok(())
            }
            Some(offered) if method != Method::None && !offered.iter().any(|name| name == wanted) => Err(Failure::new(
                Reason::InvalidSpec,
                format!(
                    "the issuer offers {} and not {wanted}: change spec.clientAuthentication.method",
                    printable(&offered.join(", "))
                ),
            )),
            _ => Ok(()),
        }
    }

    fn endpoint(&self, name: &str, text: Option<&String>) -> Result<Url, Failure> {
        let invalid = |problem: &str| invalid(&format!("the metadata of the issuer {problem}"));
        let text = text.ok_or_else(|| invalid(&format!("tell no {name}: give it in the spec")))?;
        let url =
            Url::parse(text).map_err(|_| invalid(&format!("hold a {name} that is not a URL: give it in the spec")))?;
        let is_secure = url.scheme() == "https" || (url.scheme() == "http" && self.issuer.starts_with("http:"));
        if is_secure && url.username().is_empty() && url.password().is_none() {
            Ok(url)
        } else {
            Err(invalid(&format!("hold a {name} that is not an https URL: nothing was sent there")))
        }
    }
}

/// The two places where metadata may be, OpenID Connect's first, as it is there nearly everywhere.
fn places(issuer: &Url) -> [String; 2] {
    let text = issuer.as_str().trim_end_matches('/');
    let path = issuer.path().trim_end_matches('/');
    let host = &issuer[..url::Position::BeforePath];
    [format!("{text}{OPENID}"), format!("{host}{OAUTH}{path}")]
}

async fn ask(http: &reqwest::Client, issuer: &Url, name: &str) -> Result<Metadata, Failure> {
    let [openid, oauth] = places(issuer);
    match read(http, issuer, &openid).await? {
        Ok(body) => Metadata::parse(name, &body),
        Err(400..500) => match read(http, issuer, &oauth).await? {
            Ok(body) => Metadata::parse(name, &body),
            Err(status) => Err(unavailable(status)),
        },
        Err(status) => Err(unavailable(status)),
    }
}

/// The body, or the status where there is none.
async fn read(http: &reqwest::Client, issuer: &Url, place: &str) -> Result<Result<Vec<u8>, u16>, Failure> {
    let host = issuer.host_str().unwrap_or_default();
    let unanswered = |error: reqwest::Error| client::unanswered(&error, host, "spec.issuer", &[]);
    let mut answer = http.get(place).header(ACCEPT, "application/json").send().await.map_err(unanswered)?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Ok(Err(status));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(invalid("the metadata of the issuer are larger than 1 MiB: check spec.issuer"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Ok(body))
}

fn invalid(message: &str) -> Failure {
    Failure::new(Reason::InvalidMetadata, message)
}

fn unavailable(status: u16) -> Failure {
    let message = format!("the issuer answered {status} where its metadata should be: check spec.issuer");
    match status {
        408 | 429 | 500.. => Failure::new(Reason::EndpointUnavailable, message),
        _ => invalid(&message),
    }
}

fn timed_out(issuer: &Url, timeout: Duration) -> Failure {
    let host = issuer.host_str().unwrap_or_default();
    Failure::new(
        Reason::RequestTimedOut,
        format!(
            "{host} did not tell the issuer's metadata within {timeout:?}: check spec.issuer, or raise spec.request.timeout"
        ),
    )
}

fn printable(text: &str) -> String {
    super::redact::shown(text, &[])
}
