//! Guarantee: the operator supports every documented client authentication method, and real identity providers accept
//! it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use oauth_operator::oauth::jwt;
use oauth_operator::oauth::signing_key::SigningKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use test_support::endpoint::{Endpoint, Reply};
use test_support::keycloak::{Cluster, Keycloak};
use test_support::keys::{self, claims};
use test_support::manifests::install_permissions_with_service_accounts;
use test_support::messages::assert_recorded;
use test_support::oidc_provider::{OidcProvider, secret};
use test_support::{ControlPlane, World, eventually};

/// The credentials of a Keycloak user, for a client with refresh tokens.
const ADA: [(&str, &str); 4] = [
    ("client_id", "rotating"),
    ("client_secret", "rotating-secret"),
    ("username", "ada"),
    ("password", "ada-password"),
];

/// A client, its authentication method, and its credentials.
struct Client {
    id: &'static str,
    authentication: Value,
    secret: BTreeMap<&'static str, String>,
}

fn client(id: &'static str, method: &str, assertion: Value, secret: &[(&'static str, &str)]) -> Client {
    let mut authentication = json!({"method": method});
    if !assertion.is_null() {
        authentication["assertion"] = assertion;
    }
    Client { id, authentication, secret: secret.iter().map(|(key, value)| (*key, (*value).to_owned())).collect() }
}

