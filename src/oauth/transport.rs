//! The HTTP clients: one for each set of TLS settings and proxy, shared by all that have the same.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::redirect::Policy;
use reqwest::tls::{Certificate, Identity};
use reqwest::{Client, ClientBuilder, Proxy};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::client::forbidden;
use super::prepare::unusable;
use super::reach::{Reach, Resolver};
use super::{Ask, Credential, Credentials};
use crate::api::{ClientAuthenticationMethod, Reason};
use crate::error::{Error, Failure};

/// How long a connection without a request is kept: longer than the distance of two renewals of a short-lived
/// token, shorter than what common load balancers keep.
const IDLE: Duration = Duration::from_secs(50);
/// How many clients with settings of their own are kept; past this number the one that was not used for the longest time goes.
const KEPT: usize = 256;
/// A client that was not used for so long goes when another one comes, and with it the private key that it may hold.
const UNUSED: Duration = Duration::from_hours(2);

/// The authorities of Mozilla and of the system, read once.
static ROOTS: LazyLock<Vec<Certificate>> = LazyLock::new(roots);

/// Clients by a fingerprint of their settings, with the time of their last use.
type Others = HashMap<[u8; 32], (Instant, Client)>;

/// All HTTP clients. Clones share them, and their connections.
#[derive(Clone, Debug)]
pub struct Transport {
    /// For everyone who wants nothing special.
    usual: Client,
    /// For those who want something special.
    others: Arc<Mutex<Others>>,
    reach: Arc<Reach>,
}

/// The way to an endpoint.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client, which keeps its connections open.
    pub http: Client,
    /// Fingerprint of what is special about it.
    pub id: Option<[u8; 32]>,
}

/// What is special about a connection.
#[derive(Debug)]
struct Settings<'a> {
    ca_bundle: Option<&'a str>,
    /// Certificate and key, one after the other, as PEM.
    identity: Option<(&'a str, &'a str)>,
    proxy: Option<&'a str>,
}

impl Transport {
    /// Clients that trust Mozilla's root certificates, which are compiled in, and those of the system (or of
    /// `SSL_CERT_FILE`), which a private authority needs. Redirects are not followed: the request holds secrets.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(reach: Arc<Reach>) -> Result<Self, Error> {
        // Fails only where the process has a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let usual = builder(&reach).tls_certs_only(ROOTS.iter().cloned()).build().map_err(Error::MakeHttpClient)?;
        Ok(Self { usual, others: Arc::default(), reach })
    }

    /// The way for a request.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that names the certificate, key or proxy which cannot be used.
    pub fn connection(&self, ask: &Ask, credentials: &Credentials) -> Result<Connection, Failure> {
        let settings = Settings::of(ask, credentials)?;
        let Some(id) = settings.fingerprint() else { return Ok(Connection { http: self.usual.clone(), id: None }) };
        if let Some(proxy) = &ask.proxy {
            self.reach.judge_host(proxy).map_err(|why| forbidden("spec.connection.proxy", &why))?;
        }
        if let Some((certificate, _)) = settings.identity {
            check_validity(certificate, Timestamp::now())?;
        }
        let now = Instant::now();
        if let Some((used, known)) = self.others().get_mut(&id) {
            *used = now;
            return Ok(Connection { http: known.clone(), id: Some(id) });
        }
        let http = settings.build(&self.reach)?;
        let mut others = self.others();
        others.retain(|_, (used, _)| now.duration_since(*used) < UNUSED);
        if others.len() >= KEPT
            && let Some(oldest) = others.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id)
        {
            others.remove(&oldest);
        }
        // Another may have made the same one meanwhile: all that have the same settings share one.
        let (_, http) = others.entry(id).or_insert((now, http));
        Ok(Connection { http: http.clone(), id: Some(id) })
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Settings<'a> {
    fn of(ask: &'a Ask, credentials: &'a Credentials) -> Result<Self, Failure> {
        let pem = |credential| {
            let value = credentials.get(credential).map(ExposeSecret::expose_secret);
            value.ok_or_else(|| unusable(credential, "is not there: tls_client_auth needs it"))
        };
        let identity = match ask.client.method {
            ClientAuthenticationMethod::TlsClientAuth => {
                Some((pem(Credential::TlsCertificate)?, pem(Credential::TlsKey)?))
            }
            _ => None,
        };
        let proxy = ask.proxy.as_ref().map(url::Url::as_str);
        Ok(Self { ca_bundle: credentials.ca_bundle.as_deref(), identity, proxy })
    }

    /// `None` where nothing is special.
    fn fingerprint(&self) -> Option<[u8; 32]> {
        let Self { ca_bundle, identity, proxy } = self;
        if ca_bundle.is_none() && identity.is_none() && proxy.is_none() {
            return None;
        }
        let (certificate, key) = identity.unzip();
        let mut hash = Sha256::new();
        for part in [*ca_bundle, certificate, key, *proxy] {
            hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        Some(hash.finalize().into())
    }

    fn build(&self, reach: &Arc<Reach>) -> Result<Client, Failure> {
        let Self { ca_bundle, identity, proxy } = self;
        let mut builder = match ca_bundle {
            Some(pem) => builder(reach).tls_certs_only(certificates(pem)?),
            None => builder(reach).tls_certs_only(ROOTS.iter().cloned()),
        };
        if let Some(proxy) = proxy {
            let problem = |_| {
                Failure::new(Reason::InvalidSpec, "spec.connection.proxy cannot be used: write an http or https URL")
            };
            builder = builder.proxy(Proxy::all(*proxy).map_err(problem)?);
        }
        if let Some((certificate, key)) = identity {
            let pem = format!("{certificate}\n{key}");
            builder = builder.identity(Identity::from_pem(pem.as_bytes()).map_err(|_| mismatch())?);
        }
        // All else has been looked at by now.
        builder.build().map_err(|_| mismatch())
    }
}

