//! A real Django OAuth Toolkit on loopback: bodies are JSON, and each refresh token can be used once; reuse revokes its
//! whole family.
//!
//! It has the clients `service` (client credentials) and `rotating` (with refresh tokens), each with the secret
//! `<client>-secret`, the user `ada` with the password `ada-password`, and the scopes `customer`, `order`, `add.order`
//! and `read`; see `django/`.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;

use crate::process::{Process, WorkDir, free_port};
use crate::{http, tools};

/// Startup takes about 2 s; the first tests also share the machine with other servers that start.
const BOOT: Duration = Duration::from_secs(90);
/// The lifetime of the tokens of the shared server: short enough for a test to see a renewal.
const LIFETIME_SECONDS: u32 = 10;

/// A running Django OAuth Toolkit. When dropped, it is killed.
#[derive(Debug)]
pub struct Django {
    address: String,
    process: Process,
}

impl Django {
    /// The server of this test binary, whose access tokens have a lifetime of 10 s, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Django> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(LIFETIME_SECONDS))
    }

    /// A separate server with this lifetime of access tokens.
    pub fn start(lifetime_seconds: u32) -> Self {
        let install = tools::install("django");
        let work = WorkDir::new("django");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(install.join("bin/python"));
        command
            .arg("bootstrap.py")
            .args(["--bind", &address, "--workers", "2", "--threads", "4", "--no-control-socket"])
            .args(["--access-logfile", "-"])
            .current_dir(tools::root().join("tests/support/django"))
            .env("DJANGO_SETTINGS_MODULE", "settings")
            .env("DATABASE", work.path().join("database"))
            .env("ACCESS_TOKEN_EXPIRE_SECONDS", lifetime_seconds.to_string())
            // The source tree is not modified.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("GUNICORN_CMD_ARGS")
            .env_remove("PYTHONPATH");
        let process = Process::start("django", work, command);
        let address = format!("http://{address}");
        process.wait_until("it responds", BOOT, || http::get(&format!("{address}/ready")).0 == 200);
        Self { address, process }
    }

    /// The URL of the token endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("{}/o/token/", self.address)
    }

    /// The URL of the revocation endpoint.
    pub fn revocation_endpoint(&self) -> String {
        format!("{}/o/revoke_token/", self.address)
    }

    /// Whether the server accepts an access token for a protected resource.
    pub fn is_active(&self, token: &str) -> bool {
        http::get_with_token(&format!("{}/protected", self.address), Some(token)).0 == 200
    }

    /// An unused refresh token of client `rotating`, of a separate family.
    pub fn first_refresh_token(&self) -> String {
        let request = json!({
            "grant_type": "password",
            "client_id": "rotating",
            "client_secret": "rotating-secret",
            "username": "ada",
            "password": "ada-password",
        });
        let (status, body) = http::post_json(&self.token_endpoint(), &request);
        let response: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let token = response["refresh_token"].as_str();
        token.unwrap_or_else(|| panic!("no refresh token: {status} {body}\n{}", self.process.log_tail())).to_owned()
    }
}