/// Creates an integration for each client, and waits until all are ready.
async fn all_ready(world: &World, issuer: &str, clients: &[Client], more: &Value) {
    for (number, Client { id, authentication, secret }) in clients.iter().enumerate() {
        let name = format!("it-{number}");
        let mut values: Vec<(&str, &str)> = secret.iter().map(|(key, value)| (*key, value.as_str())).collect();
        values.push(("client_id", id));
        world.secret(&format!("credentials-{number}"), &values).await;
        let mut spec = json!({
            "issuer": issuer,
            "grantType": "client_credentials",
            "clientAuthentication": authentication,
            "credentials": {"secretName": format!("credentials-{number}")},
            "request": {"format": "form"},
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        world.integration(&name, &spec).await;
    }
    for (number, Client { id, authentication, .. }) in clients.iter().enumerate() {
        let name = format!("it-{number}");
        eprintln!("==> {id} with {authentication}");
        world.ready(&name).await;
        assert!(!world.value(&name, "access_token").await.is_empty());
    }
}

#[tokio::test]
async fn keycloak_accepts_each_of_its_client_authentication_methods() {
    let keycloak = Keycloak::shared();
    let world = World::new("keycloak-clients").await;
    let by_key = |id, algorithm: &str, kid: &str, pem: &str| {
        client(id, "private_key_jwt", json!({"algorithm": algorithm, "keyId": kid}), &[("private_key", pem)])
    };
    let pkcs1 = keys::pkcs1(&keycloak.rsa).pem;
    let clients = [
        client("service", "client_secret_post", json!(null), &[("client_secret", "service-secret")]),
        client("service", "client_secret_basic", json!(null), &[("client_secret", "service-secret")]),
        client(
            "secret-jwt",
            "client_secret_jwt",
            json!(null),
            &[("client_secret", "secret-jwt-secret-of-more-than-32-bytes")],
        ),
        by_key("key-rs256", "RS256", "rsa", &keycloak.rsa.pem),
        by_key("key-rs256", "RS256", "rsa", &pkcs1),
        by_key("key-ps256", "PS256", "rsa", &keycloak.rsa.pem),
        by_key("key-es256", "ES256", "ec", &keycloak.ec.pem),
        by_key("key-eddsa", "EdDSA", "ed", &keycloak.ed25519.pem),
    ];
    all_ready(&world, keycloak.issuer(), &clients, &json!({})).await;
}

#[tokio::test]
async fn keycloak_verifies_each_signature_algorithm() {
    let keycloak = Keycloak::shared();
    let world = World::new("keycloak-algorithms").await;
    let (rsa, ec, ec384, ed) = (&keycloak.rsa.pem, &keycloak.ec.pem, &keycloak.ec384.pem, &keycloak.ed25519.pem);
    let ec521 = &keycloak.ec521.pem;
    let by_key = [
        ("RS256", "rsa", rsa),
        ("RS384", "rsa", rsa),
        ("RS512", "rsa", rsa),
        ("PS256", "rsa", rsa),
        ("PS384", "rsa", rsa),
        ("PS512", "rsa", rsa),
        ("ES256", "ec", ec),
        ("ES384", "ec384", ec384),
        ("ES512", "ec521", ec521),
        ("EdDSA", "ed", ed),
    ];
    let mut clients: Vec<Client> = by_key
        .iter()
        .map(|(algorithm, kid, pem)| {
            let assertion = json!({"algorithm": algorithm, "keyId": kid, "issuedAtSkew": "30s"});
            client("key-any", "private_key_jwt", assertion, &[("private_key", pem.as_str())])
        })
        .collect();
    let secret = "secret-jwt-secret-of-more-than-32-bytes-and-also-of-more-than-64-bytes";
    clients.extend(["HS256", "HS384", "HS512"].map(|algorithm| {
        client("secret-jwt-any", "client_secret_jwt", json!({"algorithm": algorithm}), &[("client_secret", secret)])
    }));
    // The defaults of these keys.
    clients.push(client("key-any", "private_key_jwt", json!({"keyId": "ec384"}), &[("private_key", ec384)]));
    clients.push(client("key-any", "private_key_jwt", json!({"keyId": "ec521"}), &[("private_key", ec521)]));
    all_ready(&world, keycloak.issuer(), &clients, &json!({})).await;
}

#[tokio::test]
async fn keycloak_accepts_a_client_certificate_and_its_replacement() {
    let keycloak = Keycloak::shared();
    let world = World::new("keycloak-certificate").await;
    world.config_map("ca", "ca.crt", &keycloak.ca.pem).await;
    let own = keycloak.ca.client("keycloak-client");
    let expired = keycloak.ca.expired_client("keycloak-client");
    let write = async |certificate: &keys::Certificate| {
        let values = [("client_id", "certificate"), ("tls.crt", &certificate.pem), ("tls.key", &certificate.key)];
        world.secret("credentials", &values).await;
    };
    write(&expired).await;
    let spec = json!({
        "issuer": keycloak.secure_issuer(),
        "grantType": "client_credentials",
        "clientAuthentication": {"method": "tls_client_auth"},
        "credentials": {"secretName": "credentials"},
        "request": {"format": "form"},
        "connection": {"caBundle": {"name": "ca"}},
    });
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    assert!(stalled.message.contains("expired at 2020-01-01"), "{}", stalled.message);
    write(&own).await;
    world.ready("it").await;
    // After a replacement, as by cert-manager, a token is requested at once with the new certificate.
    let before = world.value("it", "access_token").await;
    write(&keycloak.ca.client("keycloak-client")).await;
    world.wait_for_change("it", "access_token", &before).await;
    // A certificate with a name that the server does not know.
    write(&keycloak.ca.client("somebody-else")).await;
    let ready = world.condition("it", "Ready", "True", "RequestRejected").await;
    assert!(ready.message.contains("check client ID and certificate"), "{}", ready.message);
    // A key that does not belong to the certificate.
    let other = keys::Certificate { pem: own.pem.clone(), key: keycloak.ca.client("x").key };
    write(&other).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    assert!(stalled.message.contains("the private key does not match the client certificate"), "{}", stalled.message);
}

/// The password grant of Keycloak's user.
fn password_grant(keycloak: &Keycloak) -> Value {
    json!({
        "issuer": keycloak.issuer(),
        "grantType": "password",
        "credentials": {"secretName": "credentials"},
        "request": {"format": "form"},
    })
}

#[tokio::test]
async fn keycloak_issues_tokens_for_username_and_password() {
    let keycloak = Keycloak::shared();
    let world = World::new("keycloak-password").await;
    world.secret("credentials", &ADA).await;
    let mut spec = password_grant(keycloak);
    spec["renewal"] = json!({"strategy": "refresh_token"});
    world.integration("it", &spec).await;
    world.ready("it").await;
    // Refresh tokens rotate: Keycloak accepts each of them once.
    let mut last = world.value("it", "refresh_token").await;
    for _ in 0..3 {
        last = world.wait_for_change("it", "refresh_token", &last).await;
    }
    let requests = |labels: &str| world.operator.sum("oauth_operator_token_requests_total", labels);
    assert_eq!(requests("grant=\"password\""), 1.0, "the user logged in once");
    assert!(requests("grant=\"refresh_token\"") >= 3.0);
    assert_eq!(requests(""), requests("outcome=\"Success\""), "nothing was rejected");
    // Other credentials cause a grant request, not a refresh request.
    world.secret("credentials", &[&ADA[..3], &[("password", "kanarie-wrong-password")]].concat()).await;
    let ready = world.condition("it", "Ready", "True", "RequestRejected").await;
    assert!(ready.message.contains("Invalid user credentials"), "{}", ready.message);
}

#[tokio::test]
async fn keycloak_exchanges_a_token() {
    let keycloak = Keycloak::shared();
    let world = World::new("keycloak-exchange").await;
    let form = [
        ("grant_type", "password"),
        ("client_id", "exchange"),
        ("client_secret", "exchange-secret"),
        ("username", "ada"),
        ("password", "ada-password"),
    ];
    let (status, body) = test_support::http::post_form(&keycloak.token_endpoint(), &form);
    let response: Value = serde_json::from_str(&body).expect("JSON");
    let subject = response["access_token"].as_str().unwrap_or_else(|| panic!("{status} {body}"));
    let values = [("client_id", "exchange"), ("client_secret", "exchange-secret"), ("subject_token", subject)];
    world.secret("credentials", &values).await;
    let spec = json!({
        "issuer": keycloak.issuer(),
        "grantType": "token_exchange",
        "tokenExchange": {"requestedTokenType": "urn:ietf:params:oauth:token-type:access_token"},
        "credentials": {"secretName": "credentials"},
        "request": {"format": "form"},
    });
    world.integration("it", &spec).await;
    world.ready("it").await;
    let token = claims(&world.value("it", "access_token").await);
    assert_eq!(
        (&token["azp"], &token["sub"]),
        (&json!("exchange"), &claims(subject)["sub"]),
        "the token is for the same user"
    );
    assert_ne!(token["jti"], claims(subject)["jti"], "a different token");
}

/// Federation without a stored secret: a Keycloak that accepts the cluster's own ServiceAccounts.
#[tokio::test]
async fn keycloak_accepts_a_service_account_token_of_the_cluster() {
    let control_plane = ControlPlane::shared();
    install_permissions_with_service_accounts(control_plane);
    // Requests for the keys of the cluster are anonymous.
    let binding = [
        "create",
        "clusterrolebinding",
        "discovery",
        "--clusterrole=system:service-account-issuer-discovery",
        "--group=system:unauthenticated",
    ];
    control_plane.kubectl(&binding);
    let world = World::new("keycloak-federated").await;
    let (issuer, certificate) = (control_plane.url(), control_plane.certificate());
    let cluster = Cluster { issuer: &issuer, certificate: &certificate, namespace: &world.namespace };
    let keycloak = Keycloak::start(Some(&cluster));
    let spec = json!({
        "issuer": keycloak.issuer(),
        "grantType": "client_credentials",
        // Keycloak identifies the client by the subject of the token, and rejects an additional id.
        "clientAuthentication": {"method": "service_account_token"},
        "serviceAccountToken": {"serviceAccountName": "workload", "audience": keycloak.issuer()},
        "request": {"format": "form"},
    });
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "DependencyMissing").await;
    assert_recorded("DependencyMissing", "a ServiceAccount that does not exist", &stalled.message);
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "workload"}})).expect("an account");
    accounts.create(&PostParams::default(), &account).await.expect("the account is created");
    // Dependencies are checked every 30 s; a change of the integration takes effect at once.
    world.change("it", &json!({"spec": {"tokenLife": "5m"}})).await;
    world.ready("it").await;
    let token = claims(&world.value("it", "access_token").await);
    assert_eq!(token["azp"], "service-account");
    // With a token for the API server itself, the author of the integration could act as the ServiceAccount.
    let own = json!({"spec": {"serviceAccountToken": {"audience": "https://kubernetes.default.svc"}}});
    world.change("it", &own).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsMissing").await;
    assert!(stalled.message.contains("is never sent"), "{}", stalled.message);
}

