//! Password-based decryption: PBES2 (RFC 8018, section 6.2), and the older schemes of PKCS#12 (RFC 7292, appendix B).

#![deny(clippy::disallowed_methods)]

use std::num::NonZeroU32;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockCipherDecrypt, BlockModeDecrypt, InnerIvInit, KeyInit, KeyIvInit};
use cbc::Decryptor;
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Choice, Decode, DecodeValue, Sequence, Tag, Tagged};
use ring::{digest, pbkdf2};
use zeroize::Zeroizing;

use crate::oauth::key_file::bounds::{MAX_ITERATIONS, MAX_TOTAL, MIN_COST};
use crate::oauth::key_file::error::KeyFileError;

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const SCRYPT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11591.4.11");
const HMAC_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.7");
const HMAC_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
const HMAC_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.10");
const HMAC_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.11");
const AES_128_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.2");
const AES_192_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.22");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const DES_EDE3_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.3.7");
/// pbeWithSHAAnd3-KeyTripleDES-CBC.
const SHA1_3DES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3");
/// pbeWithSHAAnd128BitRC2-CBC.
const SHA1_RC2_128: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.5");
/// pbeWithSHAAnd40BitRC2-CBC.
const SHA1_RC2_40: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6");

/// The iterations that are left for the values of one request.
///
/// The slowest accepted values (25,000 iterations of PBKDF2 with HMAC-SHA-1, for a key of two blocks) take 15 ms in a
/// release build on a machine on which a signature with RSA-4096 takes 3 ms. Therefore the operator derives keys outside of
/// its main thread, in a queue that is fair by namespace (`controller::observe::key_files`).
#[derive(Debug)]
pub struct Budget {
    left: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: MAX_TOTAL }
    }
}

impl Budget {
    /// Takes the iterations of a derivation.
    fn take(&mut self, iterations: u32) -> Result<NonZeroU32, KeyFileError> {
        if iterations > MAX_ITERATIONS {
            return Err(KeyFileError::TooManyIterations(iterations));
        }
        let cost = iterations.max(MIN_COST);
        self.left = self.left.checked_sub(cost).ok_or(KeyFileError::TooManyIterationsInTotal)?;
        NonZeroU32::new(iterations).ok_or(KeyFileError::Malformed)
    }
}

/// RFC 5280, section 4.1.1.2.
#[derive(Clone, Copy, Debug, Sequence)]
pub(super) struct Algorithm<'a> {
    oid: ObjectIdentifier,
    parameters: Option<AnyRef<'a>>,
}

/// RFC 5958, section 3.
#[derive(Clone, Copy, Debug, Sequence)]
struct EncryptedPrivateKey<'a> {
    algorithm: Algorithm<'a>,
    data: &'a OctetStringRef,
}

/// RFC 8018, appendix A.4.
#[derive(Clone, Copy, Debug, Sequence)]
struct Pbes2Parameters<'a> {
    derivation: Algorithm<'a>,
    cipher: Algorithm<'a>,
}

/// RFC 8018, appendix A.2.
#[derive(Clone, Copy, Debug, Sequence)]
struct Pbkdf2Parameters<'a> {
    salt: &'a OctetStringRef,
    iterations: u32,
    key_length: Option<u16>,
    hmac: Option<Algorithm<'a>>,
}

/// RFC 7292, appendix C.
#[derive(Clone, Copy, Debug, Sequence)]
struct Pkcs12Parameters<'a> {
    salt: &'a OctetStringRef,
    iterations: u32,
}

/// Decrypts a key of PKCS#8: DER to DER.
pub(super) fn private_key(
    der: &[u8],
    passphrase: &str,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let EncryptedPrivateKey { algorithm, data } = EncryptedPrivateKey::from_der(der)?;
    decrypt(&algorithm, data.as_bytes(), passphrase, budget)
}

/// Decrypts DER, which is a SEQUENCE in all files. If it is none, the passphrase is wrong.
pub(super) fn decrypt(
    algorithm: &Algorithm<'_>,
    data: &[u8],
    passphrase: &str,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let plain = if algorithm.oid == PBES2 {
        pbes2(parameters(algorithm)?, data, passphrase, budget)?
    } else {
        pkcs12_scheme(algorithm, data, passphrase, budget)?
    };
    let is_sequence = AnyRef::from_der(&plain).is_ok_and(|any| any.tag() == Tag::Sequence);
    if is_sequence { Ok(plain) } else { Err(KeyFileError::PassphraseWrong) }
}

fn parameters<'a, T: Choice<'a> + DecodeValue<'a, Error = der::Error>>(
    algorithm: &Algorithm<'a>,
) -> Result<T, KeyFileError> {
    Ok(algorithm.parameters.ok_or(KeyFileError::Malformed)?.decode_as()?)
}

