//! Guarantee: there is a message for each mistake, as users read it; docs/reasons lists them. `fetch` runs
//! the same code as the operator, against real sockets; messages that need a cluster come from the decisions, and
//! from the end-to-end tests.

use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oauth_operator::api::reason::{FailureClass, Reason};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request, canary};
use test_support::keys::{self, encrypted, openssl};
use test_support::messages::Message;
use test_support::process::{Process, WorkDir, free_port};

use crate::decision::cluster_messages;
use crate::fetch::{credentials_of, fetch_documents, integration_of};

/// One mistake, and what users read.
pub struct Entry {
    pub mistake: String,
    pub reason: Reason,
    pub message: String,
}

/// Everything that one `fetch` needs.
struct Case {
    mistake: &'static str,
    /// Fields of the spec, in addition to a client credentials request as a form.
    changes: Value,
    /// Values of the credentials Secret, in addition to a client ID and secret.
    values: Value,
    endpoint: Endpoint,
    /// Other manifests.
    others: Vec<Value>,
    /// The scheme and host of the token endpoint, if it is not the endpoint itself; [`BY_ISSUER`] or [`BY_RESOURCE`].
    url: Option<String>,
}

/// The endpoint is the issuer.
const BY_ISSUER: &str = "issuer";
/// The endpoint is the protected resource.
const BY_RESOURCE: &str = "protectedResource";

fn case(mistake: &'static str, changes: Value, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Case {
    let endpoint = Endpoint::start(reply);
    Case { mistake, changes, values: json!({}), endpoint, others: vec![], url: None }
}

fn token(body: Value) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |_| Reply::json(200, &body)
}

/// The metadata of a protected resource.
fn resource(name: &'static str, servers: Value) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| {
        let name = name.replace("HOST", &request.headers["host"]);
        Reply::json(200, &json!({"resource": name, "authorization_servers": servers}))
    }
}

fn error(status: u16, code: &'static str, text: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |_| Reply::rejected(status, code, text)
}

fn good(_: &Request) -> Reply {
    Reply::json(200, &json!({"access_token": format!("token-{}", canary()), "expires_in": 3600}))
}

/// A server certificate, self-signed or signed by a CA that nobody trusts.
fn tls(name: &str, is_ca: bool, last_year: i32, signed_by_ca: bool) -> (Arc<ServerConfig>, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, "login.example.com");
    params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = if signed_by_ca {
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.distinguished_name = rcgen::DistinguishedName::new();
        ca.distinguished_name.push(DnType::CommonName, "Example Company CA");
        let ca_key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).expect("a certificate")
    } else {
        params.self_signed(&key).expect("a certificate")
    };
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let config = builder.with_single_cert(vec![certificate.der().clone()], private).expect("a configuration");
    (Arc::new(config), certificate.pem())
}

/// A trusted server that requires a certificate of the client.
fn requiring_certificate() -> (Arc<ServerConfig>, String) {
    let provider = Arc::new(ring::default_provider());
    let (_, pem) = tls("127.0.0.1", true, 2090, false);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    params.not_after = date_time_ymd(2090, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_client_cert_verifier(verifier.expect("a verifier"));
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = builder.with_single_cert(vec![certificate.der().clone()], private).expect("a configuration");
    (Arc::new(config), certificate.pem())
}

/// A server that offers only a cipher suite without ephemeral keys, which no server of rustls does.
fn outdated_server() -> (Process, u16) {
    let (work, port) = (WorkDir::new("openssl"), free_port());
    let (certificate, key) = (work.path().join("server.pem"), work.path().join("server.key"));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let make = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
        "-out",
        &certificate,
        "-keyout",
        &key,
    ];
    openssl(&make, "");
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-tls1_2", "-cipher", "AES128-SHA", "-accept", &format!("127.0.0.1:{port}")]);
    command.args(["-cert", &certificate, "-key", &key]);
    let process = Process::start("openssl", work, command);
    process.wait_until("it listens", Duration::from_secs(20), || process.log().contains("ACCEPT"));
    (process, port)
}

