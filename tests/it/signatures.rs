//! Guarantee: another implementation (Node's jose) verifies what the operator signs, with each algorithm and each format of
//! a key, and finds the certificate in the header.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::jose::{self, Signed};
use test_support::keys::{self, Key, encrypted, pkcs12};
use test_support::{World, eventually};

const PASSPHRASE: &str = "kanarie-passphrase-of-keys";

/// An assertion, the values of the Secret, and the public key that must verify it.
struct Case {
    name: String,
    assertion: Value,
    values: BTreeMap<&'static str, Vec<u8>>,
    key: Option<Value>,
    expected: Value,
}

fn case(name: &str, key: &Key, assertion: Value, value: impl Into<Vec<u8>>, expected: Value) -> Case {
    let values = [("private_key", value.into()), ("private_key_passphrase", PASSPHRASE.into())];
    Case { name: name.to_owned(), assertion, values: values.into(), key: Some(key.jwk.clone()), expected }
}

/// The private JWK, as Node exports it.
fn private_jwk(key: &Key, more: &Value) -> String {
    let script = "const { createPrivateKey } = require('node:crypto'); const { readFileSync } = require('node:fs');\
                  console.log(JSON.stringify(createPrivateKey(readFileSync(0)).export({ format: 'jwk' })))";
    let mut jwk: Value = serde_json::from_str(&jose::node(script, &key.pem)).expect("a JWK");
    jwk.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    jwk.to_string()
}

fn cases() -> Vec<Case> {
    let (rsa, ec, ec384, ec521, ed) = (keys::rsa(), keys::ec(), keys::ec384(), keys::ec521(), keys::ed25519());
    let by_type = [
        ("RS256", &rsa),
        ("RS384", &rsa),
        ("RS512", &rsa),
        ("PS256", &rsa),
        ("PS384", &rsa),
        ("PS512", &rsa),
        ("ES256", &ec),
        ("ES384", &ec384),
        ("ES512", &ec521),
        ("EdDSA", &ed),
    ];
    let mut cases: Vec<Case> = by_type
        .iter()
        .map(|(algorithm, key)| {
            let assertion = json!({"algorithm": algorithm, "keyId": "k"});
            case(algorithm, key, assertion, key.pem.as_str(), json!({"alg": algorithm, "kid": "k", "typ": "JWT"}))
        })
        .collect();
    for (algorithm, key) in [("RS256", &rsa), ("ES256", &ec), ("ES384", &ec384), ("ES512", &ec521), ("EdDSA", &ed)] {
        let header = json!({"alg": algorithm, "typ": "JWT"});
        let file = pkcs12(&key.pem, &keys::self_signed(&key.pem, "it"), PASSPHRASE, &[]);
        cases.push(case(
            &format!("{algorithm} encrypted"),
            key,
            json!({}),
            encrypted(&key.pem, PASSPHRASE, &[]),
            header.clone(),
        ));
        cases.push(case(&format!("{algorithm} PKCS#12"), key, json!({}), file, header));
        let header = json!({"alg": algorithm, "typ": "JWT", "kid": "its-own"});
        cases.push(case(
            &format!("{algorithm} JWK"),
            key,
            json!({}),
            private_jwk(key, &json!({"kid": "its-own"})),
            header,
        ));
    }
    let header = json!({"alg": "PS512", "typ": "JWT", "kid": "of-the-spec"});
    let jwk = private_jwk(&rsa, &json!({"kid": "its-own", "alg": "PS512"}));
    cases.push(case("the algorithm of a JWK", &rsa, json!({"keyId": "of-the-spec"}), jwk, header));
    let google = json!({"type": "service_account", "private_key": rsa.pem, "private_key_id": "0f3a9c81"}).to_string();
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "0f3a9c81"});
    cases.push(case("Google service account", &rsa, json!({}), google, header));
    cases
}

/// Assertions with a certificate in the header, as PEM and in the file of the key.
fn certified() -> Vec<Case> {
    let authority = keys::CertificateAuthority::new();
    let client = authority.client("it");
    let chain = format!("{}{}", client.pem, authority.pem);
    let file = pkcs12(&client.key, &client.pem, PASSPHRASE, &[]);
    let all = json!({"certificateChain": true, "certificateThumbprint": true, "certificateThumbprintSha1": true, "notBefore": true, "issuedAtSkew": "30s"});
    let expected = json!({"x5t#S256": keys::thumbprint(&client.pem)});
    let pem = [("private_key", client.key.into_bytes()), ("tls.crt", chain.into_bytes())];
    let same = [("private_key", file.clone()), ("tls.crt", file), ("private_key_passphrase", PASSPHRASE.into())];
    [("certificate as PEM", BTreeMap::from(pem)), ("certificate in PKCS#12", BTreeMap::from(same))]
        .map(|(name, values)| Case {
            name: name.to_owned(),
            assertion: all.clone(),
            values,
            key: None,
            expected: expected.clone(),
        })
        .into()
}

#[tokio::test]
async fn another_implementation_verifies_each_algorithm_and_each_format_of_a_key() {
    let world = World::new("signatures").await;
    let endpoint = Endpoint::start(|_| Reply::token(3600));
    let cases: Vec<Case> = cases().into_iter().chain(certified()).collect();
    for (number, case) in cases.iter().enumerate() {
        let mut values: Vec<(&str, &[u8])> = case.values.iter().map(|(key, value)| (*key, value.as_slice())).collect();
        values.push(("client_id", case.name.as_bytes()));
        let secret = format!("credentials-{number}");
        world.binary_secret(&secret, &values).await;
        let spec = json!({
            "tokenEndpoint": endpoint.url(),
            "grantType": "client_credentials",
            "clientAuthentication": {"method": "private_key_jwt", "assertion": case.assertion},
            "credentials": {"secretName": secret},
            "request": {"format": "form"},
        });
        world.integration(&format!("it-{number}"), &spec).await;
    }
    eventually("each integration has sent a request", std::time::Duration::from_secs(60), async || {
        let sent = endpoint.count();
        if sent >= cases.len() { Ok(()) } else { Err(format!("{sent} of {}\n{}", cases.len(), world.operator.logs())) }
    })
    .await;
    let assertions: BTreeMap<String, String> = endpoint
        .requests()
        .iter()
        .map(|request| (request.parameter("client_id"), request.parameter("client_assertion")))
        .collect();
    let signed: Vec<Signed> =
        cases.iter().map(|case| Signed { jwt: assertions[&case.name].clone(), key: case.key.clone() }).collect();
    for (case, (header, claims)) in cases.iter().zip(jose::verify(&signed)) {
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!(case.name), &json!(case.name)));
        if case.key.is_some() {
            assert_eq!(header, case.expected, "{}", case.name);
            assert!(claims["nbf"].is_null(), "{}", case.name);
            continue;
        }
        assert_eq!(header["x5t#S256"], case.expected["x5t#S256"], "{}", case.name);
        // The thumbprints are those of the first certificate: the verifier has compared them.
        assert!(header["x5t"].is_string() && header["x5c"].is_array(), "{header}");
        assert_eq!(claims["nbf"], claims["iat"], "{}", case.name);
        let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(expires, issued)| expires - issued);
        assert_eq!(lifetime, Some(90), "{}", case.name);
    }
    assert!(!world.observable_output().await.contains(PASSPHRASE));
}
