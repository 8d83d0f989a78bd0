//! Keys and certificates that are generated for one run: those of clients, and those of servers on loopback.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use serde_json::{Value, json};

/// A private key as PEM in one of the usual formats, and its public key as JSON (RFC 7517).
#[derive(Clone, Debug)]
pub struct Key {
    /// The private half, as PEM.
    pub pem: String,
    /// The public half, as a JSON Web Key.
    pub jwk: Value,
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Runs openssl, which the tests of the control plane need anyway.
pub fn openssl(arguments: &[&str], input: &str) -> String {
    String::from_utf8(openssl_bytes(arguments, input.as_bytes())).expect("text")
}

/// The same for binary input and output.
pub fn openssl_bytes(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl is needed: sudo apt-get install openssl");
    child.stdin.take().expect("standard input").write_all(input).expect("written");
    let output = child.wait_with_output().expect("openssl exits");
    assert!(output.status.success(), "openssl {arguments:?} failed");
    output.stdout
}

/// A PKCS#12 file with a key and certificates, both as PEM.
pub fn pkcs12(key: &str, certificates: &str, passphrase: &str, options: &[&str]) -> Vec<u8> {
    let passphrase = format!("pass:{passphrase}");
    let arguments = [&["pkcs12", "-export", "-passout", &passphrase], options].concat();
    openssl_bytes(&arguments, format!("{key}{certificates}").as_bytes())
}

/// A private key as PEM of encrypted PKCS#8.
pub fn encrypted(key: &str, passphrase: &str, options: &[&str]) -> String {
    let passphrase = format!("pass:{passphrase}");
    openssl(&[&["pkcs8", "-topk8", "-passout", &passphrase], options].concat(), key)
}

/// A self-signed certificate of a key, as PEM.
pub fn self_signed(key: &str, name: &str) -> String {
    let subject = format!("/CN={name}");
    openssl(&["req", "-x509", "-new", "-key", "/dev/stdin", "-subj", &subject, "-days", "30"], key)
}

/// An RSA key of 2048 bits: PKCS#8.
pub fn rsa() -> Key {
    let pem = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "");
    let modulus = openssl(&["rsa", "-noout", "-modulus"], &pem);
    let modulus = hex::decode(modulus.trim().trim_start_matches("Modulus=")).expect("hexadecimal");
    Key { pem, jwk: json!({"kty": "RSA", "n": encode(&modulus), "e": "AQAB", "kid": "rsa", "use": "sig"}) }
}

/// The same key in the older format: PKCS#1.
pub fn pkcs1(key: &Key) -> Key {
    let pem = openssl(&["rsa", "-traditional"], &key.pem);
    assert!(pem.contains("BEGIN RSA PRIVATE KEY"), "PKCS#1");
    Key { pem, jwk: key.jwk.clone() }
}

/// An EC key of P-256: SEC1, as `openssl ecparam -genkey` writes it.
pub fn ec() -> Key {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let pem = openssl(&["ec"], &pair.serialize_pem());
    assert!(pem.contains("BEGIN EC PRIVATE KEY"), "SEC1");
    let point = pair.public_key_raw();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    Key { pem, jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "ec", "use": "sig"}) }
}

/// An Ed25519 key: PKCS#8.
pub fn ed25519() -> Key {
    let pem = openssl(&["genpkey", "-algorithm", "ed25519"], "");
    let public = openssl(&["pkey", "-pubout", "-outform", "PEM"], &pem);
    let der: String = public.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(der).expect("base64");
    let x = encode(&der[der.len() - 32..]);
    Key { pem, jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "ed", "use": "sig"}) }
}

/// An EC key of P-384: PKCS#8.
pub fn ec384() -> Key {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let point = pair.public_key_raw();
    let (x, y) = (encode(&point[1..49]), encode(&point[49..]));
    Key {
        pem: pair.serialize_pem(),
        jwk: json!({"kty": "EC", "crv": "P-384", "x": x, "y": y, "kid": "ec384", "use": "sig"}),
    }
}

/// An EC key of P-521: PKCS#8.
pub fn ec521() -> Key {
    let sec1 = openssl(&["ecparam", "-name", "secp521r1", "-genkey", "-noout"], "");
    let pem = openssl(&["pkcs8", "-topk8", "-nocrypt"], &sec1);
    let der = openssl_bytes(&["pkey", "-pubout", "-outform", "DER"], pem.as_bytes());
    // The SubjectPublicKeyInfo ends with the coordinates.
    let (x, y) = der[der.len() - 132..].split_at(66);
    Key { pem, jwk: json!({"kty": "EC", "crv": "P-521", "x": encode(x), "y": encode(y), "kid": "ec521", "use": "sig"}) }
}

/// The claims of a JWT, not verified.
pub fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_else(|| panic!("no JWT: {token}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("claims")
}

/// The header of a JWT, not verified.
pub fn header(token: &str) -> Value {
    let part = token.split('.').next().unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("a header")
}

/// The SHA-256 thumbprint of a certificate (RFC 8705, section 3.1).
pub fn thumbprint(certificate: &str) -> String {
    let printed = openssl(&["x509", "-noout", "-fingerprint", "-sha256"], certificate);
    let hexadecimal = printed.trim().rsplit('=').next().expect("a fingerprint").replace(':', "");
    encode(&hex::decode(hexadecimal).expect("hexadecimal"))
}

/// A certificate and its private key, as PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, as PEM.
    pub pem: String,
    /// The private key, as PEM (PKCS#8).
    pub key: String,
}

/// When certificates end, unless a test needs another day.
const LAST_DAY: &str = "2090-01-01";

/// The host of the identity provider in the documentation.
pub const LOGIN_HOST: &str = "login.example.com";

/// The CA of one run.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM, for those that must trust it.
    pub pem: String,
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl CertificateAuthority {
    /// A new CA.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the CA of a test");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a CA").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a server on loopback, at [`LOGIN_HOST`], or outside a cluster with nodes.
    pub fn server(&self) -> Certificate {
        self.issue(
            &["127.0.0.1", LOGIN_HOST, &crate::node::OUTSIDE.to_string()],
            LAST_DAY,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// A certificate for a client of this name.
    pub fn client(&self, name: &str) -> Certificate {
        self.client_until(name, LAST_DAY)
    }

    /// An expired client certificate.
    pub fn expired_client(&self, name: &str) -> Certificate {
        self.client_until(name, "2020-01-01")
    }

    /// A certificate for a client that ends at the begin of this day (UTC).
    pub fn client_until(&self, name: &str, day: &str) -> Certificate {
        self.issue(&[name], day, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, names: &[&str], last_day: &str, usage: ExtendedKeyUsagePurpose) -> Certificate {
        let numbers: Vec<i32> = last_day.split('-').map(|part| part.parse().expect("a number")).collect();
        let small = |number: i32| u8::try_from(number).expect("a month or a day");
        let all = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(all).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(numbers[0], small(numbers[1]), small(numbers[2]));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate { pem: certificate.pem(), key: key.serialize_pem() }
    }
}
