//! A real Ory Hydra on loopback: bodies are forms, tokens are opaque, each client has one authentication method, and
//! each refresh token can be used once; reuse revokes its whole family.
//!
//! Its clients, with a token lifetime of 10 s (`basic`: one hour): `basic` and `post` (client credentials with `client_secret_basic` and
//! `client_secret_post`), `key` (`private_key_jwt`), `assertion` (the JWT bearer grant), and `rotating` and `public`
//! (refresh tokens, with `client_secret_post` and without authentication). The secret of a client is `<client>-secret`;
//! the only scope is `read`.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{self, Browser, parameter};
use crate::keys::{self, Key};
use crate::process::{Process, WorkDir, free_port};
use crate::tools;

/// Startup takes about 3 s; the first tests also share the machine with other servers that start.
const BOOT: Duration = Duration::from_secs(90);
/// Short enough for a test to see a renewal.
const LIFETIME: &str = "10s";
/// Where the authorization codes are sent. Nothing listens there.
const CALLBACK: &str = "http://127.0.0.1:1/callback";

/// The example of RFC 7636, appendix B.
const CODE_VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CODE_CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A running Hydra. When dropped, it is killed.
pub struct Hydra {
    issuer: String,
    admin: String,
    /// The RSA key of client `key`, and of the issuer of assertions that client `assertion` may use.
    pub rsa: Key,
    process: Process,
}

impl Hydra {
    /// The server of this test binary, started on first use.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Hydra> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let (install, work) = (tools::install("hydra"), WorkDir::new("hydra"));
        let (public, admin) = (free_port(), free_port());
        let (issuer, admin_url) = (format!("http://127.0.0.1:{public}"), format!("http://127.0.0.1:{admin}/admin"));
        let configuration = json!({
            "serve": {
                "public": {"host": "127.0.0.1", "port": public},
                "admin": {"host": "127.0.0.1", "port": admin},
            },
            // The login page and the consent page only exist as challenges in their URLs.
            "urls": {"self": {"issuer": issuer}, "login": CALLBACK, "consent": CALLBACK},
            "ttl": {"access_token": LIFETIME},
            "secrets": {"system": ["of-a-hydra-on-loopback-for-tests"]},
        });
        let file = work.path().join("hydra.json");
        fs::write(&file, configuration.to_string()).expect("a file");
        let mut command = Command::new(install.join("hydra"));
        command.args(["serve", "all", "--dev", "--config"]).arg(file).env("DSN", "memory").env("SQA_OPT_OUT", "true");
        let process = Process::start("hydra", work, command);
        let ready = format!("http://127.0.0.1:{admin}/health/ready");
        process.wait_until("it is ready", BOOT, || http::get(&ready).0 == 200);
        let hydra = Self { issuer, admin: admin_url, rsa: keys::rsa(), process };
        hydra.register_clients();
        hydra
    }

    fn register_clients(&self) {
        let client = |id: &str, method: &str, grants: &[&str], more: &Value| {
            let mut client = json!({
                "client_id": id, "token_endpoint_auth_method": method, "grant_types": grants,
                "scope": "offline read", "response_types": ["code"], "redirect_uris": [CALLBACK],
            });
            if method.starts_with("client_secret") {
                client["client_secret"] = json!(format!("{id}-secret"));
            }
            client.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            self.create("clients", &client);
        };
        let (service, user) = (["client_credentials"], ["authorization_code", "refresh_token"]);
        // Its tokens do not expire during a test.
        client(
            "basic",
            "client_secret_basic",
            &service,
            &json!({"client_credentials_grant_access_token_lifespan": "1h"}),
        );
        client("post", "client_secret_post", &service, &json!({}));
        client("key", "private_key_jwt", &service, &json!({"jwks": {"keys": [self.rsa.jwk]}}));
        let assertion = ["urn:ietf:params:oauth:grant-type:jwt-bearer"];
        client("assertion", "client_secret_post", &assertion, &json!({}));
        client("rotating", "client_secret_post", &user, &json!({}));
        client("public", "none", &user, &json!({}));
        self.create(
            "trust/grants/jwt-bearer/issuers",
            &json!({
                "issuer": "https://issuer.example.com", "subject": "ada", "scope": ["read"], "jwk": self.rsa.jwk,
                "expires_at": "2100-01-01T00:00:00Z",
            }),
        );
    }

    fn create(&self, path: &str, object: &Value) {
        let (status, body) = http::post_json(&format!("{}/{path}", self.admin), object);
        assert_eq!(status, 201, "{body}");
    }

    /// The issuer; its metadata contains the endpoints.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The URL of the token endpoint.
    pub fn token_endpoint(&self) -> String {
        format!("{}/oauth2/token", self.issuer)
    }

    /// Whether a token is active, by introspection (RFC 7662).
    pub fn is_active(&self, token: &str) -> bool {
        let (status, body) = http::post_form(&format!("{}/oauth2/introspect", self.admin), &[("token", token)]);
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        response["active"].as_bool().unwrap_or_else(|| panic!("no introspection: {status} {body}"))
    }

    /// An unused refresh token of client `rotating` or `public`, of a separate family.
    pub fn first_refresh_token(&self, client: &str) -> String {
        let mut browser = Browser::default();
        let login = browser.get(&format!(
            "{}/oauth2/auth?client_id={client}&response_type=code&scope=offline+read&state=0123456789abcdef\
             &code_challenge={CODE_CHALLENGE}&code_challenge_method=S256&redirect_uri={}",
            self.issuer,
            CALLBACK.replace(':', "%3A").replace('/', "%2F")
        ));
        let consent = browser.get(&self.accept("login", &login, &json!({"subject": "ada"})));
        let granted = json!({"grant_scope": ["offline", "read"]});
        let callback = browser.get(&self.accept("consent", &consent, &granted));
        let (code, secret) = (parameter(&callback, "code"), format!("{client}-secret"));
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", CALLBACK),
            ("code_verifier", CODE_VERIFIER),
            ("client_id", client),
        ];
        if client != "public" {
            form.push(("client_secret", &secret));
        }
        let (status, body) = http::post_form(&self.token_endpoint(), &form);
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        let token = response["refresh_token"].as_str();
        token.unwrap_or_else(|| panic!("no refresh token: {status} {body}\n{}", self.process.log_tail())).to_owned()
    }

    /// Accepts the challenge in a URL, as the login page or the consent page would, and returns where to continue.
    fn accept(&self, kind: &str, page: &url::Url, decision: &Value) -> String {
        let challenge = parameter(page, &format!("{kind}_challenge"));
        let url = format!("{}/oauth2/auth/requests/{kind}/accept?{kind}_challenge={challenge}", self.admin);
        let (status, body) = http::put_json(&url, decision);
        let response: Value = serde_json::from_str(&body).unwrap_or_default();
        response["redirect_to"].as_str().unwrap_or_else(|| panic!("{kind}: {status} {body}")).to_owned()
    }
}
