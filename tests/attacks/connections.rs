//! Attacks on connections: they are not shared, not kept open, and not read without a bound.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use oauth_operator::api::reason::Reason;
use oauth_operator::oauth::client::Client;
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::http::egress::EgressPolicy;
use oauth_operator::oauth::request::TokenRequest;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::siege::{SHORT_TIMEOUT, Siege, client_credentials};
use test_support::endpoint::Reply;
use test_support::keys::{Certificate, CertificateAuthority};
use test_support::spec::{request_token, validated};
use test_support::{Endpoint, tools};

fn client() -> Client {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let egress = EgressPolicy { allow_http: true, allow: vec![loopback], ..EgressPolicy::default() };
    Client::new(egress).expect("an HTTP client")
}

fn credentials(namespace: &str, refresh_token: &str) -> Credentials {
    let values = [
        (Credential::ClientId, namespace),
        (Credential::ClientSecret, "kanarie-client-secret"),
        (Credential::RefreshToken, refresh_token),
    ];
    let mut credentials: Credentials =
        values.into_iter().map(|(credential, value)| (credential, SecretString::from(value))).collect();
    namespace.clone_into(&mut credentials.tenant);
    namespace.clone_into(&mut credentials.cache_owner);
    credentials
}

/// A server that rotates refresh tokens and rejects old ones, with delayed responses.
fn rotating(delay: Duration) -> Endpoint {
    let current = Mutex::new((0, "kanarie-refresh-0".to_owned()));
    Endpoint::start(move |request| {
        if request.parameter("grant_type") != "refresh_token" {
            return Reply::token(60);
        }
        let mut current = current.lock().expect("a lock");
        if request.parameter("refresh_token") != current.1 {
            return Reply::rejected(400, "invalid_grant", "the refresh token was used before");
        }
        let number = current.0 + 1;
        *current = (number, format!("kanarie-refresh-{number}"));
        let body = json!({"access_token": format!("kanarie-{number}"), "refresh_token": current.1, "expires_in": 60});
        Reply::Delayed(delay, Box::new(Reply::json(200, &body)))
    })
}

/// nginx of Debian, with its default limits, in front of an endpoint.
struct Nginx {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Nginx {
    fn start(upstream: &Endpoint, certificate: &Certificate) -> Self {
        let binary = tools::install("nginx").join("nginx");
        let dir = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("tls.crt"), &certificate.pem).expect("a file");
        std::fs::write(path("tls.key"), &certificate.key).expect("a file");
        let dir_path = dir.path().display();
        let upstream = upstream.address();
        // Two requests per connection: a client that keeps connections open receives GOAWAY all the time.
        let text = format!(
            "daemon off; master_process off; pid {dir_path}/pid; error_log {dir_path}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log {dir_path}/access.log;
               client_body_temp_path {dir_path}/body; proxy_temp_path {dir_path}/proxy; fastcgi_temp_path {dir_path}/f;
               uwsgi_temp_path {dir_path}/u; scgi_temp_path {dir_path}/s;
               server {{
                 listen 127.0.0.1:{port} ssl http2;
                 ssl_certificate {dir_path}/tls.crt; ssl_certificate_key {dir_path}/tls.key;
                 keepalive_requests 2;
                 location / {{ proxy_pass http://{upstream}; }}
               }}
             }}"
        );
        std::fs::write(path("nginx.conf"), text).expect("a file");
        let process = Command::new(binary)
            .args(["-c", &path("nginx.conf"), "-p", &dir_path.to_string()])
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx starts");
        let nginx = Self { process, url: format!("https://127.0.0.1:{port}/token"), _dir: dir };
        let deadline = Instant::now() + SHORT_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn refresh(url: &str) -> TokenRequest {
    validated(json!({"tokenEndpoint": url, "grantType": "refresh_token", "request": {"format": "form"}})).token_request
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_others_do_not_interrupt_a_refresh_behind_a_real_gateway() {
    let ca = CertificateAuthority::new();
    let endpoint = rotating(Duration::from_millis(300));
    let nginx = Nginx::start(&endpoint, &ca.server());
    let client = client();
    // More headers than nginx accepts; the API server now admits fewer, but older objects may still have them.
    let mut oversized = validated(json!({"tokenEndpoint": nginx.url})).token_request;
    oversized.headers = (0..32).map(|number| (format!("x-{number}"), "h".repeat(2000))).collect();
    let mut mallory = credentials("mallory", "");
    mallory.set(Credential::RefreshToken, None);
    mallory.ca_bundle = Some(ca.pem.clone().into());
    let stopped = Arc::new(AtomicBool::new(false));
    let attack = {
        let (client, stopped) = (client.clone(), Arc::clone(&stopped));
        tokio::spawn(async move {
            let mut refused = 0;
            while !stopped.load(Ordering::Relaxed) {
                refused += usize::from(request_token(&client, &oversized, &mallory).await.is_err());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            refused
        })
    };
    let token_request = refresh(&nginx.url);
    let mut token = "kanarie-refresh-0".to_owned();
    for number in 1..=10 {
        let mut bob = credentials("bob", &token);
        bob.ca_bundle = Some(ca.pem.clone().into());
        let response = request_token(&client, &token_request, &bob).await;
        let response = response.unwrap_or_else(|failure| panic!("refresh {number} was lost: {}", failure.message));
        response.refresh_token.expect("a refresh token").expose_secret().clone_into(&mut token);
    }
    stopped.store(true, Ordering::Relaxed);
    let refused = attack.await.expect("the attack");
    assert!(refused > 10, "only {refused} requests were rejected: the attack did not take place");
    assert_eq!(token, "kanarie-refresh-10");
}

fn tls(certificate: &Certificate) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key");
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate that fits its key");
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(tls)
}

#[tokio::test]
async fn each_request_has_its_own_connection_and_handshake() {
    let ca = CertificateAuthority::new();
    // The endpoint supports HTTP/1.1 only: with HTTP/2, no request would succeed.
    let endpoint = Endpoint::start_tls(tls(&ca.server()), |_| Reply::token(60));
    let token_request =
        validated(json!({"tokenEndpoint": format!("https://{}/token", endpoint.address())})).token_request;
    let client = client();
    for namespace in ["bob", "bob", "mallory", "bob"] {
        let mut credentials = credentials(namespace, "");
        credentials.ca_bundle = Some(ca.pem.clone().into());
        request_token(&client, &token_request, &credentials).await.expect("a token");
    }
    assert_eq!((endpoint.count(), endpoint.connections()), (4, 4));
}

/// An attacker's server: calls `serve` with each connection after its request has been read.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                serve(stream);
            });
        }
    });
    format!("http://{address}/token")
}

