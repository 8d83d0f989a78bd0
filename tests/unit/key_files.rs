//! Guarantee: private keys and certificates in encrypted PKCS#8 and in PKCS#12 are read as OpenSSL and Java write them; no
//! file makes the operator derive a key for long, and none makes it panic.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oauth_operator::oauth::key_file::error::KeyFileError;
use oauth_operator::oauth::key_file::pkcs12::Pkcs12;
use oauth_operator::oauth::key_file::{Budget, Format, decrypt_pem, format};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::endpoint::{Endpoint, Reply};
use test_support::keys::{self, CertificateAuthority, openssl, openssl_bytes};

use crate::fetch::{credentials_of, fetch_documents, integration_of};

const PASSPHRASE: &str = "kanarie-passphrase-ä";

/// The same key in the same format, whatever it was in.
fn normalized(key: &str) -> String {
    openssl(&["pkey"], key)
}

fn certificates(pem: &str) -> Vec<String> {
    let sections = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    sections.map(|section| section.split("-----END").next().unwrap_or_default().split_whitespace().collect()).collect()
}

fn decrypted(pem: &str, passphrase: &str) -> Result<String, KeyFileError> {
    assert_eq!(format(pem.as_bytes())?, Format::EncryptedPem);
    let key = decrypt_pem(pem, Some(passphrase), &mut Budget::default())?;
    Ok(key.expose_secret().to_owned())
}

fn read(file: &[u8], passphrase: &str) -> Result<(String, Vec<String>), KeyFileError> {
    assert_eq!(format(file)?, Format::Binary);
    let file = Pkcs12::read(file, Some(passphrase), &mut Budget::default())?;
    let chain = file.certificates()?;
    Ok((file.key()?.expose_secret().to_owned(), certificates(chain.expose_secret())))
}

#[test]
fn encrypted_keys_of_openssl_are_decrypted() {
    let keys = [keys::rsa().pem, keys::ec().pem, keys::ec384().pem, keys::ec521().pem, keys::ed25519().pem];
    let schemes: [&[&str]; 8] = [
        &[],
        &["-v2", "aes-128-cbc"],
        &["-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA384"],
        &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"],
        &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512", "-iter", "10000"],
        &["-v2", "des3"],
        &["-v1", "PBE-SHA1-3DES"],
        &["-v1", "PBE-SHA1-RC2-40", "-provider", "legacy", "-provider", "default"],
    ];
    for scheme in schemes {
        let encrypted = keys::encrypted(&keys[0], PASSPHRASE, scheme);
        let key = decrypted(&encrypted, PASSPHRASE).unwrap_or_else(|why| panic!("{scheme:?}: {why}"));
        assert_eq!(normalized(&key), normalized(&keys[0]), "{scheme:?}");
    }
    for original in &keys {
        let encrypted = keys::encrypted(original, PASSPHRASE, &[]);
        // As environment variables often contain it.
        let on_one_line = encrypted.replace('\n', "\\n");
        for text in [encrypted, on_one_line] {
            assert_eq!(normalized(&decrypted(&text, PASSPHRASE).expect("a key")), normalized(original));
        }
    }
}

