//! A real Keycloak on loopback: bodies are forms, and each refresh token can be used once; using one again revokes its
//! whole session.
//!
//! The realm is `keycloak-realm.json`: clients `service` (tokens live 60 s), `service-short` (10 s) and `rotating` (10 s,
//! with refresh tokens), each with the secret `<client>-secret`, and the user `ada` with the password `ada-password`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::process::{Process, WorkDir, free_port};
use super::{http, tools};

/// It takes about 15 s; the first tests of all also share the machine with other servers that start.
const BOOT: Duration = Duration::from_mins(3);
/// For few requests and short: what starts fast is better than what gets fast.
const JAVA_OPTS: &str = "-Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError \
                         -Dfile.encoding=UTF-8 -Djava.security.egd=file:/dev/urandom";

/// A running Keycloak. Dropped: ended.
#[derive(Debug)]
pub struct Keycloak {
    realm: String,
    process: Process,
}

impl Keycloak {
    /// The Keycloak of this test binary, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Keycloak> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of its own. Its database is in memory.
    pub fn start() -> Self {
        let install = tools::install("keycloak");
        let work = WorkDir::new("keycloak");
        let home = work.path().join("home");
        make_home(&home, &install).unwrap_or_else(|error| panic!("{} cannot be made: {error}", home.display()));
        let port = free_port();
        let mut command = Command::new(install.join("bin/kc.sh"));
        command
            .args(["start", "--optimized", "--import-realm", "--cache=local", "--hostname-strict=false"])
            .args(["--http-enabled=true", "--http-host=127.0.0.1", &format!("--http-port={port}")])
            .arg(format!("-Dkc.home.dir={}", home.display()))
            .env("JAVA_OPTS", JAVA_OPTS)
            .env_remove("JAVA_OPTS_APPEND");
        let process = Process::start("keycloak", work, command);
        let realm = format!("http://127.0.0.1:{port}/realms/oauth-operator");
        process.wait_until("the realm is there", BOOT, || http::get(&realm).0 == 200);
        Self { realm, process }
    }

    pub fn token_endpoint(&self) -> String {
        format!("{}/protocol/openid-connect/token", self.realm)
    }

    /// A refresh token of client `rotating` that was never used, from a session of its own.
    pub fn first_refresh_token(&self) -> String {
        let form = [
            ("grant_type", "password"),
            ("client_id", "rotating"),
            ("client_secret", "rotating-secret"),
            ("username", "ada"),
            ("password", "ada-password"),
        ];
        let (status, body) = http::post_form(&self.token_endpoint(), &form);
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let token = answer["refresh_token"].as_str();
        token.unwrap_or_else(|| panic!("no refresh token: {status} {body}\n{}", self.process.log_tail())).to_owned()
    }
}

/// What is installed stays as it is, so that several can run at once: the home of each links to it, and has its own data.
fn make_home(home: &Path, install: &Path) -> std::io::Result<()> {
    let import = home.join("data/import");
    fs::create_dir_all(&import)?;
    for part in ["conf", "lib", "providers"] {
        symlink(install.join(part), home.join(part))?;
    }
    fs::copy(tools::root().join("tests/common/keycloak-realm.json"), import.join("oauth-operator-realm.json"))?;
    Ok(())
}