/// Another use of a ServiceAccount token: token exchange (RFC 8693).
#[tokio::test]
async fn a_service_account_token_is_exchanged() {
    let control_plane = ControlPlane::shared();
    install_permissions_with_service_accounts(control_plane);
    let world = World::new("exchanged").await;
    let endpoint = Endpoint::start(|_| Reply::token(60));
    let spec = json!({
        "tokenEndpoint": endpoint.url(),
        "grantType": "token_exchange",
        "clientAuthentication": {"method": "none"},
        "tokenExchange": {"subjectTokenSource": "ServiceAccount"},
        "serviceAccountToken": {
            "serviceAccountName": "default", "audience": "https://sts.example.com", "lifetime": "15m",
        },
        "request": {"format": "form"},
    });
    world.integration("it", &spec).await;
    world.ready("it").await;
    let request = endpoint.requests()[0].clone();
    let names: Vec<String> = request.form().into_keys().collect();
    assert_eq!(names, ["grant_type", "subject_token", "subject_token_type"]);
    assert_eq!(request.parameter("grant_type"), "urn:ietf:params:oauth:grant-type:token-exchange");
    let token = claims(&request.parameter("subject_token"));
    assert_eq!(token["sub"], format!("system:serviceaccount:{}:default", world.namespace));
    assert_eq!(token["aud"], json!(["https://sts.example.com"]));
    let lifetime = token["exp"].as_i64().zip(token["iat"].as_i64()).map(|(expires, issued)| expires - issued);
    assert_eq!(lifetime, Some(900));
    // The token is treated like any other secret.
    assert!(!world.observable_output().await.contains(&request.parameter("subject_token")));
}