#[test]
fn pkcs12_files_of_openssl_are_read() {
    let authority = CertificateAuthority::new();
    let client = authority.client("it");
    let expected = (normalized(&client.key), certificates(&client.pem));
    let legacy = ["-legacy"];
    let cases: [(&str, &[&str]); 8] = [
        ("the default of OpenSSL 3", &[]),
        ("the default of OpenSSL 1: RC2 and triple DES", &legacy),
        (
            "cert-manager's profile LegacyDES",
            &["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
        ),
        ("128 bits of RC2", &["-legacy", "-certpbe", "PBE-SHA1-RC2-128"]),
        ("AES", &["-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC", "-iter", "10000"]),
        ("another size", &["-keypbe", "AES-128-CBC", "-certpbe", "AES-192-CBC"]),
        ("certificates that are not encrypted", &["-certpbe", "NONE"]),
        ("nothing encrypted", &["-certpbe", "NONE", "-keypbe", "NONE", "-nomac"]),
    ];
    for (case, options) in cases {
        let file = keys::pkcs12(&client.key, &client.pem, PASSPHRASE, options);
        let (key, chain) = read(&file, PASSPHRASE).unwrap_or_else(|why| panic!("{case}: {why}"));
        assert_eq!((normalized(&key), chain), expected, "{case}");
    }
    // Without a passphrase.
    let file = keys::pkcs12(&client.key, &client.pem, "", &[]);
    assert_eq!(normalized(&read(&file, "").expect("an empty passphrase").0), expected.0);
    Pkcs12::read(&file, None, &mut Budget::default()).expect("no passphrase");
}

#[test]
fn the_certificates_of_pkcs12_are_a_chain_that_begins_with_that_of_the_key() {
    let chain = Chain::new();
    let (key, all) = (&chain.key, [&chain.leaf, &chain.intermediate, &chain.root, &chain.other]);
    let expected = [certificates(&chain.leaf), certificates(&chain.intermediate)].concat();
    // In any order; OpenSSL moves that of the key to the front, so that Java's order is tested separately.
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let pem: String = order.iter().map(|index| all[*index].as_str()).collect();
        let file = keys::pkcs12(key, &pem, PASSPHRASE, &[]);
        assert_eq!(read(&file, PASSPHRASE).expect("a file").1, expected, "{order:?}");
    }
    // A truststore: only certificates.
    let file = keys::pkcs12("", &chain.root, PASSPHRASE, &["-nokeys"]);
    let file = Pkcs12::read(&file, Some(PASSPHRASE), &mut Budget::default()).expect("a file");
    assert_eq!(certificates(file.certificates().expect("certificates").expose_secret()), certificates(&chain.root));
    assert_eq!(file.key().err(), Some(KeyFileError::NoKey));
    // The opposite.
    let file = keys::pkcs12(key, "", PASSPHRASE, &["-nocerts"]);
    let file = Pkcs12::read(&file, Some(PASSPHRASE), &mut Budget::default()).expect("a file");
    assert_eq!(file.certificates().err(), Some(KeyFileError::NoCertificate));
    assert!(!format!("{file:?}").contains("PRIVATE"));
}

/// A certificate with its key, its intermediate CA and root, and an unrelated one; as PEM.
struct Chain {
    key: String,
    leaf: String,
    intermediate: String,
    root: String,
    other: String,
}

impl Chain {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let file = |name: &str| dir.path().join(name).display().to_string();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
        let new_key = || openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
        let (root_key, intermediate_key, key) = (new_key(), new_key(), new_key());
        let root = keys::self_signed(&root_key, "root");
        let issue = |subject: &str, key: &str, issuer: &str, issuer_key: &str| {
            write("issuer.pem", issuer);
            write("issuer.key", issuer_key);
            write("subject.key", key);
            let (subject, file_of_key) = (format!("/CN={subject}"), file("subject.key"));
            let request = openssl(&["req", "-new", "-key", &file_of_key, "-subj", &subject], "");
            let (ca, ca_key) = (file("issuer.pem"), file("issuer.key"));
            openssl(&["x509", "-req", "-CA", &ca, "-CAkey", &ca_key, "-set_serial", "7", "-days", "30"], &request)
        };
        let intermediate = issue("intermediate", &intermediate_key, &root, &root_key);
        let leaf = issue("leaf", &key, &intermediate, &intermediate_key);
        Self { leaf, intermediate, root, other: keys::self_signed(&new_key(), "other"), key }
    }
}

