//! The connections to endpoints: a new one for each request, with the settings of the spec.
//!
//! A connection is never reused, and never shared. Renewals of one integration are minutes apart, so that a
//! connection pool would help only in bursts, and its cost would be high: one tenant could break a shared connection
//! while the refresh token of another tenant is in flight and already rotated by the server; the same can happen if
//! the server is about to close the connection; and bytes that a server sends on an idle connection must be read. For
//! the same reason only HTTP/1.1 is used: with one request per connection, HTTP/2 would only add control frames. TLS
//! sessions are not resumed, because a ticket would link requests of different namespaces, or with different client
//! certificates.

use std::sync::{Arc, LazyLock};

use hyper_util::client::proxy::matcher::Matcher;
use jiff::Timestamp;
use rustls::client::{Resumption, WantsClientCert};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use url::Url;

use crate::api::reason::Reason;
use crate::oauth::credentials::{Credential, Credentials};
use crate::oauth::error::{Advice, BuildError, CredentialError, RequestError, UrlKind};
use crate::oauth::http::custom_ca::{CustomCa, Fingerprint};
use crate::oauth::http::dial::{Dialer, Proxies};
use crate::oauth::http::egress::EgressPolicy;
use crate::oauth::http::errors::denied;
use crate::oauth::http::server_certificate::{Verifier, validity};
use crate::oauth::http::trust_stores;
use crate::oauth::http::trust_stores::{TrustStore, TrustStores};
use crate::oauth::request::TokenRequest;

/// Mozilla's and the system's root certificates, read once.
static DEFAULT_ROOTS: LazyLock<DefaultRoots> = LazyLock::new(default_roots);

/// The default root certificates.
struct DefaultRoots {
    store: Arc<TrustStore>,
    /// Why certificates of the system are not among them.
    problems: Vec<String>,
}

/// Creates connections. Clones share the caches.
#[derive(Clone, Debug)]
pub struct HttpClients {
    /// For requests with the default settings.
    default: Dialer,
    trust_stores: TrustStores,
}

/// How to connect to an endpoint.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Opens a new connection for each request.
    pub(crate) dialer: Dialer,
    /// Fingerprint of its settings; `None` for the defaults.
    pub id: Option<Fingerprint>,
}

/// The settings of a connection that differ from the defaults.
#[derive(Debug)]
pub struct Settings<'a> {
    ca_bundle: Option<&'a CustomCa>,
    /// Certificate and key, as PEM.
    identity: Option<(&'a str, &'a str)>,
    proxy: Option<&'a Url>,
}

impl HttpClients {
    /// Connections that trust Mozilla's root certificates, which are compiled in, and those of the system (or of
    /// `SSL_CERT_FILE`), for private CAs. Redirects are not followed: the request contains secrets.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(egress: Arc<EgressPolicy>) -> Result<Self, BuildError> {
        // Fails only if the process already has a provider, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = anonymous(Arc::clone(&DEFAULT_ROOTS.store)).map_err(BuildError)?;
        let proxies = Proxies::System(Arc::new(Matcher::from_env()));
        let default = Dialer { egress, proxies, tls: Arc::clone(&tls), proxy_tls: tls };
        Ok(Self { default, trust_stores: TrustStores::default() })
    }

    /// The connection for a request of a namespace.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that names the unusable certificate, key or proxy.
    pub async fn connection(&self, settings: &Settings<'_>, namespace: &str) -> Result<Connection, RequestError> {
        let mut dialer = self.default.clone();
        let id = settings.fingerprint();
        let Settings { ca_bundle, identity, proxy } = settings;
        if let Some(proxy) = proxy {
            dialer.proxies = Proxies::One(self.proxy(proxy)?);
        }
        let impossible =
            |_| RequestError::new(Reason::InvalidSpec, "TLS cannot be set up for this connection: please report this");
        let mut roots = Arc::clone(&DEFAULT_ROOTS.store);
        if let Some(bundle) = ca_bundle {
            roots = self.trust_stores.get(namespace, bundle).await?;
            dialer.proxy_tls = anonymous(Arc::clone(&roots)).map_err(impossible)?;
            dialer.tls = Arc::clone(&dialer.proxy_tls);
        }
        if let Some((certificate, key)) = identity {
            check_validity(certificate, Timestamp::now())?;
            let (chain, key) = identity_from_pem(certificate, key).ok_or_else(mismatch)?;
            let tls = tls_builder(roots).map_err(impossible)?;
            dialer.tls = finish(tls.with_client_auth_cert(chain, key).map_err(|_| mismatch())?);
        }
        Ok(Connection { dialer, id })
    }

    /// Checks the CA bundle of a namespace. An unchanged bundle is not parsed again.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that says why it cannot be used.
    pub async fn check_ca_bundle(&self, namespace: &str, bundle: &CustomCa) -> Result<(), RequestError> {
        self.trust_stores.get(namespace, bundle).await.map(|_| ())
    }

    fn proxy(&self, proxy: &Url) -> Result<Url, RequestError> {
        self.default.egress.check_host(proxy).map_err(|why| denied(UrlKind::Proxy, &why))?;
        // Only scheme, host and port are used.
        let origin = Url::parse(&proxy.origin().ascii_serialization()).ok();
        origin.filter(|proxy| matches!(proxy.scheme(), "http" | "https")).ok_or_else(|| {
            RequestError::new(Reason::InvalidSpec, "the proxy is not an http or https URL")
                .with_advice(Advice::CheckUrl(UrlKind::Proxy))
        })
    }
}

