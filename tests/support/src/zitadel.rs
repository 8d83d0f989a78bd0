//! The server of Zitadel's OpenID Connect library on loopback: form bodies, encrypted tokens, token exchange, and
//! refresh tokens that can be used once.
//!
//! Its clients: `sid1` with the secret `verysecret` (client credentials), and `web`
//! with the secret [`SECRET`] (refresh tokens and token exchange). Tokens have a lifetime of 5 minutes.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::http::{self, Browser, parameter};
use crate::process::{Process, WorkDir, free_port};
use crate::tools;

/// Startup takes less than a second; the first tests also share the machine with other servers that start.
const BOOT: Duration = Duration::from_secs(60);
/// Where the authorization codes are sent. Nothing listens there.
const CALLBACK: &str = "http://localhost:1/callback";

/// The secret of client `web`.
pub const SECRET: &str = "web-client-secret";

/// A running server. When dropped, it is killed.
pub struct Zitadel {
    issuer: String,
    process: Process,
}

/// The tokens of a user.
pub struct Tokens {
    /// An access token.
    pub access: String,
    /// An unused refresh token.
    pub refresh: String,
}

impl Zitadel {
    /// The server of this test binary, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Zitadel> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let (install, port) = (tools::install("zitadel-oidc"), free_port());
        let mut command = Command::new(install.join("zitadel-oidc"));
        command.args([&port.to_string(), CALLBACK]);
        let process = Process::start("zitadel-oidc", WorkDir::new("zitadel-oidc"), command);
        let issuer = format!("http://localhost:{port}/");
        process.wait_until("it listens", BOOT, || http::get(&format!("{issuer}keys")).0 == 200);
        Self { issuer, process }
    }

    /// The issuer, which ends with a slash; its metadata contains the endpoints.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The URL of the token endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("{}oauth/token", self.issuer)
    }

    /// Whether a token of client `web` is active, by introspection (RFC 7662).
    pub fn is_active(&self, token: &str) -> bool {
        let url = format!("{}oauth/introspect", self.issuer);
        let (status, body) = http::post_form_as(&url, ("web", SECRET), &[("token", token)]);
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        response["active"].as_bool().unwrap_or_else(|| panic!("no introspection: {status} {body}"))
    }

    /// The tokens of a new session of a user at client `web`.
    pub fn log_in(&self) -> Tokens {
        let mut browser = Browser::default();
        let login = browser.get(&format!(
            "{}auth?client_id=web&response_type=code&scope=openid+offline_access&state=0123456789abcdef&redirect_uri={}",
            self.issuer,
            CALLBACK.replace(':', "%3A").replace('/', "%2F")
        ));
        let id = parameter(&login, "authRequestID");
        let user = [("username", "test-user@localhost"), ("password", "verysecure"), ("id", id.as_str())];
        let accepted = browser.post(&format!("{}login/username", self.issuer), &user);
        let code = parameter(&browser.get(accepted.as_str()), "code");
        let form = [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", CALLBACK)];
        let (status, body) = http::post_form_as(&self.token_endpoint(), ("web", SECRET), &form);
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        let token = |name: &str| {
            let token = response[name].as_str();
            token.unwrap_or_else(|| panic!("no {name}: {status} {body}\n{}", self.process.log_tail())).to_owned()
        };
        Tokens { access: token("access_token"), refresh: token("refresh_token") }
    }
}
