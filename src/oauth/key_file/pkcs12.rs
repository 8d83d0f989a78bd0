//! PKCS#12 (RFC 7292), as Java's keytool, Windows, macOS, OpenSSL and cert-manager write it.
//!
//! The MAC is not verified, so that nothing is derived for it: it authenticates the file with the passphrase, which
//! everyone who may write the file may write, too. A damaged file is noticed, since all of it is parsed.

#![deny(clippy::disallowed_methods)]

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Reader, Sequence, SliceReader};
use secrecy::SecretString;
use x509_parser::certificate::X509Certificate;
use zeroize::Zeroizing;

use crate::oauth::key_file::bounds::MAX_CERTIFICATES;
use crate::oauth::key_file::decryption::{self, Algorithm, Budget};
use crate::oauth::key_file::error::KeyFileError;
use crate::oauth::key_file::{check_sizes, pem};

const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ENCRYPTED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
const KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.1");
const ENCRYPTED_KEY_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.2");
const CERTIFICATE_BAG: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.10.1.3");
const X509: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.22.1");
const LOCAL_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.21");

/// RFC 7292, section 4. The version is always 3.
#[derive(Clone, Copy, Debug, Sequence)]
struct Pfx<'a> {
    version: u8,
    contents: ContentInfo<'a>,
    mac: Option<AnyRef<'a>>,
}

/// RFC 5652, section 3.
#[derive(Clone, Copy, Debug, Sequence)]
struct ContentInfo<'a> {
    oid: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: AnyRef<'a>,
}

/// RFC 5652, section 8.
#[derive(Clone, Copy, Debug, Sequence)]
struct EncryptedData<'a> {
    version: u8,
    content: EncryptedContentInfo<'a>,
}

/// RFC 5652, section 6.1.
#[derive(Clone, Copy, Debug, Sequence)]
struct EncryptedContentInfo<'a> {
    oid: ObjectIdentifier,
    algorithm: Algorithm<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    content: &'a OctetStringRef,
}

/// RFC 7292, section 4.2.
#[derive(Clone, Copy, Debug, Sequence)]
struct SafeBag<'a> {
    oid: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    value: AnyRef<'a>,
    attributes: Option<AnyRef<'a>>,
}

/// RFC 7292, section 4.2.3.
#[derive(Clone, Copy, Debug, Sequence)]
struct CertificateBag<'a> {
    oid: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    value: AnyRef<'a>,
}

/// An attribute of a bag: its values are a SET.
#[derive(Clone, Copy, Debug, Sequence)]
struct Attribute<'a> {
    oid: ObjectIdentifier,
    values: AnyRef<'a>,
}

/// A part of the file, with the id by which the key and its certificate refer to each other.
#[derive(Debug)]
struct Bag {
    der: Zeroizing<Vec<u8>>,
    local_key_id: Option<Vec<u8>>,
}

/// The key and the certificates of a file. `Debug` does not print the key.
pub struct Pkcs12 {
    key: Option<Bag>,
    certificates: Vec<Bag>,
}

impl std::fmt::Debug for Pkcs12 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs12").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

/// Reads a file.
struct Reading<'a> {
    passphrase: &'a str,
    budget: &'a mut Budget,
    found: Pkcs12,
}

impl Pkcs12 {
    /// Reads and decrypts a file; without a passphrase, with an empty one.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, without quoting it.
    pub fn read(file: &[u8], passphrase: Option<&str>, budget: &mut Budget) -> Result<Self, KeyFileError> {
        check_sizes(file, passphrase.unwrap_or_default())?;
        let Pfx { contents, .. } = Pfx::from_der(file)?;
        let found = Self { key: None, certificates: Vec::new() };
        let mut reading = Reading { passphrase: passphrase.unwrap_or_default(), budget, found };
        match reading.contents(contents) {
            Err(KeyFileError::PassphraseWrong) if passphrase.is_none() => Err(KeyFileError::PassphraseMissing),
            read => read.map(|()| reading.found),
        }
    }