fn secure_url(endpoint: &Endpoint) -> String {
    format!("https://{}/token", endpoint.address())
}

fn over_tls(mistake: &'static str, name: &str, is_ca: bool, last_year: i32, signed_by_ca: bool) -> Case {
    let (config, _) = tls(name, is_ca, last_year, signed_by_ca);
    let endpoint = Endpoint::start_tls(config, good);
    let url = Some(secure_url(&endpoint));
    Case { mistake, changes: json!({}), values: json!({}), endpoint, others: vec![], url }
}

fn cases(outdated_port: u16) -> Vec<Case> {
    let json_format = json!({"request": {"format": "json"}});
    let password = json!({"grantType": "password"});
    let private_key_jwt = json!({"clientAuthentication": {"method": "private_key_jwt"}});
    let user = json!({"username": "erp", "password": "wrong-password-of-erp"});
    let mut cases = vec![
        case("the Secret has no client secret", json!({"credentials": {"secretName": "empty"}}), good),
        case("the Secret does not exist", json!({"credentials": {"secretName": "other"}}), good),
        case("a JSONata expression that does not parse", json!({"response": {"accessToken": "data.["}}), good),
        case("an endpoint without TLS", json!({}), good),
        case(
            "a label of the target that the administrator does not allow",
            json!({"target": {"labels": {"team": "erp"}}}),
            good,
        ),
        case("a secret in the URL", json!({"request": {"method": "GET"}}), good),
        case(
            "an expression for the body that cuts a secret",
            json!({"request": {"body": "{\"pin\": $substring($members.client_secret, 0, 20)}"}}),
            good,
        ),
        case("an expression for the body without a result", json!({"request": {"body": "$members.credentials"}}), good),
        case("a client secret that is wrong", json!({}), error(401, "invalid_client", "Client authentication failed.")),
        case("a client secret in quotes", json!({}), error(401, "invalid_client", "Client authentication failed.")),
        case(
            "a client secret with special characters, and the server does not decode it",
            json!({"clientAuthentication": {"method": "client_secret_basic"}}),
            error(401, "invalid_client", ""),
        ),
        case("a client secret that is base64 twice", json!({}), error(401, "invalid_client", "")),
        case(
            "a client secret, and the server expects a signed assertion",
            json!({}),
            error(400, "invalid_client", "Parameter client_assertion_type is missing"),
        ),
        case(
            "the server accepts another client authentication method only",
            json!({}),
            error(
                401,
                "invalid_client",
                "The client supports \"client_secret_basic\", but \"client_secret_post\" was used.",
            ),
        ),
        case(
            "JSON, and the server accepts forms only",
            json_format.clone(),
            error(400, "invalid_request", "Missing form parameter: grant_type"),
        ),
        case("JSON, and the server responds with a bare 401", json_format, |_| Reply::text(401, "")),
        case("a form, and the server accepts JSON only", json!({}), |_| Reply::text(415, "")),
        case(
            "a scope that the server does not know",
            json!({"scope": "customer admin"}),
            error(400, "invalid_scope", "Invalid scopes: customer admin"),
        ),
        case(
            "no audience",
            json!({}),
            error(403, "access_denied", "Client is not authorized to access \"undefined\"."),
        ),
        case(
            "the client may not use the grant",
            json!({}),
            error(400, "unauthorized_client", "Client not enabled to retrieve service account"),
        ),
        case("a wrong password", password.clone(), error(401, "invalid_grant", "Invalid user credentials")),
        case(
            "a wrong password, and the server returns 500",
            json!({"response": {"success": "$not($exists(Code))"}}),
            |_| Reply::json(500, &json!({"Code": "AccountPasswordInvalid", "Message": "Password not valid"})),
        ),
        case("an error with status 200", json!({}), token(json!({"ok": false, "error": "invalid_auth"}))),
        case(
            "a token under another name",
            json!({}),
            token(json!({"data": {"jwt": format!("token-{}", canary())}, "ttl": 60})),
        ),
        case("a token that is a number", json!({}), token(json!({"access_token": 12345}))),
        case("a token with a line break", json!({}), token(json!({"access_token": format!("token-{}\n", canary())}))),
        case("an unknown JSONata function", json!({"response": {"accessToken": "$tokenOf(data)"}}), good),
        case("a login page instead of the token endpoint", json!({}), |_| {
            Reply::text(200, "<!DOCTYPE html><html><head><title>Sign in</title></head></html>")
                .with_header("Content-Type", "text/html")
        }),
        case("an empty response", json!({}), |_| Reply::text(200, "")),
        case("a redirect", json!({}), |_| {
            Reply::text(301, "").with_header("Location", "https://login.example.com/oauth2/token?x=1")
        }),
        case("a wrong path", json!({}), |_| Reply::json(404, &json!({"message": "no Route matched"}))),
        case("a firewall in front of the endpoint", json!({}), |_| {
            Reply::text(403, "<html><head><title>Access denied</title></head></html>")
        }),
        case("a rate limit", json!({}), |_| {
            Reply::rejected(429, "slow_down", "rate limit exceeded").with_header("Retry-After", "120")
        }),
        case("an error at the provider", json!({}), |_| Reply::text(503, "")),
        case("a server that does not respond", json!({"request": {"format": "form", "timeout": "1s"}}), |_| {
            Reply::NoResponse
        }),
        case("a server that closes the connection", json!({}), |_| Reply::Close),
        over_tls("a self-signed certificate", "127.0.0.1", false, 2090, false),
        over_tls("a self-signed certificate that is a CA", "127.0.0.1", true, 2090, false),
        over_tls("a certificate of an unknown CA", "127.0.0.1", false, 2090, true),
        case("https to a port without TLS", json!({}), good),
        case("a port on which nothing listens", json!({}), good),
        case("a host that does not exist", json!({}), good),
        case("a proxy that is not reachable", json!({"connection": {"proxy": "http://127.0.0.1:1"}}), good),
        case("an unusable private key", private_key_jwt.clone(), good),
        case("an encrypted private key without its passphrase", private_key_jwt.clone(), good),
        case("an encrypted private key with a wrong passphrase", private_key_jwt.clone(), good),
        case("an encrypted private key with an expensive key derivation", private_key_jwt, good),
        case(
            "metadata of another issuer",
            json!({}),
            token(json!({"issuer": "https://login.example.com/realms/other"})),
        ),
        case("a protected resource without metadata", json!({}), |_| Reply::text(404, "")),
        case("metadata of another protected resource", json!({}), resource("http://HOST/", json!([]))),
        case("a protected resource that names no authorization server", json!({}), resource("http://HOST", json!([]))),
        case(
            "a protected resource with several authorization servers",
            json!({}),
            resource("http://HOST", json!(["https://one.example.com", "https://two.example.com"])),
        ),
        case(
            "an issuer that the protected resource does not name",
            json!({"issuer": "https://other.example.com"}),
            resource("http://HOST", json!(["https://one.example.com"])),
        ),
        case(
            "a server that only the protected resource names, and credentials without annotation",
            json!({}),
            resource("http://HOST", json!(["https://one.example.com"])),
        ),
        case(
            "a FHIR server as the protected resource, and no scope",
            json!({"credentials": {"secretName": "pinned"}}),
            |request| match request.path.ends_with("smart-configuration") {
                true => Reply::json(200, &json!({"token_endpoint": "https://login.example.com/token"})),
                false => Reply::text(404, ""),
            },
        ),
        case(
            "a refresh token that was already used",
            json!({"grantType": "refresh_token"}),
            error(400, "invalid_grant", "Token is not active"),
        ),
    ];
    // An expired certificate, and one for another name, that are trusted otherwise.
    for (mistake, name, last_year) in
        [("an expired certificate", "127.0.0.1", 2020), ("a certificate for another name", "other.example.com", 2090)]
    {
        let (config, pem) = tls(name, true, last_year, false);
        let others =
            vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem}})];
        let changes = json!({"connection": {"caBundle": {"name": "ca"}}});
        let endpoint = Endpoint::start_tls(config, good);
        let url = Some(secure_url(&endpoint));
        cases.push(Case { mistake, changes, values: json!({}), endpoint, others, url });
    }
    let (config, pem) = requiring_certificate();
    let endpoint = Endpoint::start_tls(config, good);
    let others =
        vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem}})];
    let (url, changes) = (Some(secure_url(&endpoint)), json!({"connection": {"caBundle": {"name": "ca"}}}));
    let mistake = "a server that requires a client certificate";
    cases.push(Case { mistake, changes, values: json!({}), endpoint, others, url });
    let mut outdated = case("a server that offers only outdated cipher suites", json!({}), good);
    outdated.url = Some(format!("https://127.0.0.1:{outdated_port}/token"));
    cases.push(outdated);
    for case in &mut cases {
        case.url = match case.mistake {
            "https to a port without TLS" => Some(secure_url(&case.endpoint)),
            "a port on which nothing listens" => Some(format!("http://127.0.0.1:{}/token", free_port())),
            "metadata of another issuer" => Some(BY_ISSUER.to_owned()),
            mistake if mistake.contains("protected resource") => Some(BY_RESOURCE.to_owned()),
            "a host that does not exist" => Some("http://login.example.invalid/token".to_owned()),
            _ => case.url.take(),
        };
        if case.mistake == "a wrong password" {
            case.values = user.clone();
        }
        if case.mistake == "a refresh token that was already used" {
            case.values = json!({"refresh_token": "9b1d7f3e5a2c4860"});
        }
        if case.mistake == "a client secret with special characters, and the server does not decode it" {
            case.values = json!({"client_secret": "0f3a9c81+2e4/b7a6=c5d4"});
        }
        if case.mistake == "a client secret in quotes" {
            case.values = json!({"client_secret": "\"0f3a9c81d2e4b7a6c5d4\""});
        }
        if case.mistake == "a client secret that is base64 twice" {
            case.values = json!({"client_secret": STANDARD.encode("0f3a9c81d2e4b7a6c5d4")});
        }
        if case.mistake == "an unusable private key" {
            case.values = json!({"private_key": "not PEM"});
        }
        if let Some(kind) = case.mistake.strip_prefix("an encrypted private key ") {
            let options: &[&str] =
                if kind.ends_with("key derivation") { &["-v2", "aes-256-cbc", "-iter", "600000"] } else { &[] };
            let key = encrypted(&keys::ec().pem, "kanarie-passphrase", options);
            case.values = json!({"private_key": key});
            if !kind.starts_with("without") {
                case.values["private_key_passphrase"] = json!("kanarie-another-passphrase");
            }
        }
    }
    cases
}

