//! The CA of one test and the certificate of its server, which can expire and be replaced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificate of a server for one name.
pub struct Identity {
    ca: Issuer<'static, KeyPair>,
    ca_file: PathBuf,
    name: String,
    shown: Arc<Shown>,
    _dir: tempfile::TempDir,
}

#[derive(Debug)]
struct Shown(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Identity {
    /// A new CA, and a certificate for this name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a CA");
        let dir = tempfile::tempdir().expect("a directory");
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, certificate.pem()).expect("a file");
        let ca = Issuer::new(params, key);
        let shown = Arc::new(Shown(Mutex::new(issue(&ca, name, false))));
        Self { ca, ca_file, name: name.to_owned(), shown, _dir: dir }
    }

    /// The file with the CA certificate, for clients that must trust it.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Presents an expired certificate, or a valid one.
    pub fn set_expired(&self, expired: bool) {
        let certificate = issue(&self.ca, &self.name, expired);
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// The TLS configuration of a server. Each connection begins with a full handshake, so that the current certificate
    /// is used.
    pub fn server(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    }
}

fn issue(ca: &Issuer<'_, KeyPair>, name: &str, expired: bool) -> Arc<CertifiedKey> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(if expired { 2020 } else { 2090 }, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, &ring::default_provider());
    Arc::new(certified.expect("a certificate that fits its key"))
}
