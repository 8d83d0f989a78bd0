//! A real OpenStack Keystone on loopback: credentials are nested in the body, tokens are in a header.
//!
//! It has the user `admin` with the password `admin-password`, and for it the application credential `orders` with the
//! secret `orders-secret`; see `keystone/`.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::{Process, WorkDir, free_port};
use crate::{http, tools};

/// Startup takes about 4 s; the first tests also share the machine with other servers that start.
const BOOT: Duration = Duration::from_secs(90);

/// A running Keystone. When dropped, it is killed.
#[derive(Debug)]
pub struct Keystone {
    origin: String,
    _process: Process,
}

impl Keystone {
    /// The server of this test binary, whose tokens have a lifetime of an hour, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Keystone> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let install = tools::install("keystone");
        let work = WorkDir::new("keystone");
        let port = free_port();
        let mut command = Command::new(install.join("bin/python"));
        command
            .arg(tools::root().join("tests/support/keystone/server.py"))
            .arg(work.path())
            .arg(port.to_string())
            .current_dir(work.path())
            // The source tree is not modified.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("PYTHONPATH");
        let process = Process::start("keystone", work, command);
        let origin = format!("http://127.0.0.1:{port}");
        process.wait_until("it responds", BOOT, || http::get(&format!("{origin}/v3")).0 == 200);
        Self { origin, _process: process }
    }

    /// Its origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the server accepts a token.
    pub fn is_active(&self, token: &str) -> bool {
        http::get_with_header(&format!("{}/v3/auth/projects", self.origin), "X-Auth-Token", token).0 == 200
    }
}
