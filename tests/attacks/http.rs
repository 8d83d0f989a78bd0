//! State in the HTTP client that a tenant's servers could use against other tenants: issuer metadata, nonces, and
//! client certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oauth_operator::oauth::allowed_endpoints::AllowedEndpoints;
use oauth_operator::oauth::client::Client;
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::http::egress::EgressPolicy;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::siege::{Siege, client_credentials};
use test_support::Endpoint;
use test_support::endpoint::Reply;
use test_support::keys::CertificateAuthority;
use test_support::spec::{request_token, validated};

/// The number of the attacker's issuers; 16 were enough to exceed the memory limit.
const ISSUERS: usize = 48;

/// Metadata of `size` bytes, mostly short strings in the two members that clients use: parsed into arrays and maps they
/// need more than ten times as much memory.
fn metadata(issuer: &str, size: usize) -> Reply {
    let aliases: Vec<String> = (0..size / 26).map(|number| format!(r#""{number:06}":"x""#)).collect();
    let aliases = aliases.join(",");
    let start = format!(
        r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/token","mtls_endpoint_aliases":{{{aliases}}},"token_endpoint_auth_methods_supported":["client_secret_post""#
    );
    let method = r#","x""#;
    let methods = method.repeat((size - start.len() - 2) / method.len());
    Reply::Http(200, vec![("Content-Type".into(), "application/json".into())], format!("{start}{methods}]}}"))
}

#[tokio::test]
async fn issuer_metadata_does_not_exhaust_memory() {
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let evil = Endpoint::start(|request| {
        let Some(path) = request.path.strip_suffix("/.well-known/openid-configuration") else { return Reply::token(5) };
        let host = request.headers.get("host").cloned().unwrap_or_default();
        // Half of them are just small enough to be read; the others have the maximum size of earlier versions.
        let is_even = path.bytes().last().is_some_and(|digit| digit % 2 == 0);
        metadata(&format!("http://{host}{path}"), if is_even { 64 << 10 } else { 1 << 20 })
    });
    let origin = format!("http://{}", evil.address());
    siege.alice.pinned_secret("credentials", &[("client_id", "a"), ("client_secret", "kanarie-alice")], &origin).await;
    for number in 0..ISSUERS {
        let mut spec = client_credentials("", "credentials");
        spec["issuer"] = Value::from(format!("{origin}/{number}"));
        spec.as_object_mut().expect("an object").remove("tokenEndpoint");
        siege.alice.integration(&format!("issuer-{number}"), &spec).await.expect("an integration");
    }
    let observation = siege.observe(&victim, Duration::from_secs(15)).await;
    assert!(evil.count() >= ISSUERS, "only {} requests: the attack did not take place", evil.count());
    observation.assert_unharmed();
    siege.alice.wait_for_ready("issuer-0", "True", "TokenValid").await;
    siege.alice.wait_for_ready("issuer-1", "False", "InvalidIssuerMetadata").await;
}

fn client() -> Client {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let egress = EgressPolicy { allow_http: true, allow: vec![loopback], ..EgressPolicy::default() };
    Client::new(egress).expect("an HTTP client")
}

fn credentials(namespace: &str) -> Credentials {
    let values = [(Credential::ClientId, "id"), (Credential::ClientSecret, "kanarie-client-secret")];
    let mut credentials: Credentials =
        values.into_iter().map(|(credential, value)| (credential, SecretString::from(value))).collect();
    namespace.clone_into(&mut credentials.tenant);
    namespace.clone_into(&mut credentials.cache_owner);
    credentials.dpop_key = Some(SecretString::from(test_support::keys::ec().pem));
    credentials
}

/// The claims of a DPoP proof.
fn claims(proof: &str) -> Value {
    use base64::Engine;
    let payload = proof.split('.').nth(1).unwrap_or_default();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&bytes).expect("claims")
}

#[tokio::test]
async fn a_nonce_of_one_namespace_is_not_sent_by_another() {
    // The same origin can be different servers: the attacker's requests go through a proxy to another server.
    let server = Endpoint::start(|_| Reply::token(60).with_header("DPoP-Nonce", "a-nonce"));
    let token_request = validated(json!({"tokenEndpoint": server.url(), "dpop": {}})).token_request;
    let client = client();
    for namespace in ["mallory", "mallory", "bob"] {
        request_token(&client, &token_request, &credentials(namespace)).await.expect("a token");
    }
    let nonces: Vec<Value> =
        server.requests().iter().map(|request| claims(&request.headers["dpop"])["nonce"].clone()).collect();
    assert_eq!(nonces, [Value::Null, json!("a-nonce"), Value::Null]);
}

#[tokio::test]
async fn a_nonce_that_breaks_requests_is_not_cached() {
    let long = "n".repeat(12_000);
    let offered = [long.as_str(), "not a nonce", "bad\\nonce", ""];
    for nonce in offered {
        let nonce = nonce.to_owned();
        let server = Endpoint::start(move |_| Reply::token(60).with_header("DPoP-Nonce", &nonce));
        let token_request = validated(json!({"tokenEndpoint": server.url(), "dpop": {}})).token_request;
        let client = client();
        for _ in 0..2 {
            request_token(&client, &token_request, &credentials("bob")).await.expect("a token");
        }
        let sent = server.requests();
        assert!(sent.iter().all(|request| claims(&request.headers["dpop"])["nonce"].is_null()), "{sent:?}");
    }
}

#[tokio::test]
async fn a_nonce_is_dropped_if_a_request_with_it_fails() {
    let server = Endpoint::start(|request| match claims(&request.headers["dpop"])["nonce"].as_str() {
        Some(_) => Reply::text(431, "request header fields too large"),
        None => Reply::token(60).with_header("DPoP-Nonce", "a-nonce"),
    });
    let token_request = validated(json!({"tokenEndpoint": server.url(), "dpop": {}})).token_request;
    let (client, credentials) = (client(), credentials("bob"));
    request_token(&client, &token_request, &credentials).await.expect("a token");
    request_token(&client, &token_request, &credentials).await.expect_err("a failure with the nonce");
    request_token(&client, &token_request, &credentials).await.expect("a token, because the nonce was dropped");
}

/// Counts the client certificates that a server received, and accepts all of them.
#[derive(Debug)]
struct Recorder(Arc<AtomicUsize>);

impl ClientCertVerifier for Recorder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// An issuer with TLS that requests a client certificate, and the number of certificates that it received.
fn issuer(ca: &CertificateAuthority) -> (Endpoint, Arc<AtomicUsize>) {
    let shown = Arc::new(AtomicUsize::new(0));
    let certificate = ca.server();
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key");
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(Arc::new(Recorder(Arc::clone(&shown))))
        .with_single_cert(chain, key)
        .expect("a certificate that fits its key");
    let endpoint = Endpoint::start_tls(Arc::new(tls), |request| match request.path.as_str() {
        "/token" => Reply::token(60),
        _ => {
            let issuer = format!("https://{}", request.headers["host"]);
            Reply::json(200, &json!({"issuer": issuer, "token_endpoint": format!("{issuer}/token")}))
        }
    });
    (endpoint, shown)
}

#[tokio::test]
async fn an_issuer_receives_the_client_certificate_only_if_the_pin_allows_it() {
    let ca = CertificateAuthority::new();
    let certificate = ca.client("the-client");
    let (endpoint, shown) = issuer(&ca);
    let origin = format!("https://{}", endpoint.address());
    let mut spec = json!({"issuer": origin, "clientAuthentication": {"method": "tls_client_auth"}});
    spec["tokenEndpoint"] = Value::Null;
    let token_request = validated(spec).token_request;
    let mut credentials = credentials("bob");
    credentials.set(Credential::TlsCertificate, Some(certificate.pem.into()));
    credentials.set(Credential::TlsKey, Some(certificate.key.into()));
    credentials.ca_bundle = Some(ca.pem.clone().into());
    let pin = |endpoint: &str| {
        AllowedEndpoints::parse("Secret credentials", Some("credentials"), endpoint, true).expect("a pin")
    };

    credentials.pins = vec![pin("https://login.example.com")];
    let failure =
        request_token(&client(), &token_request, &credentials).await.expect_err("another endpoint than the pinned one");
    assert!(failure.message.contains("https://login.example.com"), "{}", failure.message);
    assert_eq!(endpoint.count(), 1, "the metadata was read");
    assert_eq!(shown.load(Ordering::Relaxed), 0, "the certificate was presented before the pin was checked");

    credentials.pins = vec![pin(&origin)];
    request_token(&client(), &token_request, &credentials).await.expect("a token");
    assert_eq!(shown.load(Ordering::Relaxed), 1, "presented only to the token endpoint");
}
