//! A real Keycloak on loopback: bodies are forms, and each refresh token can be used once; reuse revokes its whole
//! session.
//!
//! The realm is `keycloak-realm.json`: clients `service` (lifetime 60 s), `service-30` (30 s), `service-short` (10 s)
//! `rotating` (10 s, with refresh tokens), each with the secret `<client>-secret`, and the user `ada` with the password `ada-password`; a
//! client for each other authentication method: `secret-jwt`, `key-rs256`, `key-ps256`, `key-es256`, `key-eddsa`,
//! `key-any` (all of these keys, a P-384 key and a P-521 key) and `secret-jwt-any` (any algorithm), `certificate` and `service-account`; and `exchange`, which may exchange tokens.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::keys::{self, Certificate, CertificateAuthority, Key};
use crate::process::{Process, WorkDir, free_port};
use crate::{http, tools};

/// Startup takes about 15 s; the first tests also share the machine with other servers that start.
const BOOT: Duration = Duration::from_mins(3);
/// Few requests in a short time: a fast startup matters more than throughput.
const JAVA_OPTS: &str = "-Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError \
                         -Dfile.encoding=UTF-8 -Djava.security.egd=file:/dev/urandom";

/// A running Keycloak. When dropped, it is killed.
pub struct Keycloak {
    realm: String,
    secure_port: u16,
    /// The CA of its certificate and of the client certificates that it accepts.
    pub ca: CertificateAuthority,
    /// The RSA key of clients `key-rs256` and `key-ps256`.
    pub rsa: Key,
    /// The P-256 key of client `key-es256`.
    pub ec: Key,
    /// A P-384 key of client `key-any`.
    pub ec384: Key,
    /// A P-521 key of client `key-any`.
    pub ec521: Key,
    /// The Ed25519 key of client `key-eddsa`.
    pub ed25519: Key,
    process: Process,
}

/// The API server whose ServiceAccounts Keycloak accepts as clients.
pub struct Cluster<'a> {
    /// The issuer of the tokens of ServiceAccounts.
    pub issuer: &'a str,
    /// The file with the certificate of the API server.
    pub certificate: &'a Path,
    /// The namespace of the ServiceAccount `workload`.
    pub namespace: &'a str,
}

