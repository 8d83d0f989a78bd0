//! The bounds of files with keys, all of which a tenant may exceed on purpose.

/// The iterations of one derivation: the default of Java's keytool. OpenSSL's is 2,048.
pub(super) const MAX_ITERATIONS: u32 = 10_000;
/// The iterations of all derivations for one request: a keystore of keytool (its key and its certificates), and files of
/// OpenSSL.
pub(super) const MAX_TOTAL: u32 = 25_000;
/// What a derivation costs at least: it bounds their number.
pub(super) const MIN_COST: u32 = 500;
/// The size of a file, in KiB: all of it is decrypted and searched.
pub(super) const MAX_FILE_KIB: usize = 64;
/// The size of a passphrase, in bytes.
pub(super) const MAX_PASSPHRASE: usize = 1024;
/// More certificates than any chain has. They are compared with each other.
pub(super) const MAX_CERTIFICATES: usize = 32;