fn keytool(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("keytool");
    command.current_dir(directory).args(arguments).env_remove("JAVA_TOOL_OPTIONS");
    let output = command.output().expect("keytool is needed: a JDK 17");
    assert!(output.status.success(), "keytool {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn pkcs12_keystores_of_java_are_read() {
    const GENERATE: [&str; 10] = [
        "-genkeypair",
        "-storepass",
        "changeit",
        "-dname",
        "CN=it",
        "-validity",
        "30",
        "-storetype",
        "PKCS12",
        "-keystore",
    ];
    let dir = TempDir::new().expect("a directory");
    let generate = |store: &str, alias: &str, algorithm: &str, more: &[&str]| {
        keytool(dir.path(), &[&GENERATE[..], &[store, "-alias", alias, "-keyalg", algorithm], more].concat());
        std::fs::read(dir.path().join(store)).expect("the keystore")
    };
    let own = generate("modern.p12", "one", "EC", &["-groupname", "secp384r1"]);
    let legacy = generate("legacy.p12", "one", "RSA", &["-J-Dkeystore.pkcs12.legacy=true"]);
    // The defaults of Java 8 to 15.
    assert_eq!(read(&legacy, "changeit").err(), Some(KeyFileError::TooManyIterations(50_000)));
    let cheaper = [
        "-J-Dkeystore.pkcs12.keyProtectionAlgorithm=PBEWithSHA1AndDESede",
        "-J-Dkeystore.pkcs12.certProtectionAlgorithm=PBEWithSHA1AndRC2_40",
        "-J-Dkeystore.pkcs12.macAlgorithm=HmacPBESHA1",
        "-J-Dkeystore.pkcs12.keyPbeIterationCount=2000",
        "-J-Dkeystore.pkcs12.certPbeIterationCount=2000",
        "-J-Dkeystore.pkcs12.macIterationCount=200000",
    ];
    // As on Windows; and the MAC is not computed.
    let cheaper = generate("cheaper.p12", "one", "RSA", &cheaper);
    for file in [&own, &cheaper] {
        // The oracle: OpenSSL.
        let arguments = ["pkcs12", "-nodes", "-legacy", "-passin", "pass:changeit"];
        let all = String::from_utf8(openssl_bytes(&arguments, file)).expect("PEM");
        let (key, chain) = read(file, "changeit").expect("the default of Java 17, and a legacy file");
        assert_eq!((normalized(&key), chain), (normalized(&all), certificates(&all)));
    }
    let two = generate("modern.p12", "two", "EC", &["-groupname", "secp256r1"]);
    assert_eq!(read(&two, "changeit").err(), Some(KeyFileError::SeveralKeys));
    let trust = ["-importcert", "-noprompt", "-storepass", "changeit", "-keystore", "trust.p12", "-file", "ca.pem"];
    std::fs::write(dir.path().join("ca.pem"), CertificateAuthority::new().pem).expect("a file");
    keytool(dir.path(), &[&trust[..], &["-alias", "ca", "-storetype", "PKCS12"]].concat());
    let trusted = std::fs::read(dir.path().join("trust.p12")).expect("the truststore");
    let trusted = Pkcs12::read(&trusted, Some("changeit"), &mut Budget::default()).expect("a truststore");
    trusted.certificates().expect("a certificate");
    // The format that is not PKCS#12.
    let jks =
        [&GENERATE[..7], &["-storetype", "JKS", "-keystore", "old.jks", "-alias", "x", "-keyalg", "RSA"]].concat();
    keytool(dir.path(), &[&jks[..], &["-keypass", "changeit"]].concat());
    let jks = std::fs::read(dir.path().join("old.jks")).expect("the keystore");
    assert_eq!(format(&jks), Err(KeyFileError::JavaKeystore));
}

#[test]
fn an_expensive_key_derivation_is_rejected_before_it_begins() {
    let authority = CertificateAuthority::new();
    let client = authority.client("it");
    let (key, certificate) = (client.key.as_str(), client.pem.as_str());
    let expensive = "2000000";
    // OpenSSL derives these keys itself, which takes seconds.
    let pem = keys::encrypted(key, PASSPHRASE, &["-v2", "aes-256-cbc", "-iter", expensive]);
    let scrypt = keys::encrypted(key, PASSPHRASE, &["-scrypt"]);
    let by_pbkdf2 = keys::pkcs12(key, certificate, PASSPHRASE, &["-iter", expensive, "-nomac"]);
    let by_pkcs12 = keys::pkcs12(key, certificate, PASSPHRASE, &["-legacy", "-iter", expensive, "-nomac"]);
    // The parameters of the key are only visible after the certificates, which are cheap, have been decrypted.
    let barely = keys::encrypted(key, PASSPHRASE, &["-v2", "aes-256-cbc", "-iter", "10001"]);
    let cheap = keys::encrypted(key, PASSPHRASE, &["-v2", "aes-256-cbc", "-iter", "10000"]);
    let started = Instant::now();
    assert_eq!(decrypted(&pem, PASSPHRASE), Err(KeyFileError::TooManyIterations(2_000_000)));
    assert_eq!(decrypted(&barely, PASSPHRASE), Err(KeyFileError::TooManyIterations(10_001)));
    assert_eq!(decrypted(&scrypt, PASSPHRASE), Err(KeyFileError::Scrypt));
    for file in [by_pbkdf2, by_pkcs12] {
        assert_eq!(read(&file, PASSPHRASE).err(), Some(KeyFileError::TooManyIterations(2_000_000)));
    }
    assert!(started.elapsed().as_millis() < 500, "nothing is derived: {:?}", started.elapsed());
    // All values of a request together.
    let mut budget = Budget::default();
    let results: Vec<bool> = (0..4).map(|_| decrypt_pem(&cheap, Some(PASSPHRASE), &mut budget).is_ok()).collect();
    assert_eq!(results, [true, true, false, false]);
    let last = decrypt_pem(&cheap, Some(PASSPHRASE), &mut budget).err();
    assert_eq!(last, Some(KeyFileError::TooManyIterationsInTotal));
    // Many derivations of one iteration are bounded, too.
    let single = keys::encrypted(key, PASSPHRASE, &["-v2", "aes-256-cbc", "-iter", "1"]);
    let mut budget = Budget::default();
    let derived = (0..1000).take_while(|_| decrypt_pem(&single, Some(PASSPHRASE), &mut budget).is_ok()).count();
    assert_eq!(derived, 50);
}

#[test]
fn hostile_files_are_rejected_without_a_panic() {
    let authority = CertificateAuthority::new();
    let client = authority.client("it");
    let file = keys::pkcs12(&client.key, &client.pem, PASSPHRASE, &["-iter", "1"]);
    let legacy = keys::pkcs12(&client.key, &client.pem, PASSPHRASE, &["-iter", "1", "-legacy"]);
    let plain = keys::pkcs12(&client.key, &client.pem, PASSPHRASE, &["-keypbe", "NONE", "-certpbe", "NONE", "-nomac"]);
    let encrypted = keys::encrypted(&client.key, PASSPHRASE, &["-v2", "des3", "-iter", "1"]);
    // Cut, and with each byte changed: lengths, tags, algorithms, sizes of keys and initialization vectors.
    for file in [&file, &legacy, &plain] {
        for length in 0..file.len() {
            Pkcs12::read(&file[..length], Some(PASSPHRASE), &mut Budget::default()).expect_err("a part");
        }
        for index in 0..file.len().min(400) {
            for value in [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = file.clone();
                changed[index] = value;
                if let Ok(read) = Pkcs12::read(&changed, Some(PASSPHRASE), &mut Budget::default()) {
                    let _ = (read.key(), read.certificates());
                }
            }
        }
    }
    let body: String = encrypted.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).expect("base64");
    for index in 0..der.len().min(120) {
        for value in [0, 1, 7, 0x30, 0x7f, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[index] = value;
            let pem = format!(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{}\n-----END ENCRYPTED PRIVATE KEY-----\n",
                STANDARD.encode(&changed)
            );
            let _ = decrypted(&pem, PASSPHRASE);
        }
    }
    // Nesting, and lengths that the file does not have.
    let deep: Vec<u8> = std::iter::repeat_n([0x30, 0x82, 0xff, 0xff], 16_000).flatten().collect();
    let huge = [&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff][..], &[0; 64]].concat();
    for file in [deep, huge, vec![0x30, 0x82], vec![0x30; 200], vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]] {
        assert!(Pkcs12::read(&file, Some(PASSPHRASE), &mut Budget::default()).is_err());
    }
    let large = [&[0x30, 0x83, 0x02, 0x00, 0x00][..], &vec![0; 0x2_0000]].concat();
    assert_eq!(Pkcs12::read(&large, None, &mut Budget::default()).err(), Some(KeyFileError::TooLarge));
    let long = "x".repeat(2000);
    assert_eq!(Pkcs12::read(&file, Some(&long), &mut Budget::default()).err(), Some(KeyFileError::PassphraseTooLong));
    let many = keys::pkcs12("", &authority.pem.repeat(33), PASSPHRASE, &["-nokeys"]);
    assert_eq!(read(&many, PASSPHRASE).err(), Some(KeyFileError::TooManyCertificates));
}