/// Writes until the client closes the connection, and counts the bytes.
fn flood(stream: &mut TcpStream, piece: &[u8], written: &AtomicUsize) {
    let pieces = piece.repeat(64);
    let _ = stream.set_write_timeout(Some(Duration::from_secs(20)));
    while stream.write_all(&pieces).is_ok() {
        written.fetch_add(pieces.len(), Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_connection_is_closed_after_its_request() {
    let (closed, closing) = std::sync::mpsc::channel();
    let url = server(move |mut stream| {
        let body = r#"{"access_token":"kanarie-token","expires_in":60}"#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.set_read_timeout(Some(SHORT_TIMEOUT));
        let _ = closed.send(matches!(stream.read(&mut [0; 16]), Ok(0)));
    });
    let token_request = validated(json!({"tokenEndpoint": url})).token_request;
    // The client outlives the request, as in the operator.
    let client = client();
    request_token(&client, &token_request, &credentials("mallory", "")).await.expect("a token");
    let is_closed = tokio::task::spawn_blocking(move || closing.recv()).await.expect("a thread").expect("a report");
    assert!(is_closed, "the connection was kept");
    drop(client);
}

#[tokio::test]
async fn the_size_of_response_headers_is_bounded() {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let url = server(move |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        flood(&mut stream, format!("X-Flood: {}\r\n", "f".repeat(1000)).as_bytes(), &counted);
    });
    let token_request = validated(json!({"tokenEndpoint": url, "request": {"timeout": "20s"}})).token_request;
    let started = Instant::now();
    let failure = request_token(&client(), &token_request, &credentials("mallory", "")).await.expect_err("no response");
    assert_eq!(failure.reason, Reason::EndpointUnreachable, "{}", failure.message);
    assert!(started.elapsed() < Duration::from_secs(10), "stopped by the timeout and not by the bound");
    // Data in the kernel buffers of both sides counts as written.
    let written = written.load(Ordering::Relaxed);
    assert!(written < 16 << 20, "{written} bytes were read");
}

/// The number of integrations in the original attack, each with its own proxy URL.
const INTEGRATIONS: usize = 260;

#[tokio::test]
async fn ca_bundles_and_proxies_do_not_exhaust_memory() {
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    // A bundle that is admitted, with as many CAs as possible, and one of the original attack.
    let ca = CertificateAuthority::new().pem;
    let config_map = async |name: &str, certificates: usize| {
        let data = json!({"ca.crt": ca.repeat(certificates)});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        let parameters = PatchParams::apply("tenant").force();
        let written = siege.alice.api::<ConfigMap>().patch(name, &parameters, &Patch::Apply(&object)).await;
        written.expect("a ConfigMap");
    };
    config_map("large", 512).await;
    config_map("too-large", 1_000_000 / ca.len()).await;
    let proxy = Endpoint::start(|_| Reply::token(5));
    let origin = format!("http://{}", proxy.address());
    siege.alice.pinned_secret("credentials", &[("client_id", "a"), ("client_secret", "kanarie-alice")], "").await;
    for number in 0..INTEGRATIONS {
        let mut spec = client_credentials(&format!("{origin}/token"), "credentials");
        let bundle = if number % 2 == 0 { "large" } else { "too-large" };
        spec["connection"] = json!({"caBundle": {"name": bundle}, "proxy": format!("{origin}/{number}")});
        siege.alice.integration(&format!("i-{number}"), &spec).await.expect("an integration");
    }
    let observation = siege.observe(&victim, Duration::from_secs(15)).await;
    observation.assert_unharmed();
    siege.alice.wait_for_ready("i-1", "False", "DependencyMissing").await;
}

#[tokio::test]
async fn endless_interim_responses_do_not_delay_others() {
    const INTEGRATIONS: usize = 12;
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let flooded = Arc::new(AtomicUsize::new(0));
    let written = Arc::clone(&flooded);
    let url = server(move |mut stream| flood(&mut stream, b"HTTP/1.1 103 Early Hints\r\n\r\n", &written));
    siege.alice.pinned_secret("credentials", &[("client_id", "a"), ("client_secret", "kanarie-alice")], &url).await;
    let mut spec = client_credentials(&url, "credentials");
    spec["request"] = json!({"timeout": "2s"});
    for number in 0..INTEGRATIONS {
        siege.alice.integration(&format!("flooded-{number}"), &spec).await.expect("an integration");
    }
    let observation = siege.observe(&victim, Duration::from_secs(15)).await;
    let flooded = flooded.load(Ordering::Relaxed);
    assert!(flooded > 1 << 20, "only {flooded} bytes were read: the attack did not take place");
    observation.assert_unharmed();
    siege.alice.wait_for_ready("flooded-0", "False", "EndpointUnreachable").await;
}