/// Runs `fetch`, and returns the reason and the message.
fn read(case: Case) -> Entry {
    let mut changes = json!({"request": {"format": "form"}});
    changes.as_object_mut().expect("an object").extend(case.changes.as_object().expect("an object").clone());
    let mut values = json!({"client_id": "erp-client", "client_secret": "0f3a9c81d2e4b7a6c5d4"});
    values.as_object_mut().expect("an object").extend(case.values.as_object().expect("an object").clone());
    let url = case.url.clone().unwrap_or_else(|| case.endpoint.url());
    let mut integration = integration_of("orders", &url, &changes);
    let is_discovered = url == BY_ISSUER || url == BY_RESOURCE;
    if is_discovered {
        integration["spec"].as_object_mut().expect("an object").remove("tokenEndpoint");
        integration["spec"][&url] = json!(format!("http://{}", case.endpoint.address()));
    }
    let mut documents = vec![integration, credentials_of("credentials", &values)];
    documents.push(credentials_of("empty", &json!({"client_id": "erp-client"})));
    let mut pinned = credentials_of("pinned", &values);
    pinned["metadata"]["annotations"] = json!({"oauth.evolutionx.io/allowed-endpoints": "https://login.example.com"});
    documents.push(pinned);
    documents.extend(case.others);
    let flags: &[&str] = match case.mistake {
        "an endpoint without TLS" => &["--allow-cidr=127.0.0.0/8"],
        "a refresh token that was already used" => {
            &["--allow-http", "--allow-cidr=127.0.0.0/8", "--spend-refresh-token", "--write=next.yaml"]
        }
        _ => &["--allow-http", "--allow-cidr=127.0.0.0/8"],
    };
    let error = fetch_documents(&documents, flags);
    let line = error.lines().find(|line| line.starts_with("error: orders: "));
    let line = line.unwrap_or_else(|| panic!("{}: {error:?}", case.mistake));
    let (reason, message) = line["error: orders: ".len()..].split_once(": ").expect("a reason");
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let port = if is_discovered { case.endpoint.address().port().to_string() } else { port.to_owned() };
    let message = message
        .replace(&format!("127.0.0.1:{port}"), "login.example.com:443")
        .replace("127.0.0.1:1", "proxy.example.com:3128")
        .replace("127.0.0.1", "login.example.com");
    Entry { mistake: case.mistake.to_owned(), reason: Reason::parse(reason).expect("a reason"), message }
}