impl<'a> Settings<'a> {
    /// The settings of a request.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] that names the missing client certificate or key.
    pub fn of(request: &'a TokenRequest, credentials: &'a Credentials) -> Result<Self, RequestError> {
        let pem = |credential: Credential| {
            let value = credentials.get(credential).map(ExposeSecret::expose_secret);
            let missing = CredentialError::Missing(credential.key());
            value.ok_or_else(|| RequestError::invalid_credential(credential, &missing))
        };
        let identity = if request.presents_certificate() {
            Some((pem(Credential::TlsCertificate)?, pem(Credential::TlsKey)?))
        } else {
            None
        };
        Ok(Self { identity, ..Self::anonymous(request, credentials) })
    }

    /// The same without the client certificate: for an issuer's metadata, which is read before it is known whether
    /// the certificate may be sent to the endpoint.
    #[must_use]
    pub fn anonymous(request: &'a TokenRequest, credentials: &'a Credentials) -> Self {
        Self { ca_bundle: credentials.ca_bundle.as_ref(), identity: None, proxy: request.proxy.as_ref() }
    }

    /// Identifies the settings; `None` for the defaults.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let Self { ca_bundle, identity, proxy } = self;
        if ca_bundle.is_none() && identity.is_none() && proxy.is_none() {
            return None;
        }
        let (certificate, key) = identity.unzip();
        let proxy = proxy.map(|proxy| proxy.origin().ascii_serialization());
        let mut hash = Sha256::new();
        let parts = [
            ca_bundle.map(|bundle| bundle.fingerprint().as_slice()),
            certificate.map(str::as_bytes),
            key.map(str::as_bytes),
            proxy.as_deref().map(str::as_bytes),
        ];
        for part in parts {
            hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        Some(hash.finalize().into())
    }
}

fn tls_builder(store: Arc<TrustStore>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    // Not weaker than the default verifier, see `Verifier`.
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::new(store)?)))
}

/// A TLS configuration without a client certificate.
fn anonymous(store: Arc<TrustStore>) -> Result<Arc<ClientConfig>, rustls::Error> {
    Ok(finish(tls_builder(store)?.with_no_client_auth()))
}

/// The TLS configuration for servers that administrators choose: with the default roots, and without ALPN, which the HTTP
/// client sets.
///
/// # Errors
///
/// When the TLS library rejects it.
pub fn default_tls() -> Result<ClientConfig, rustls::Error> {
    Ok(tls_builder(Arc::clone(&DEFAULT_ROOTS.store))?.with_no_client_auth())
}

fn finish(mut tls: ClientConfig) -> Arc<ClientConfig> {
    tls.resumption = Resumption::disabled();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(tls)
}

/// The certificate chain and its key.
fn identity_from_pem(certificate: &str, key: &str) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    Some((chain, key))
}

fn mismatch() -> RequestError {
    RequestError::invalid_credential(Credential::TlsKey, &CredentialError::CertificateMismatch)
}

/// The default root certificates; those of the system are ignored if they cannot be read, because an image may have
/// none.
fn default_roots() -> DefaultRoots {
    let system = rustls_native_certs::load_native_certs();
    let problems = match (system.errors.as_slice(), system.certs.as_slice()) {
        ([], []) => vec!["there is no certificate in PEM".to_owned()],
        (errors, _) => errors.iter().map(ToString::to_string).collect(),
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned().chain(system.certs));
    DefaultRoots { store: Arc::new(TrustStore::of_roots(store)), problems }
}

/// Why certificates that `SSL_CERT_FILE` or `SSL_CERT_DIR` name are not trusted. Without these variables, the
/// certificates of the system are optional.
#[must_use]
pub fn unreadable_roots() -> &'static [String] {
    let is_set = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    if is_set { &DEFAULT_ROOTS.problems } else { &[] }
}

/// Checks a CA bundle.
///
/// # Errors
///
/// A [`RequestError`] that says why it cannot be used.
pub fn check_ca_bundle(pem: &str) -> Result<(), RequestError> {
    trust_stores::parse(pem).map(|_| ())
}

/// Checks the validity period of a certificate. A server would reject an expired certificate with an alert that does
/// not explain the reason.
///
/// # Errors
///
/// A [`RequestError`] that says why it cannot be used.
pub fn check_validity(pem: &str, now: Timestamp) -> Result<(), RequestError> {
    let unusable = |error: CredentialError| RequestError::invalid_credential(Credential::TlsCertificate, &error);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable(CredentialError::NotCertificate))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|_| unusable(CredentialError::MalformedCertificate))?;
    let [begins, ends] = validity(&certificate);
    if now > ends {
        return Err(unusable(CredentialError::CertificateExpired(ends)));
    }
    if now < begins {
        return Err(unusable(CredentialError::CertificateNotYetValid(begins)));
    }
    Ok(())
}

/// When a certificate expires; `None` if it cannot be read, or says that it does not expire (RFC 5280, section
/// 4.1.2.5).
#[must_use]
pub fn certificate_expiry(pem: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let [_, ends] = validity(&certificate);
    (ends < Timestamp::MAX).then_some(ends)
}
