//! Checks the certificate of a server, and says in words what is wrong with it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;

use crate::oauth::error::Advice;
use crate::oauth::http::trust_stores::TrustStore;

/// The maximum length of the name of an issuer in a message, in characters.
const MAX_NAME: usize = 128;

/// Verifies certificates like rustls, with one addition: a certificate that is itself in the CA bundle is trusted, even
/// if it is not signed by a CA, or is a CA. Many on-premises servers have a certificate of `openssl req -x509`, which is
/// both; curl accepts it in the same way.
#[derive(Debug)]
pub(crate) struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    store: Arc<TrustStore>,
}

impl Verifier {
    /// # Errors
    ///
    /// If the store has no roots.
    pub(crate) fn new(store: Arc<TrustStore>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store.roots), provider);
        let inner = builder.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { inner, store })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = verified else { return verified };
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(end_entity) else { return Err(error) };
        if self.store.contains(&Sha256::digest(end_entity).into()) {
            check_validity(&certificate, now).map_err(|error| explained(error, &certificate))?;
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        Err(explained(error, &certificate))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn check_validity(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| Timestamp::from_second(now).ok());
    let now = now.unwrap_or(Timestamp::MAX);
    let [begins, ends] = validity(certificate);
    if now > ends {
        return Err(CertificateError::Expired.into());
    }
    if now < begins {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(())
}

/// When the validity period of a certificate begins and ends.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> [Timestamp; 2] {
    [&certificate.validity.not_before, &certificate.validity.not_after]
        .map(|time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX))
}

/// The error with what the certificate says about itself.
fn explained(error: Error, certificate: &X509Certificate<'_>) -> Error {
    let [begins, ends] = validity(certificate);
    let problem = match &error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Problem::Expired(ends)
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            Problem::NotYetValid(begins)
        }
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_),
        ) if certificate.issuer() == certificate.subject() => Problem::SelfSigned,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Problem::UnknownCa(certificate.issuer().to_string().chars().take(MAX_NAME).collect())
        }
        _ => return error,
    };
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
}

/// What is wrong with a certificate.
#[derive(Debug)]
enum Problem {
    Expired(Timestamp),
    NotYetValid(Timestamp),
    SelfSigned,
    UnknownCa(String),
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(at) => write!(f, "expired at {at}: the provider must renew it"),
            Self::NotYetValid(at) => write!(f, "is not valid before {at}: check the clocks"),
            Self::SelfSigned => f.write_str("is self-signed and not trusted"),
            Self::UnknownCa(name) => write!(f, "is signed by a CA that is not trusted ({name})"),
        }
    }
}

/// What is wrong with a TLS connection to `host`, and what to do if the message does not say it; `None` for other errors.
pub(crate) fn explain(error: &Error, host: &str) -> Option<(String, Option<Advice>)> {
    let certificate = |problem: &str| format!("the TLS certificate of {host} {problem}");
    let advice = match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(problem))) => {
            match problem.downcast_ref::<Problem>() {
                Some(Problem::SelfSigned) => Some(Advice::TrustCertificate),
                Some(Problem::UnknownCa(_)) => Some(Advice::TrustCa),
                _ => None,
            }
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => Some(Advice::SetClientCertificate),
        _ => None,
    };
    let message = match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(problem))) if problem.is::<Problem>() => {
            certificate(&problem.to_string())
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            let names: Vec<&str> = presented.iter().take(4).map(|name| inner_name(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            certificate(&format!("is for {names}: use that name in the URL, or have the server's certificate reissued"))
        }
        Error::InvalidCertificate(CertificateError::Revoked) => certificate("was revoked"),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{host} requires a client certificate")
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => format!("{host} rejects the client certificate: check that it is valid and that the server trusts its CA"),
        Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        )
        | Error::PeerIncompatible(_) => format!(
            "{host} offers no TLS version and cipher suite that is secure: it needs TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20"
        ),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            format!("{host} is not a name that the server knows: check the URL")
        }
        Error::InvalidMessage(_) => format!("{host} does not speak TLS on this port: check the URL's scheme and port"),
        _ => return None,
    };
    Some((message, advice))
}

/// The name in rustls's description of a name, such as `DnsName("example.com")`.
fn inner_name(described: &str) -> &str {
    described.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(described).trim_matches('"')
}
