//! A real Django OAuth Toolkit on loopback: bodies are JSON, and each refresh token can be used once; using one again
//! revokes its whole family.
//!
//! Clients `service` (client credentials) and `rotating` (with refresh tokens), each with the secret `<client>-secret`, the
//! user `ada` with the password `ada-password`, and the scopes `customer`, `order`, `add.order` and `read`; see `django/`.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;

use super::process::{Process, WorkDir, free_port};
use super::{http, tools};

/// It takes about 2 s; the first tests of all also share the machine with other servers that start.
const BOOT: Duration = Duration::from_secs(90);
/// The life of the shared one's tokens: short enough that a test sees the next one.
const LIFE_SECONDS: u32 = 10;

/// A running Django OAuth Toolkit. Dropped: ended.
#[derive(Debug)]
pub struct Django {
    address: String,
    process: Process,
}

impl Django {
    /// The one of this test binary, whose access tokens live 10 s, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Django> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(LIFE_SECONDS))
    }

    /// One of its own, whose access tokens live as long as is said.
    pub fn start(life_seconds: u32) -> Self {
        let install = tools::install("django");
        let work = WorkDir::new("django");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(install.join("bin/python"));
        command
            .arg("bootstrap.py")
            .args(["--bind", &address, "--workers", "2", "--threads", "4", "--no-control-socket"])
            .args(["--access-logfile", "-"])
            .current_dir(tools::root().join("tests/common/django"))
            .env("DJANGO_SETTINGS_MODULE", "settings")
            .env("DATABASE", work.path().join("database"))
            .env("ACCESS_TOKEN_EXPIRE_SECONDS", life_seconds.to_string())
            // The source tree stays as it is.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("GUNICORN_CMD_ARGS")
            .env_remove("PYTHONPATH");
        let process = Process::start("django", work, command);
        let address = format!("http://{address}");
        process.wait_until("it answers", BOOT, || http::get(&format!("{address}/ready")).0 == 200);
        Self { address, process }
    }

    pub fn token_endpoint(&self) -> String {
        format!("{}/o/token/", self.address)
    }

    /// A refresh token of client `rotating` that was never used, of a family of its own.
    pub fn first_refresh_token(&self) -> String {
        let request = json!({
            "grant_type": "password",
            "client_id": "rotating",
            "client_secret": "rotating-secret",
            "username": "ada",
            "password": "ada-password",
        });
        let (status, body) = http::post_json(&self.token_endpoint(), &request);
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let token = answer["refresh_token"].as_str();
        token.unwrap_or_else(|| panic!("no refresh token: {status} {body}\n{}", self.process.log_tail())).to_owned()
    }
}
