//! Why a file with a key cannot be used.

use crate::oauth::key_file::bounds::{MAX_CERTIFICATES, MAX_FILE_KIB, MAX_ITERATIONS, MAX_PASSPHRASE, MAX_TOTAL};

/// Converts a key of any format that OpenSSL reads.
const CONVERT_PEM: &str = "openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 2048 -in old.pem -out new.pem";
/// Converts PKCS#12 of any age.
const CONVERT_PKCS12: &str =
    "openssl pkcs12 -in old.p12 -nodes -out all.pem && openssl pkcs12 -export -iter 2048 -in all.pem -out new.p12";

/// Why a file with a key cannot be used. The messages continue "the value under key k of Secret s", and never quote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// There is no passphrase.
    #[error("is encrypted, and there is no passphrase for it")]
    PassphraseMissing,
    /// The passphrase is longer than any that is sensible.
    #[error("cannot be decrypted: its passphrase is longer than {MAX_PASSPHRASE} bytes")]
    PassphraseTooLong,
    /// The result of the decryption is no key.
    #[error("cannot be decrypted: the passphrase is wrong, or the file is damaged")]
    PassphraseWrong,
    /// The derivation of the key would take too long.
    #[error(
        "is encrypted with {0} iterations of the key derivation, and {MAX_ITERATIONS} are allowed: the passphrase is in the same Secret, so that more of them protect nothing. Convert it with `{CONVERT_PEM}`, or `{CONVERT_PKCS12}`"
    )]
    TooManyIterations(u32),
    /// All derivations together would take too long.
    #[error(
        "and the other encrypted values need more than {MAX_TOTAL} iterations of the key derivation in total: the passphrase is in the same Secret, so that they protect nothing. Convert them with `{CONVERT_PEM}`, or `{CONVERT_PKCS12}`"
    )]
    TooManyIterationsInTotal,
    /// A derivation that is expensive by design.
    #[error(
        "is encrypted with scrypt, which is not supported because it needs much memory: the passphrase is in the same Secret, so that an expensive key derivation protects nothing. Convert it with `{CONVERT_PEM}`"
    )]
    Scrypt,
    /// Another algorithm.
    #[error(
        "is encrypted with an algorithm that is not supported: use PBES2 with PBKDF2 and AES-CBC or triple DES. Convert it with `{CONVERT_PEM}`, or `{CONVERT_PKCS12}`"
    )]
    UnsupportedEncryption,
    /// PEM that is encrypted without PKCS#8.
    #[error("is encrypted in the old format of OpenSSL (Proc-Type: 4,ENCRYPTED): convert it with `{CONVERT_PEM}`")]
    LegacyPem,
    /// PKCS#12 in BER that is not DER.
    #[error("is PKCS#12 with indefinite lengths, which are not DER: convert it with `{CONVERT_PKCS12}`")]
    IndefiniteLength,
    /// A keystore of Java.
    #[error(
        "is a Java keystore (JKS or JCEKS): convert it with `keytool -importkeystore -srckeystore old.jks -destkeystore new.p12 -deststoretype pkcs12`"
    )]
    JavaKeystore,
    /// Base64 of a binary file.
    #[error(
        "is base64 of a binary file: write the file itself, which is base64 in data of a Secret, as `kubectl create secret generic --from-file` does"
    )]
    Base64,
    /// The file cannot be parsed.
    #[error(
        "is not PEM, and not PKCS#12 either, or damaged: convert DER to PEM with `openssl pkey -inform DER` or `openssl x509 -inform DER`"
    )]
    Malformed,
    /// A file that is larger than any that is sensible.
    #[error("has more than {MAX_FILE_KIB} KiB: keep one key and its certificates in it")]
    TooLarge,
    /// There is no key in the file.
    #[error("is PKCS#12 without a private key: export the key too, or name another value")]
    NoKey,
    /// There are several keys in the file.
    #[error("is PKCS#12 with several private keys: keep one of them in it, because nothing says which one to use")]
    SeveralKeys,
    /// There is no certificate in the file.
    #[error("is PKCS#12 without a certificate: export the certificate too, or name another value")]
    NoCertificate,
    /// A file with more certificates than a chain has.
    #[error("is PKCS#12 with more than {MAX_CERTIFICATES} certificates: keep only those of the chain in it")]
    TooManyCertificates,
}

impl From<der::Error> for KeyFileError {
    /// The position in the file is dropped: it would not help.
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}