#[tokio::test]
async fn without_permission_no_service_account_token_is_requested() {
    let control_plane = ControlPlane::start();
    test_support::manifests::install_crd(&control_plane);
    test_support::manifests::install_permissions(&control_plane);
    let namespace = control_plane.namespace("no-permission").await;
    let kubeconfig = test_support::operator::kubeconfig(&control_plane).await;
    let operator = test_support::Operator::start_with(&kubeconfig, &["--namespace", &namespace]).await;
    let client = control_plane.client().await;
    let world = World { operator, client, namespace, kubeconfig };
    let spec = json!({
        "tokenEndpoint": "https://127.0.0.1:1/token",
        "grantType": "client_credentials",
        "clientAuthentication": {"method": "service_account_token"},
        "serviceAccountToken": {"serviceAccountName": "default", "audience": "https://login.example.com"},
    });
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsAccessDenied").await;
    assert_recorded(
        "CredentialsAccessDenied",
        "a ServiceAccount token, without the operator's permission to create it",
        &stalled.message,
    );
}

#[tokio::test]
async fn oidc_provider_accepts_assertions_signed_with_each_type_of_key() {
    let provider = OidcProvider::shared();
    let world = World::new("provider-keys").await;
    world.secret("ca", &[("ca.pem", &provider.ca.pem)]).await;
    let by_key = |algorithm: &str, kid: &str, pem: &str| {
        client("key", "private_key_jwt", json!({"algorithm": algorithm, "keyId": kid}), &[("private_key", pem)])
    };
    let clients = [
        by_key("RS256", "rsa", &provider.rsa.pem),
        by_key("PS256", "rsa", &provider.rsa.pem),
        by_key("ES256", "ec", &provider.ec.pem),
        by_key("EdDSA", "ed", &provider.ed25519.pem),
        client("plain", "client_secret_basic", json!(null), &[("client_secret", &secret("plain"))]),
    ];
    let connection = json!({"caBundle": {"kind": "Secret", "name": "ca", "key": "ca.pem"}});
    all_ready(&world, provider.issuer(), &clients, &json!({"connection": connection})).await;
    // The provider supports HTTP/2, but no connection is shared.
    let log = provider.log();
    let requests = log.lines().filter(|line| line.starts_with("POST /token"));
    assert!(requests.clone().count() >= 5 && requests.clone().all(|line| line.ends_with("HTTP/1.1")), "{log}");
}

