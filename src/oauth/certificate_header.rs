//! The certificate of a key in the header of a JWT (RFC 7515, sections 4.1.6 to 4.1.8). Pure.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::api::signed_jwt::SignedJwt;
use crate::oauth::error::CredentialError;

/// The maximum size of `x5c`, in characters, as of the additional claims: an assertion may be sent in a header.
const MAX_CHAIN: usize = 16 << 10;

/// The members of the header that describe the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateHeader {
    /// `x5t#S256`.
    pub thumbprint: Option<String>,
    /// `x5t`.
    pub thumbprint_sha1: Option<String>,
    /// `x5c`.
    pub chain: Option<Vec<String>>,
}

impl CertificateHeader {
    /// Describes the first certificate of a PEM text, as the settings of the JWT require.
    ///
    /// # Errors
    ///
    /// Why the text cannot be used.
    pub(crate) fn of(jwt: &SignedJwt, pem: &str) -> Result<Self, CredentialError> {
        let sections = CertificateDer::pem_slice_iter(pem.as_bytes());
        let sections = sections.take(if jwt.certificate_chain { usize::MAX } else { 1 });
        let chain: Vec<_> = sections.collect::<Result<_, _>>().map_err(|_| CredentialError::NotCertificate)?;
        let first = chain.first().ok_or(CredentialError::NotCertificate)?;
        let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(digest::digest(algorithm, first));
        let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
        Ok(Self {
            thumbprint: jwt.certificate_thumbprint.then(|| thumbprint(&digest::SHA256)),
            thumbprint_sha1: jwt.certificate_thumbprint_sha1.then(|| thumbprint(sha1)),
            chain: jwt.certificate_chain.then(|| x5c(&chain)).transpose()?,
        })
    }
}

/// The certificates as base64 of DER. Only certificates are sent: the spec names the key of the Secret that is read.
fn x5c(chain: &[CertificateDer<'_>]) -> Result<Vec<String>, CredentialError> {
    let encoded: Vec<String> = chain.iter().map(|one| STANDARD.encode(one)).collect();
    if encoded.iter().map(String::len).sum::<usize>() > MAX_CHAIN {
        return Err(CredentialError::CertificateChainTooLong);
    }
    let is_certificate =
        |der: &CertificateDer<'_>| x509_parser::parse_x509_certificate(der).is_ok_and(|(rest, _)| rest.is_empty());
    if !chain.iter().all(is_certificate) {
        return Err(CredentialError::MalformedCertificate);
    }
    Ok(encoded)
}
