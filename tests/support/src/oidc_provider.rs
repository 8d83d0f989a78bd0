//! A real oidc-provider on loopback, over TLS: a certified OpenID provider with the stricter client authentication
//! methods.
//!
//! Its clients, with a token lifetime of 60 s: `key` (private_key_jwt, with any of three keys), `certificate`
//! (tls_client_auth), `bound` (DPoP, with nonces) and `plain` (client_secret_basic), the last two with the secret
//! `<client>-secret`.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::keys::{self, Certificate, CertificateAuthority, Key};
use crate::process::{Process, WorkDir, free_port};
use crate::tools;

/// Startup takes about a second; the first tests also share the machine with other servers that start.
const BOOT: Duration = Duration::from_secs(60);
const LIFETIME_SECONDS: u64 = 60;

/// A running oidc-provider. When dropped, it is killed.
pub struct OidcProvider {
    issuer: String,
    /// The CA of its certificate and of the client certificates that it accepts.
    pub ca: CertificateAuthority,
    /// One of the keys of client `key`.
    pub rsa: Key,
    /// One of the keys of client `key`.
    pub ec: Key,
    /// One of the keys of client `key`.
    pub ed25519: Key,
    process: Process,
}

impl OidcProvider {
    /// The server of this test binary, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<OidcProvider> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let (ca, rsa, ec, ed25519) = (CertificateAuthority::new(), keys::rsa(), keys::ec(), keys::ed25519());
        let (install, work, port) = (tools::install("oidc-provider"), WorkDir::new("oidc-provider"), free_port());
        let file = |name: &str, text: &str| {
            let path = work.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let Certificate { pem, key } = ca.server();
        let mut command = Command::new("node");
        command
            .arg(tools::root().join("tests/support/oidc-provider/server.mjs"))
            .env("PACKAGES", install.join("package.json"))
            .env("PORT", port.to_string())
            .env("LIFETIME", LIFETIME_SECONDS.to_string())
            .env("CERTIFICATE", file("server.pem", &pem))
            .env("KEY", file("server.key", &key))
            .env("CA", file("ca.pem", &ca.pem))
            .env("CLIENTS", clients(&[&rsa, &ec, &ed25519]).to_string());
        let process = Process::start("oidc-provider", work, command);
        process.wait_until("it listens", BOOT, || process.log().contains("listening"));
        Self { issuer: format!("https://127.0.0.1:{port}"), ca, rsa, ec, ed25519, process }
    }

    /// The issuer; its metadata contains the endpoints.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its output.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn clients(keys: &[&Key]) -> Value {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    let client = |id: &str, method: &str, more: Value| {
        let mut client = json!({
            "client_id": id,
            "token_endpoint_auth_method": method,
            "grant_types": ["client_credentials"],
            "redirect_uris": [],
            "response_types": [],
        });
        client.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        client
    };
    json!([
        client("key", "private_key_jwt", json!({"jwks": {"keys": keys}})),
        client(
            "certificate",
            "tls_client_auth",
            json!({
                "tls_client_auth_subject_dn": "CN=provider-client", "tls_client_certificate_bound_access_tokens": true,
            })
        ),
        client(
            "bound",
            "client_secret_basic",
            json!({
                "client_secret": "bound-secret", "dpop_bound_access_tokens": true,
            })
        ),
        client("plain", "client_secret_basic", json!({"client_secret": "plain-secret"})),
    ])
}