/// What users read; the whole way from a manifest.
#[test]
fn each_unusable_file_is_reported_with_its_key_and_what_to_change() {
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let client = CertificateAuthority::new().client("it");
    let file = keys::pkcs12(&client.key, &client.pem, PASSPHRASE, &[]);
    let encrypted = keys::encrypted(&client.key, PASSPHRASE, &[]);
    let sec1 = keys::ec().pem;
    let old = openssl(&["ec", "-aes128", "-passout", &format!("pass:{PASSPHRASE}")], &sec1);
    let scrypt = keys::encrypted(&client.key, PASSPHRASE, &["-scrypt"]);
    let der = openssl_bytes(&["x509", "-outform", "DER"], client.pem.as_bytes());
    let with = |passphrase: &str| json!({"private_key_passphrase": passphrase});
    let cases: [(&str, &[u8], Value, &str); 9] = [
        ("no passphrase", encrypted.as_bytes(), json!({}), "CredentialsMissing: the value under key private_key of Secret credentials is encrypted, and there is no passphrase for it: add it under key private_key_passphrase"),
        ("no passphrase of a file", &file, json!({}), "CredentialsMissing: the value under key private_key of Secret credentials is encrypted"),
        ("a wrong one", encrypted.as_bytes(), with("wrong"), "CredentialsInvalid: the value under key private_key of Secret credentials cannot be decrypted: the passphrase is wrong"),
        ("a line break", &file, with(&format!("{PASSPHRASE}\n")), "check the passphrase under key private_key_passphrase, which ends with a line break"),
        ("the old format", old.as_bytes(), with(PASSPHRASE), "convert it with `openssl pkcs8 -topk8"),
        ("scrypt", scrypt.as_bytes(), with(PASSPHRASE), "is encrypted with scrypt"),
        ("base64 twice", STANDARD.encode(&file).as_bytes(), with(PASSPHRASE), "is base64 of a binary file"),
        ("DER", &der, json!({}), "is not PEM, and not PKCS#12 either"),
        ("indefinite lengths", &[0x30, 0x80, 0x02, 0x01, 0x03], json!({}), "PKCS#12 with indefinite lengths"),
    ].map(|(case, value, more, expected): (&str, &[u8], Value, &str)| (case, value.to_vec().leak() as &[u8], more, expected));
    for (case, value, more, expected) in cases {
        let mut secret = credentials_of("credentials", &more);
        secret["stringData"]["client_id"] = json!("erp-client");
        secret["data"] = json!({"private_key": STANDARD.encode(value)});
        let changes = json!({"clientAuthentication": {"method": "private_key_jwt"}});
        let documents = [integration_of("orders", &endpoint.url(), &changes), secret];
        let shown = fetch_documents(&documents, &["--allow-http", "--allow-cidr=127.0.0.0/8"]);
        assert!(shown.contains(expected), "{case}: {shown}");
        assert!(!shown.contains(PASSPHRASE), "{case}: {shown}");
    }
    assert_eq!(endpoint.count(), 0);
}

