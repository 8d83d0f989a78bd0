//! TLS for metrics: with a certificate from files, or a self-signed one that is generated at startup.
//!
//! A scrape carries the bearer token of the client. Over plain HTTP, anyone who can read the traffic between two
//! nodes could impersonate Prometheus. Metrics that require a token are therefore served only over HTTPS, as in
//! controller-runtime. A self-signed certificate protects against eavesdropping, but not against a man in the middle:
//! that requires a certificate that Prometheus can verify.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use crate::controller::error::Error;

/// How often the files are read again, because tools such as cert-manager renew the certificate.
const RELOAD_INTERVAL: Duration = Duration::from_mins(1);

/// The paths of a certificate chain and of its private key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Accepts TLS connections. Clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// TLS with a certificate that only this process uses.
    ///
    /// # Errors
    ///
    /// When no key can be generated.
    pub fn self_signed() -> Result<Self, Error> {
        let certified = rcgen::generate_simple_self_signed(["oauth-operator-metrics".to_owned()])
            .map_err(|error| Error::MetricsCertificate(error.to_string()))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        Self::new(vec![certified.cert.der().clone()], key)
    }

    /// TLS with the certificate in these files, which are read again every minute as long as the runtime exists.
    ///
    /// # Errors
    ///
    /// When the files cannot be read, or do not contain a certificate and its key.
    pub fn from_files(files: &CertificateFiles) -> Result<Self, Error> {
        let (chain, key) = read(files)?;
        let tls = Self::new(chain, key)?;
        tokio::spawn(reload(tls.clone(), files.clone()));
        Ok(tls)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Error> {
        Ok(Self { config: Arc::new(RwLock::new(server_config(chain, key)?)) })
    }

    /// Runs the handshake.
    ///
    /// # Errors
    ///
    /// When the client does not complete it.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn server_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let problem = |error: rustls::Error| Error::MetricsCertificate(error.to_string());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(problem)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(problem)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(files: &CertificateFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let problem = |path: &Path, error: rustls::pki_types::pem::Error| {
        Error::MetricsCertificate(format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| problem(&files.certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| problem(&files.key, error))?;
    Ok((chain, key))
}

async fn reload(tls: Tls, files: CertificateFiles) {
    loop {
        tokio::time::sleep(RELOAD_INTERVAL).await;
        match read(&files).and_then(|(chain, key)| server_config(chain, key)) {
            Ok(config) => *tls.config.write().unwrap_or_else(PoisonError::into_inner) = config,
            Err(error) => warn!(%error, "failed to reload the certificate for metrics; the previous one is kept"),
        }
    }
}