/// All messages, which take some seconds to collect.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(collect)
}

fn collect() -> Vec<Entry> {
    let (_outdated, outdated_port) = outdated_server();
    let mut entries: Vec<Entry> = cases(outdated_port).into_iter().map(read).collect();
    entries.extend(cluster_messages().into_iter().map(|(mistake, reason, message)| Entry {
        mistake: mistake.to_owned(),
        reason,
        message,
    }));
    let of_cluster = test_support::messages::recorded().into_iter().map(|Message { reason, mistake, message }| Entry {
        mistake,
        reason: Reason::parse(&reason).expect("a reason"),
        message,
    });
    entries.extend(of_cluster);
    entries
}

#[test]
fn there_is_a_message_for_each_failure_and_warning() {
    // Events with these reasons are warnings, too; all others are decisions, of which no message is shown.
    let warnings = [
        Reason::Suspended,
        Reason::RateLimited,
        Reason::TokenLifetimeTooLong,
        Reason::TokenLifetimeTooShort,
        Reason::TokenLifetimeUnknown,
        Reason::TokenLifetimeInvalid,
        Reason::TokenLifetimeImplausible,
        Reason::RenewBeforeTooLong,
        Reason::RefreshTokenIgnored,
        Reason::RefreshTokenExpiring,
        Reason::CredentialsExpiring,
        Reason::CredentialsExpiryInvalid,
        Reason::FallbackUsed,
        Reason::NextClientSecretUsed,
        Reason::RevocationFailed,
        Reason::TokenExpired,
    ];
    let is_failure = |reason: &&Reason| reason.class() != FailureClass::NotAFailure || warnings.contains(reason);
    for reason in Reason::ALL.iter().filter(is_failure) {
        assert!(entries().iter().any(|entry| entry.reason == *reason), "no message for {reason}");
    }
}

#[test]
fn no_message_contains_the_debug_format_of_rust() {
    for Entry { message, .. } in entries() {
        for part in ["Some(", "None", "Err(", "::", "Other(", "os error", "{ ", "\"DnsName"] {
            assert!(!message.contains(part), "{part}: {message}");
        }
    }
}

/// `openssl req -x509` makes a certificate that is both the server's and a CA; curl trusts it like this.
#[test]
fn a_self_signed_certificate_in_the_ca_bundle_is_trusted() {
    for is_ca in [true, false] {
        let (config, pem) = tls("127.0.0.1", is_ca, 2090, false);
        let endpoint = Endpoint::start_tls(config, good);
        let changes = json!({"connection": {"caBundle": {"name": "ca"}}});
        let documents = [
            integration_of("orders", &secure_url(&endpoint), &changes),
            credentials_of("credentials", &json!({"client_id": "erp-client", "client_secret": "0f3a9c81d2e4b7a6c5d4"})),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem}}),
        ];
        let error = fetch_documents(&documents, &["--allow-cidr=127.0.0.0/8"]);
        assert!(!error.contains("error: "), "{error}");
        assert_eq!(endpoint.count(), 1);
    }
}