    /// The key, as PEM of PKCS#8.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn key(&self) -> Result<SecretString, KeyFileError> {
        let key = self.key.as_ref().ok_or(KeyFileError::NoKey)?;
        Ok(pem("PRIVATE KEY", &key.der).as_str().into())
    }

    /// The certificate of the key and its chain without the root, which servers know; as PEM.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn certificates(&self) -> Result<SecretString, KeyFileError> {
        let mut all = Vec::new();
        for bag in &self.certificates {
            let (rest, certificate) =
                x509_parser::parse_x509_certificate(&bag.der).map_err(|_| KeyFileError::Malformed)?;
            if !rest.is_empty() {
                return Err(KeyFileError::Malformed);
            }
            all.push((bag, certificate));
        }
        let key_id = self.key.as_ref().and_then(|key| key.local_key_id.as_ref());
        let of_key = all.iter().position(|(bag, _)| key_id.is_some() && bag.local_key_id.as_ref() == key_id);
        let is_issuer = |one: &X509Certificate<'_>| {
            all.iter().any(|(_, other)| !is_root(other) && other.issuer().as_raw() == one.subject().as_raw())
        };
        let first = of_key.or_else(|| all.iter().position(|(_, one)| !is_issuer(one)));
        let mut next = first.or((!all.is_empty()).then_some(0));
        let mut chain = Zeroizing::new(String::new());
        while let Some(index) = next {
            let (bag, certificate) = all.swap_remove(index);
            chain.push_str(&pem("CERTIFICATE", &bag.der));
            next = all
                .iter()
                .position(|(_, other)| !is_root(other) && other.subject().as_raw() == certificate.issuer().as_raw());
        }
        if chain.is_empty() { Err(KeyFileError::NoCertificate) } else { Ok(chain.as_str().into()) }
    }
}

fn is_root(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

impl Reading<'_> {
    /// `AuthenticatedSafe` (RFC 7292, section 4.1).
    fn contents(&mut self, ContentInfo { oid, content }: ContentInfo<'_>) -> Result<(), KeyFileError> {
        if oid != DATA {
            // Signed with a certificate, not with a passphrase; nobody writes that.
            return Err(KeyFileError::UnsupportedEncryption);
        }
        let data: &OctetStringRef = content.decode_as()?;
        for_each(data.as_bytes(), |ContentInfo { oid, content }| match oid {
            DATA => {
                let data: &OctetStringRef = content.decode_as()?;
                self.bags(data.as_bytes())
            }
            ENCRYPTED_DATA => {
                let EncryptedData { content, .. } = content.decode_as()?;
                let EncryptedContentInfo { algorithm, content, .. } = content;
                let plain = decryption::decrypt(&algorithm, content.as_bytes(), self.passphrase, self.budget)?;
                self.bags(&plain)
            }
            _ => Err(KeyFileError::UnsupportedEncryption),
        })
    }

    /// `SafeContents`. Bags of other types (CRLs, secrets, nested bags) are ignored.
    fn bags(&mut self, der: &[u8]) -> Result<(), KeyFileError> {
        for_each(der, |SafeBag { oid, value, attributes }| {
            let local_key_id = attributes.and_then(local_key_id);
            match oid {
                KEY_BAG | ENCRYPTED_KEY_BAG if self.found.key.is_some() => return Err(KeyFileError::SeveralKeys),
                KEY_BAG => {
                    let der = Zeroizing::new(value.to_der()?);
                    self.found.key = Some(Bag { der, local_key_id });
                }
                ENCRYPTED_KEY_BAG => {
                    let encrypted = value.to_der()?;
                    let der = decryption::private_key(&encrypted, self.passphrase, self.budget)?;
                    self.found.key = Some(Bag { der, local_key_id });
                }
                CERTIFICATE_BAG => {
                    let CertificateBag { oid, value } = value.decode_as()?;
                    if self.found.certificates.len() >= MAX_CERTIFICATES {
                        return Err(KeyFileError::TooManyCertificates);
                    }
                    if oid == X509 {
                        let der: &OctetStringRef = value.decode_as()?;
                        let der = Zeroizing::new(der.as_bytes().to_vec());
                        self.found.certificates.push(Bag { der, local_key_id });
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }
}

/// Reads the elements of a SEQUENCE OF, one by one.
fn for_each<'a, T: Decode<'a, Error = der::Error>>(
    der: &'a [u8],
    mut read: impl FnMut(T) -> Result<(), KeyFileError>,
) -> Result<(), KeyFileError> {
    let sequence = AnyRef::from_der(der)?;
    sequence.sequence(|reader| {
        while !reader.is_finished() {
            read(T::decode(reader)?)?;
        }
        Ok(())
    })
}

/// The value of the attribute localKeyId.
fn local_key_id(attributes: AnyRef<'_>) -> Option<Vec<u8>> {
    let mut reader = SliceReader::new(attributes.value()).ok()?;
    while !reader.is_finished() {
        let Attribute { oid, values } = Attribute::decode(&mut reader).ok()?;
        if oid == LOCAL_KEY_ID {
            return Some(values.value().to_vec());
        }
    }
    None
}