fn mismatch() -> Failure {
    unusable(
        Credential::TlsKey,
        "is not the private key of the certificate under spec.credentials.keys.tlsCertificate, both as PEM",
    )
}

fn builder(reach: &Arc<Reach>) -> ClientBuilder {
    Client::builder()
        .dns_resolver(Resolver(Arc::clone(reach)))
        .user_agent(concat!("oauth-operator/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .pool_idle_timeout(IDLE)
}

/// The root certificates; what the system has and cannot be read is left out, as there may be no system at all.
fn roots() -> Vec<Certificate> {
    let system = rustls_native_certs::load_native_certs().certs;
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .chain(&system)
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}

/// Whether a text holds certificates of authorities.
///
/// # Errors
///
/// A [`Failure`] that says that it does not.
pub fn check_authorities(pem: &str) -> Result<(), Failure> {
    certificates(pem).map(|_| ())
}

fn certificates(pem: &str) -> Result<Vec<Certificate>, Failure> {
    let problem = || {
        Failure::new(
            Reason::CredentialsUnusable,
            "the value that spec.connection.caBundle names holds no certificates as PEM (-----BEGIN CERTIFICATE-----)",
        )
    };
    let found: Vec<Certificate> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|der| Certificate::from_der(&der.map_err(|_| problem())?).map_err(|_| problem()))
        .collect::<Result<_, _>>()?;
    if found.is_empty() { Err(problem()) } else { Ok(found) }
}

/// Whether the time of a certificate is now. A server would refuse one whose time is over with a word that tells nobody why.
///
/// # Errors
///
/// A [`Failure`] that says what is wrong with it.
pub fn check_validity(pem: &str, now: Timestamp) -> Result<(), Failure> {
    let unusable = |problem: String| unusable(Credential::TlsCertificate, &problem);
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| unusable("is not a certificate as PEM (-----BEGIN CERTIFICATE-----)".to_owned()))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der)
        .map_err(|_| unusable("is not a certificate that can be read".to_owned()))?;
    let [begins, ends] = [&certificate.validity.not_before, &certificate.validity.not_after]
        .map(|time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX));
    if now > ends {
        return Err(unusable(format!("is a certificate that ended at {ends}: put a new one there")));
    }
    if now < begins {
        return Err(unusable(format!("is a certificate that begins at {begins} only: check the clocks")));
    }
    Ok(())
}