fn pbes2(
    Pbes2Parameters { derivation, cipher }: Pbes2Parameters<'_>,
    data: &[u8],
    passphrase: &str,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    match derivation.oid {
        PBKDF2 => {}
        SCRYPT => return Err(KeyFileError::Scrypt),
        _ => return Err(KeyFileError::UnsupportedEncryption),
    }
    let key_size = match cipher.oid {
        AES_128_CBC => 16,
        AES_192_CBC | DES_EDE3_CBC => 24,
        AES_256_CBC => 32,
        _ => return Err(KeyFileError::UnsupportedEncryption),
    };
    let Pbkdf2Parameters { salt, iterations, key_length, hmac } = parameters(&derivation)?;
    if key_length.is_some_and(|length| usize::from(length) != key_size) {
        return Err(KeyFileError::Malformed);
    }
    let hash = match hmac.map_or(HMAC_SHA1, |hmac| hmac.oid) {
        HMAC_SHA1 => pbkdf2::PBKDF2_HMAC_SHA1,
        HMAC_SHA256 => pbkdf2::PBKDF2_HMAC_SHA256,
        HMAC_SHA384 => pbkdf2::PBKDF2_HMAC_SHA384,
        HMAC_SHA512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(KeyFileError::UnsupportedEncryption),
    };
    let iv: &OctetStringRef = parameters(&cipher)?;
    let mut key = Zeroizing::new(vec![0; key_size]);
    pbkdf2::derive(hash, budget.take(iterations)?, salt.as_bytes(), passphrase.as_bytes(), &mut key);
    match cipher.oid {
        AES_128_CBC => cbc::<aes::Aes128Dec>(&key, iv.as_bytes(), data),
        AES_192_CBC => cbc::<aes::Aes192Dec>(&key, iv.as_bytes(), data),
        AES_256_CBC => cbc::<aes::Aes256Dec>(&key, iv.as_bytes(), data),
        _ => cbc::<des::TdesEde3>(&key, iv.as_bytes(), data),
    }
}

/// The schemes of Windows, of macOS, and of OpenSSL and Java until a few years ago.
fn pkcs12_scheme(
    algorithm: &Algorithm<'_>,
    data: &[u8],
    passphrase: &str,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    /// The block size of both ciphers, in bytes.
    const BLOCK: usize = 8;
    let key_size = match algorithm.oid {
        SHA1_3DES => 24,
        SHA1_RC2_128 => 16,
        SHA1_RC2_40 => 5,
        _ => return Err(KeyFileError::UnsupportedEncryption),
    };
    let Pkcs12Parameters { salt, iterations } = parameters(algorithm)?;
    let iterations = budget.take(iterations)?;
    // With the two zero bytes that end it (RFC 7292, appendix B.1).
    let mut password = Zeroizing::new(Vec::with_capacity(2 * passphrase.len() + 2));
    password.extend(passphrase.encode_utf16().chain([0]).flat_map(u16::to_be_bytes));
    let key = derive(Purpose::Key, &password, salt.as_bytes(), iterations, key_size);
    let iv = derive(Purpose::Iv, &password, salt.as_bytes(), iterations, BLOCK);
    if algorithm.oid == SHA1_3DES {
        return cbc::<des::TdesEde3>(&key, &iv, data);
    }
    let cipher = rc2::Rc2::new_with_eff_key_len(&key, 8 * key_size);
    let decryptor = Decryptor::inner_iv_slice_init(cipher, &iv).map_err(|_| KeyFileError::Malformed)?;
    without_padding(decryptor, data)
}

fn cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let decryptor = Decryptor::<C>::new_from_slices(key, iv).map_err(|_| KeyFileError::Malformed)?;
    without_padding(decryptor, data)
}

fn without_padding<C: BlockCipherDecrypt>(
    decryptor: Decryptor<C>,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let mut buffer = Zeroizing::new(data.to_vec());
    let plain = decryptor.decrypt_padded::<Pkcs7>(&mut buffer).map_err(|_| KeyFileError::PassphraseWrong)?;
    let length = plain.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// What a derived value is for (RFC 7292, appendix B.3).
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
}

/// The key derivation of PKCS#12 with SHA-1 (RFC 7292, appendix B.2), whose names are used here.
fn derive(purpose: Purpose, password: &[u8], salt: &[u8], iterations: NonZeroU32, size: usize) -> Zeroizing<Vec<u8>> {
    /// The block size of SHA-1, in bytes.
    const V: usize = 64;
    let hash = |data: &[u8]| digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data);
    // D || I, of which I = S || P changes with each block of the result.
    let size_of_input = V + salt.len().next_multiple_of(V) + password.len().next_multiple_of(V);
    let mut input = Zeroizing::new(Vec::with_capacity(size_of_input));
    input.extend([purpose as u8; V]);
    for text in [salt, password] {
        input.extend(text.iter().copied().cycle().take(text.len().next_multiple_of(V)));
    }
    let mut result = Zeroizing::new(Vec::with_capacity(size + V));
    loop {
        let a = (1..iterations.get()).fold(hash(&input), |a, _| hash(a.as_ref()));
        result.extend_from_slice(a.as_ref());
        if result.len() >= size {
            result.truncate(size);
            return result;
        }
        let b: Vec<u8> = a.as_ref().iter().copied().cycle().take(V).collect();
        for block in input[V..].chunks_exact_mut(V) {
            add(block, &b);
        }
    }
}

/// `block = block + b + 1`, modulo its size.
fn add(block: &mut [u8], b: &[u8]) {
    let mut carry = 1;
    for (byte, addend) in block.iter_mut().zip(b).rev() {
        let sum = u16::from(*byte) + u16::from(*addend) + carry;
        [_, *byte] = sum.to_be_bytes();
        carry = sum >> 8;
    }
}