/// A spec for the provider, and its CA.
async fn provider_spec(world: &World, provider: &OidcProvider, more: &Value) -> Value {
    world.config_map("ca", "ca.crt", &provider.ca.pem).await;
    let mut spec = json!({
        "issuer": provider.issuer(),
        "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
        "request": {"format": "form"},
        "connection": {"caBundle": {"name": "ca"}},
        // With a resource, the token is a JWT that can be inspected (RFC 8707).
        "resource": {"key": "resource", "value": "https://orders.example.com"},
        "scope": "read",
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

#[tokio::test]
async fn oidc_provider_binds_a_token_to_a_client_certificate() {
    let provider = OidcProvider::shared();
    let world = World::new("provider-certificate").await;
    let own = provider.ca.client("provider-client");
    let values = [("client_id", "certificate"), ("tls.crt", &own.pem), ("tls.key", &own.key)];
    world.secret("credentials", &values).await;
    let spec = provider_spec(&world, provider, &json!({"clientAuthentication": {"method": "tls_client_auth"}})).await;
    world.integration("it", &spec).await;
    world.ready("it").await;
    let token = claims(&world.value("it", "access_token").await);
    assert_eq!(token["aud"], "https://orders.example.com");
    assert_eq!(token["cnf"]["x5t#S256"], json!(keys::thumbprint(&own.pem)), "RFC 8705, section 3.1");
}

/// A PKCS#12 file under one key of the Secret is both certificate and key.
#[tokio::test]
async fn oidc_provider_accepts_a_client_certificate_in_pkcs12() {
    let provider = OidcProvider::shared();
    let world = World::new("provider-pkcs12").await;
    let own = provider.ca.client("provider-client");
    let passphrase = "kanarie-passphrase-of-pkcs12";
    let write = async |file: &[u8], passphrase: &str| {
        let values = [("client_id", &b"certificate"[..]), ("client.p12", file), ("password", passphrase.as_bytes())];
        world.binary_secret("credentials", &values).await;
    };
    let file = keys::pkcs12(&own.key, &own.pem, passphrase, &[]);
    write(&file, "kanarie-wrong-passphrase").await;
    let mut spec =
        provider_spec(&world, provider, &json!({"clientAuthentication": {"method": "tls_client_auth"}})).await;
    let names = json!({"tlsCertificate": "client.p12", "tlsKey": "client.p12", "privateKeyPassphrase": "password"});
    spec["credentials"]["keys"] = names;
    world.integration("it", &spec).await;
    let stalled = world.condition("it", "Stalled", "True", "CredentialsInvalid").await;
    assert!(stalled.message.contains("check the passphrase under key password"), "{}", stalled.message);
    write(&file, passphrase).await;
    world.ready("it").await;
    let token = world.value("it", "access_token").await;
    assert_eq!(claims(&token)["cnf"]["x5t#S256"], json!(keys::thumbprint(&own.pem)), "RFC 8705, section 3.1");
    // The same certificate in a legacy file with another passphrase is the same credential: no token is requested.
    let requests = world.operator.sum("oauth_operator_token_requests_total", "");
    let other = "kanarie-other-passphrase";
    write(&keys::pkcs12(&own.key, &own.pem, other, &["-legacy"]), other).await;
    world.change("it", &json!({"spec": {"renewBefore": "10s"}})).await;
    world.ready("it").await;
    assert_eq!(world.value("it", "access_token").await, token);
    assert_eq!(world.operator.sum("oauth_operator_token_requests_total", ""), requests);
    assert!(!world.observable_output().await.contains(passphrase));
}

#[tokio::test]
async fn oidc_provider_binds_a_token_to_a_key_with_dpop_and_nonces() {
    let provider = OidcProvider::shared();
    let world = World::new("provider-dpop").await;
    world.secret("credentials", &[("client_id", "bound"), ("client_secret", &secret("bound"))]).await;
    let more = json!({"clientAuthentication": {"method": "client_secret_basic"}, "dpop": {}, "tokenLife": "9s"});
    let spec = provider_spec(&world, provider, &more).await;
    world.integration("it", &spec).await;
    world.ready("it").await;
    let values = world.values("it").await.expect("the target");
    let key = SigningKey::from_pem(&values["dpop_key"]).expect("a key for the workload");
    let thumbprint = Some(thumbprint(&jwt::jwk(&key).expect("a public key")));
    let bound = |token: &str| claims(token)["cnf"]["jkt"].as_str().map(ToOwned::to_owned);
    assert_eq!(bound(&values["access_token"]), thumbprint, "RFC 9449, section 6.1");
    // The key stays the same, so that a workload that has read it can use it with the next token.
    let next = world.wait_for_change("it", "access_token", &values["access_token"]).await;
    assert_eq!(world.value("it", "dpop_key").await, values["dpop_key"]);
    assert_eq!(bound(&next), thumbprint);
    let requests = |labels: &str| world.operator.sum("oauth_operator_token_requests_total", labels);
    assert_eq!(requests(""), requests("outcome=\"Success\""), "a required nonce is not a failure");
    assert!(!world.observable_output().await.contains("PRIVATE KEY"), "the key is shown");
}

#[tokio::test]
async fn a_replaced_token_and_those_of_a_deleted_integration_are_revoked() {
    let keycloak = Keycloak::shared();
    let world = World::new("keycloak-revocation").await;
    world.secret("credentials", &ADA).await;
    let mut spec = password_grant(keycloak);
    spec["revocation"] = json!({"afterRenewal": "1s", "onDeletion": true});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let first = world.value("it", "access_token").await;
    assert!(keycloak.is_active(&first));
    // Renewed long before its expiry, so that it cannot be inactive because it has expired.
    world.request_renewal("it", "now").await;
    let second = world.wait_for_change("it", "access_token", &first).await;
    eventually("the superseded token is revoked", test_support::world::SHORT_TIMEOUT, async || {
        if keycloak.is_active(&first) { Err(world.operator.logs()) } else { Ok(()) }
    })
    .await;
    assert!(keycloak.is_active(&second), "the current token stays valid");
    world.delete("it").await;
    assert!(!keycloak.is_active(&second), "the current token is revoked");
    let event = world.event("it", "Revoked").await;
    assert_eq!(event.type_.as_deref(), Some("Normal"));
    // Revoked: each token that a renewal superseded, and the last access token and refresh token.
    let succeeded = |name: &str| world.operator.sum(name, "outcome=\"Success\"");
    let (issued, revoked) =
        (succeeded("oauth_operator_token_requests_total"), succeeded("oauth_operator_revocations_total"));
    assert!(issued >= 2.0, "{issued}");
    assert_eq!(revoked, issued - 1.0 + 2.0, "of {issued} issued tokens");
}

/// The SHA-256 thumbprint of a P-256 key: its required members in the order of their names (RFC 7638, section 3).
fn thumbprint(jwk: &Value) -> String {
    let member = |name: &str| jwk[name].as_str().expect("a member").to_owned();
    let text = format!(
        r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{}"}}"#,
        member("crv"),
        member("kty"),
        member("x"),
        member("y")
    );
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}
