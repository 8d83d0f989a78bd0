//! Private keys and certificates in encrypted or binary files, converted to PEM: encrypted PKCS#8 (RFC 5958) and PKCS#12
//! (RFC 7292). Pure.
//!
//! A tenant chooses the file, and with it the cost of deriving its key. The parameters of each derivation are read before
//! anything is derived, and [`Budget`] bounds them: the passphrase is in the same Secret as the file, so that an expensive
//! derivation protects nothing. The crate `pkcs5` would derive without such a bound, and panics if the initialization
//! vector of triple DES is too short.

#![deny(clippy::disallowed_methods)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use zeroize::Zeroizing;

mod bounds;
mod decryption;
pub mod error;
pub mod pkcs12;

pub use decryption::Budget;

use crate::oauth::key_file::bounds::{MAX_FILE_KIB, MAX_PASSPHRASE};
use crate::oauth::key_file::error::KeyFileError;

/// The label of an encrypted key in PEM (RFC 7468, section 11).
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// The header of PEM that OpenSSL encrypts without PKCS#8 (RFC 1421, section 4.6.1.1).
const LEGACY_ENCRYPTION: &str = "Proc-Type: 4,ENCRYPTED";
/// Characters on a line of PEM (RFC 7468, section 2).
const LINE: usize = 64;

/// The kinds of values that may hold a key or a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text that is not encrypted, or that is not recognized.
    Plain,
    /// PEM of PKCS#8, encrypted with a passphrase.
    EncryptedPem,
    /// PKCS#12, or at least binary.
    Binary,
}

/// Recognizes the format of a value.
///
/// # Errors
///
/// A format that must be converted.
pub fn format(value: &[u8]) -> Result<Format, KeyFileError> {
    match value {
        // A SEQUENCE with a long length, which is not UTF-8.
        [0x30, 0x80, ..] => Err(KeyFileError::IndefiniteLength),
        [0x30, 0x81..=0x84, ..] => Ok(Format::Binary),
        [0xfe, 0xed, 0xfe, 0xed, ..] | [0xce, 0xce, 0xce, 0xce, ..] => Err(KeyFileError::JavaKeystore),
        _ => text_format(std::str::from_utf8(value).unwrap_or_default()),
    }
}

fn text_format(text: &str) -> Result<Format, KeyFileError> {
    // The beginning of base64 of a SEQUENCE with a long length.
    let is_base64 = || text.starts_with("MI") && STANDARD.decode(text.split_whitespace().collect::<String>()).is_ok();
    if text.contains(LEGACY_ENCRYPTION) {
        return Err(KeyFileError::LegacyPem);
    }
    if text.contains(ENCRYPTED) && !text.trim_start().starts_with('{') {
        return Ok(Format::EncryptedPem);
    }
    if is_base64() { Err(KeyFileError::Base64) } else { Ok(Format::Plain) }
}

/// Decrypts the key in PEM of PKCS#8.
///
/// # Errors
///
/// Why it cannot be decrypted, without quoting it.
pub fn decrypt_pem(text: &str, passphrase: Option<&str>, budget: &mut Budget) -> Result<SecretString, KeyFileError> {
    // Line breaks are written out in the values of some tools.
    let der = section(&text.replace("\\n", "\n"), ENCRYPTED).ok_or(KeyFileError::Malformed)?;
    let passphrase = passphrase.ok_or(KeyFileError::PassphraseMissing)?;
    check_sizes(&der, passphrase)?;
    let key = decryption::private_key(&der, passphrase, budget)?;
    Ok(pem("PRIVATE KEY", &key).as_str().into())
}

fn check_sizes(file: &[u8], passphrase: &str) -> Result<(), KeyFileError> {
    match () {
        () if file.len() > MAX_FILE_KIB << 10 => Err(KeyFileError::TooLarge),
        () if passphrase.len() > MAX_PASSPHRASE => Err(KeyFileError::PassphraseTooLong),
        () => Ok(()),
    }
}

/// The first section of PEM with a label.
fn section(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

/// DER as PEM.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Large enough from the beginning: a copy that the allocator leaves behind would not be wiped.
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / LINE + 2 * label.len() + LINE));
    text.extend(["-----BEGIN ", label, "-----\n"]);
    for line in body.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}