impl Keycloak {
    /// The Keycloak of this test binary, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Keycloak> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(None))
    }

    /// A separate Keycloak with an in-memory database.
    pub fn start(cluster: Option<&Cluster<'_>>) -> Self {
        let (ca, rsa, ed25519) = (CertificateAuthority::new(), keys::rsa(), keys::ed25519());
        let (ec, ec384, ec521) = (keys::ec(), keys::ec384(), keys::ec521());
        let install = tools::install("keycloak");
        let work = WorkDir::new("keycloak");
        let home = work.path().join("home");
        let realm = realm(&[&rsa, &ec, &ec384, &ec521, &ed25519], cluster);
        make_home(&home, &install, &realm)
            .unwrap_or_else(|error| panic!("{} cannot be created: {error}", home.display()));
        let (port, secure_port) = (free_port(), free_port());
        let file = |name: &str, text: &str| {
            let path = work.path().join(name);
            fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let Certificate { pem, key } = ca.server();
        let (certificate, key) = (file("server.pem", &pem), file("server.key", &key));
        let mut trusted = vec![file("ca.pem", &ca.pem)];
        trusted.extend(cluster.map(|cluster| cluster.certificate.display().to_string()));
        let mut command = Command::new(install.join("bin/kc.sh"));
        command
            .args(["start", "--optimized", "--import-realm", "--cache=local", "--hostname-strict=false"])
            .args(["--http-enabled=true", "--http-host=127.0.0.1", &format!("--http-port={port}")])
            .args([&format!("--https-port={secure_port}"), &format!("--https-certificate-file={certificate}")])
            .arg(format!("--https-certificate-key-file={key}"))
            .arg(format!("--truststore-paths={}", trusted.join(",")))
            .arg(format!("-Dkc.home.dir={}", home.display()))
            .env("JAVA_OPTS", JAVA_OPTS)
            // Keycloak compares the URL of the keys with that of the cluster in which it runs, and fails outside a
            // cluster.
            .envs([("KUBERNETES_SERVICE_HOST", "kubernetes.invalid"), ("KUBERNETES_SERVICE_PORT_HTTPS", "443")])
            .env_remove("JAVA_OPTS_APPEND");
        let process = Process::start("keycloak", work, command);
        let realm = format!("http://127.0.0.1:{port}/realms/example");
        process.wait_until("the realm exists", BOOT, || http::get(&realm).0 == 200);
        Self { realm, secure_port, ca, rsa, ec, ec384, ec521, ed25519, process }
    }

    /// The issuer, over HTTP; its metadata contains the endpoints.
    pub fn issuer(&self) -> &str {
        &self.realm
    }

    /// The issuer, over TLS.
    pub fn secure_issuer(&self) -> String {
        format!("https://{}/realms/example", self.secure_address())
    }

    /// Its address for TLS. The certificate is also valid for [`keys::LOGIN_HOST`], and the issuer follows the host of a
    /// request.
    pub fn secure_address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.secure_port).into()
    }

    /// The last lines of its output, for a panic message.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Whether a token is active, by introspection (RFC 7662).
    pub fn is_active(&self, token: &str) -> bool {
        let form = [("client_id", "service"), ("client_secret", "service-secret"), ("token", token)];
        let (status, body) = http::post_form(&format!("{}/introspect", self.token_endpoint()), &form);
        let response: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        response["active"].as_bool().unwrap_or_else(|| panic!("no introspection: {status} {body}"))
    }

    /// The URL of the token endpoint, over HTTP.
    pub fn token_endpoint(&self) -> String {
        format!("{}/protocol/openid-connect/token", self.realm)
    }

    /// An unused refresh token of client `rotating`, from a separate session.
    pub fn first_refresh_token(&self) -> String {
        let form = [
            ("grant_type", "password"),
            ("client_id", "rotating"),
            ("client_secret", "rotating-secret"),
            ("username", "ada"),
            ("password", "ada-password"),
        ];
        let (status, body) = http::post_form(&self.token_endpoint(), &form);
        let response: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let token = response["refresh_token"].as_str();
        token.unwrap_or_else(|| panic!("no refresh token: {status} {body}\n{}", self.process.log_tail())).to_owned()
    }
}

/// The installation is not modified, so that several servers can run at once: each home directory links to it and has
/// its own data.
fn make_home(home: &Path, install: &Path, realm: &str) -> std::io::Result<()> {
    let import = home.join("data/import");
    fs::create_dir_all(&import)?;
    for part in ["conf", "lib", "providers"] {
        symlink(install.join(part), home.join(part))?;
    }
    fs::write(import.join("example-realm.json"), realm)
}

/// The realm, with the keys of its clients and the configured cluster.
fn realm(keys: &[&Key], cluster: Option<&Cluster<'_>>) -> String {
    let file = tools::root().join("tests/support/keycloak-realm.json");
    let mut realm: Value = serde_json::from_str(&fs::read_to_string(file).expect("the realm")).expect("JSON");
    let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    let jwks = json!({"keys": keys}).to_string();
    for client in realm["clients"].as_array_mut().expect("clients") {
        if client["attributes"]["jwks.string"].is_string() {
            client["attributes"]["jwks.string"] = json!(jwks);
        }
    }
    match cluster {
        Some(Cluster { issuer, namespace, certificate: _ }) => {
            return realm.to_string().replace("NAMESPACE", namespace).replace("ISSUER", issuer);
        }
        None => {
            realm["identityProviders"] = json!([]);
            let clients = realm["clients"].as_array_mut().expect("clients");
            clients.retain(|client| client["clientAuthenticatorType"] != "federated-jwt");
        }
    }
    realm.to_string()
}
