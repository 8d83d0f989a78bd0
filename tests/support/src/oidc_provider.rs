//! A real oidc-provider on loopback, over TLS: a certified OpenID provider with the stricter client authentication
//! methods.
//!
//! Its clients, with a token lifetime of 60 s: `key` (private_key_jwt, with any of three keys), `certificate`
//! (tls_client_auth), `bound` (DPoP, with nonces), `certified`
//! (client_secret_basic, with tokens that are bound to a client certificate), `plain` (client_secret_basic), `post` (client_secret_post),
//! `jwt` (client_secret_jwt) and `rotating` (client_secret_basic, with refresh tokens that can be used once, and a token
//! lifetime of 10 s). The secret of each that has one is [`secret`].

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::keys::{self, Certificate, CertificateAuthority, Key};
use crate::process::{Process, WorkDir, free_port};
use crate::{http, tools};

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

    /// An unused refresh token of client `rotating`, of a separate family.
    pub fn first_refresh_token(&self) -> String {
        let (status, body) = http::get(&format!("{}/first-refresh-token?client=rotating", self.issuer));
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Whether a token of client `plain` is active, by introspection (RFC 7662).
    pub fn is_active(&self, token: &str) -> bool {
        let url = format!("{}/token/introspection", self.issuer);
        let (status, body) = http::post_form_as(&url, ("plain", &secret("plain")), &[("token", token)]);
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        response["active"].as_bool().unwrap_or_else(|| panic!("no introspection: {status} {body}"))
    }

    /// Its output.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// The secret of a client: HS256 requires 32 bytes.
pub fn secret(client: &str) -> String {
    format!("{client}-secret-of-more-than-32-bytes")
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
                "client_secret": secret("bound"), "dpop_bound_access_tokens": true,
            })
        ),
        client(
            "certified",
            "client_secret_basic",
            json!({"client_secret": secret("certified"), "tls_client_certificate_bound_access_tokens": true}),
        ),
        client("plain", "client_secret_basic", json!({"client_secret": secret("plain")})),
        client("post", "client_secret_post", json!({"client_secret": secret("post")})),
        client("jwt", "client_secret_jwt", json!({"client_secret": secret("jwt")})),
        client(
            "rotating",
            "client_secret_basic",
            json!({
                "client_secret": secret("rotating"), "grant_types": ["authorization_code", "refresh_token"],
                "redirect_uris": ["https://127.0.0.1/callback"], "response_types": ["code"],
            })
        ),
    ])
}