/// The commands in the messages do what they promise.
#[test]
fn the_commands_for_the_conversion_work() {
    let dir = TempDir::new().expect("a directory");
    let client = CertificateAuthority::new().client("it");
    let run = |error: &KeyFileError, index: usize| {
        let message = error.to_string();
        let command = message.split('`').nth(index).expect("a command").to_owned();
        // The passphrases that OpenSSL would ask for.
        let command = command
            .replace("openssl pkcs8 ", "openssl pkcs8 -passin pass:old -passout pass:new ")
            .replace("pkcs12 -in", "pkcs12 -passin pass:old -in")
            .replace("pkcs12 -export", "pkcs12 -passout pass:new -export");
        let status = Command::new("sh").current_dir(dir.path()).args(["-c", &command]).output().expect("a shell");
        assert!(status.status.success(), "{command}: {}", String::from_utf8_lossy(&status.stderr));
    };
    let error = KeyFileError::TooManyIterations(50_000);
    let pem = keys::encrypted(&client.key, "old", &["-v2", "aes-256-cbc", "-iter", "50000"]);
    std::fs::write(dir.path().join("old.pem"), pem).expect("a file");
    run(&error, 1);
    let converted = std::fs::read_to_string(dir.path().join("new.pem")).expect("a file");
    assert_eq!(normalized(&decrypted(&converted, "new").expect("a key")), normalized(&client.key));
    let file = keys::pkcs12(&client.key, &client.pem, "old", &["-iter", "50000"]);
    std::fs::write(dir.path().join("old.p12"), file).expect("a file");
    run(&error, 3);
    let converted = std::fs::read(dir.path().join("new.p12")).expect("a file");
    assert_eq!(read(&converted, "new").expect("a file").1, certificates(&client.pem));
}
