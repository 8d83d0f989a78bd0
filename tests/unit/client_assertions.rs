//! Guarantee: signatures and JWTs of the operator conform to the RFCs, according to their test vectors.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use oauth_operator::api::signed_jwt::SigningAlgorithm;
use oauth_operator::oauth::body::JsonTypes;
use oauth_operator::oauth::credentials::{Credential, Credentials};
use oauth_operator::oauth::error::RequestError;
use oauth_operator::oauth::jwt;
use oauth_operator::oauth::jwt::{Claims, JoseHeader, JwtStamp};
use oauth_operator::oauth::parameters::{RequestKind, RequestParts, build_request};
use oauth_operator::oauth::revocation::RevocationRequest;
use oauth_operator::oauth::signing_key::SigningKey;
use oauth_operator::spec::advice::explain;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use test_support::keys;
use test_support::spec::validated;

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.split_whitespace().collect::<String>()).expect("base64url")
}

/// One DER element: its tag, its length, its content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let bytes = length.to_be_bytes();
    let short: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let head = match length {
        0..128 => vec![tag, u8::try_from(length).unwrap()],
        _ => [vec![tag, 0x80 | u8::try_from(short.len()).unwrap()], short].concat(),
    };
    [head, content.to_vec()].concat()
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let positive = if bytes.first().is_some_and(|byte| *byte >= 0x80) { vec![0] } else { vec![] };
    der(2, &[positive, bytes.to_vec()].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// RFC 7515, appendix A.2: the key of the RS256 example, as PKCS#1.
fn rfc7515_rsa() -> SigningKey {
    let parts = [
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        "AQAB",
        "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
        "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
        "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
        "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
        "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
        "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
    ];
    let numbers: Vec<u8> = parts.iter().flat_map(|part| integer(&decode(part))).collect();
    let key = der(0x30, &[integer(&[0]), numbers].concat());
    SigningKey::from_pem(&pem("RSA PRIVATE KEY", &key)).expect("a key")
}

/// RFC 7515, appendix A.3: the key of the ES256 example, as SEC1.
fn rfc7515_ec() -> (SigningKey, Vec<u8>) {
    let private = decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
    let x = decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
    let y = decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let point = [vec![4], x, y].concat();
    let p256 = der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
    let bits = der(3, &[vec![0], point.clone()].concat());
    let key = der(0x30, &[integer(&[1]), der(4, &private), der(0xa0, &p256), der(0xa1, &bits)].concat());
    (SigningKey::from_pem(&pem("EC PRIVATE KEY", &key)).expect("a key"), point)
}

/// RFC 8037, appendix A.1, as PKCS#8.
fn rfc8037_ed25519() -> SigningKey {
    let private = decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    let algorithm = der(0x30, &der(6, &[0x2b, 0x65, 0x70]));
    let key = der(0x30, &[integer(&[0]), algorithm, der(4, &der(4, &private))].concat());
    SigningKey::from_pem(&pem("PRIVATE KEY", &key)).expect("a key")
}

/// The payload of the examples in RFC 7515.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn rfc_7515_a_2_rs256() {
    let message = format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}");
    let signature = rfc7515_rsa().sign(SigningAlgorithm::RS256, message.as_bytes()).expect("a signature");
    let expected = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    assert_eq!(jwt::encode(&signature), expected);
}

#[test]
fn rfc_7515_a_3_es256() {
    let (key, point) = rfc7515_ec();
    let message = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
    let signature_of_the_rfc = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    public.verify(message.as_bytes(), &decode(signature_of_the_rfc)).expect("the RFC's own signature");
    // ES256 signatures are randomized; each one must have 64 bytes, even if its numbers have leading zeros.
    for _ in 0..500 {
        let signature = key.sign(SigningAlgorithm::ES256, message.as_bytes()).expect("a signature");
        assert_eq!(signature.len(), 64);
        public.verify(message.as_bytes(), &signature).expect("a valid signature");
    }
    let jwk = jwt::jwk(&key).expect("a public key");
    assert_eq!(jwk["x"], "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
    assert_eq!(jwk["y"], "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
}

#[test]
fn rfc_8037_a_4_eddsa() {
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = rfc8037_ed25519().sign(SigningAlgorithm::EdDSA, message.as_bytes()).expect("a signature");
    let expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(jwt::encode(&signature), expected);
}

#[test]
fn ps256_signatures_are_verified_by_another_implementation() {
    let key = keys::rsa();
    let message = b"a message";
    let signature =
        SigningKey::from_pem(&key.pem).expect("a key").sign(SigningAlgorithm::PS256, message).expect("a signature");
    let n = decode(key.jwk["n"].as_str().expect("a modulus"));
    let public = RsaPublicKeyComponents { n, e: vec![1, 0, 1] };
    public.verify(&RSA_PSS_2048_8192_SHA256, message, &signature).expect("a valid signature");
    public.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature).expect_err("another algorithm");
}

/// RFC 9449, section 4.2: the claims of the example.
#[test]
fn rfc_9449_proof() {
    // The claims of the example, signed with a separate key.
    let (key, point) = rfc7515_ec();
    let fresh =
        JwtStamp { now: Timestamp::from_second(1_562_262_616).expect("a time"), id: "-BwC3ESc6acc2lTc".to_owned() };
    let dpop_proof = jwt::dpop_proof(&key, "POST", "https://server.example.com/token", None, &fresh).expect("a proof");
    let (header, claims) = parts(&dpop_proof);
    assert_eq!(header, json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwt::jwk(&key)}));
    let expected = json!({
        "jti": "-BwC3ESc6acc2lTc", "htm": "POST", "htu": "https://server.example.com/token", "iat": 1_562_262_616,
    });
    assert_eq!(claims, expected);
    verify(&dpop_proof, &point);
    let with_nonce =
        jwt::dpop_proof(&key, "POST", "https://server.example.com/token", Some("eyJ7S_zG.eyJH0-Z.HX4w-7v"), &fresh);
    assert_eq!(parts(&with_nonce.expect("a proof")).1["nonce"], "eyJ7S_zG.eyJH0-Z.HX4w-7v", "section 8");
    jwt::dpop_proof(&rfc7515_rsa(), "POST", "https://x", None, &fresh).expect_err("not a key of P-256");
}

/// RFC 7523, section 4: the claims and the header of the example.
#[test]
fn rfc_7523_assertion() {
    let (key, point) = rfc7515_ec();
    let fresh = JwtStamp { now: Timestamp::from_second(1_300_815_780).expect("a time"), id: "fresh".to_owned() };
    let others = json!({"nbf": 1_300_815_780, "http://claims.example.com/member": true});
    let claims = Claims {
        issuer: "https://jwt-idp.example.com",
        subject: Some("mailto:mike@example.com"),
        audience: Some("https://jwt-rp.example.net"),
        lifetime: Duration::from_hours(1),
        issued_at_skew: Duration::ZERO,
        not_before: false,
        others: others.as_object(),
    };
    let header = JoseHeader { key_id: Some("16"), ..JoseHeader::default() };
    let assertion = jwt::sign(&key, None, &header, &claims, &fresh).expect("an assertion");
    let (header, claims) = parts(&assertion);
    assert_eq!(header, json!({"alg": "ES256", "kid": "16", "typ": "JWT"}));
    let expected = json!({
        "iss": "https://jwt-idp.example.com", "sub": "mailto:mike@example.com", "aud": "https://jwt-rp.example.net",
        "nbf": 1_300_815_780, "exp": 1_300_819_380, "http://claims.example.com/member": true,
        // Added by the operator: the times, and a unique id.
        "iat": 1_300_815_780, "jti": "fresh",
    });
    assert_eq!(claims, expected);
    verify(&assertion, &point);
}

fn parts(token: &SecretString) -> (Value, Value) {
    let mut parts = token.expose_secret().split('.').map(|part| serde_json::from_slice(&decode(part)).ok());
    let (header, claims) = (parts.next().flatten(), parts.next().flatten());
    (header.expect("a header"), claims.expect("claims"))
}

fn verify(token: &SecretString, point: &[u8]) {
    let (message, signature) = token.expose_secret().rsplit_once('.').expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    public.verify(message.as_bytes(), &decode(signature)).expect("a valid signature");
}

#[test]
fn keys_are_parsed_in_all_formats_and_sign_with_their_algorithm() {
    let (rsa, ec, ed) = (keys::rsa(), keys::ec(), keys::ed25519());
    let generated = SigningKey::generate().expect("a key");
    let pkcs8 = keys::openssl(&["pkcs8", "-topk8", "-nocrypt"], &ec.pem);
    let cases = [
        ("RSA as PKCS#8", rsa.pem.clone(), SigningAlgorithm::RS256),
        ("RSA as PKCS#1", keys::pkcs1(&rsa).pem, SigningAlgorithm::RS256),
        ("EC as SEC1", ec.pem.clone(), SigningAlgorithm::ES256),
        ("EC as PKCS#8", pkcs8, SigningAlgorithm::ES256),
        ("EC with its parameters before it", format!("{}{}", EC_PARAMETERS, ec.pem), SigningAlgorithm::ES256),
        ("P-384 as PKCS#8", keys::ec384().pem, SigningAlgorithm::ES384),
        ("P-521 as PKCS#8", keys::ec521().pem, SigningAlgorithm::ES512),
        ("P-521 as SEC1", keys::openssl(&["ec"], &keys::ec521().pem), SigningAlgorithm::ES512),
        ("with the line breaks written out", rsa.pem.replace('\n', "\\n"), SigningAlgorithm::RS256),
        (
            "in the file of a Google service account",
            json!({"type": "service_account", "client_email": "a@b", "private_key": rsa.pem}).to_string(),
            SigningAlgorithm::RS256,
        ),
        ("Ed25519 as PKCS#8", ed.pem.clone(), SigningAlgorithm::EdDSA),
        ("a key that the operator generates for DPoP", generated.expose_secret().to_owned(), SigningAlgorithm::ES256),
        ("with surrounding spaces", format!("\n\n  {}\n", rsa.pem), SigningAlgorithm::RS256),
    ];
    for (case, pem, expected) in cases {
        let key = SigningKey::from_pem(&pem).unwrap_or_else(|why| panic!("{case}: {why}"));
        assert_eq!(key.default_algorithm(), Ok(expected), "{case}");
        key.sign(expected, b"message").unwrap_or_else(|why| panic!("{case}: {why}"));
        assert!(!format!("{key:?}").contains("PRIVATE"), "{case}");
    }
    let key = SigningKey::from_pem(&ed.pem).expect("a key");
    let public = UnparsedPublicKey::new(&ED25519, decode(ed.jwk["x"].as_str().expect("a key")));
    public.verify(b"message", &key.sign(SigningAlgorithm::EdDSA, b"message").expect("a signature")).expect("good");
}

/// `openssl ecparam -genkey` writes this before the key; it means prime256v1.
const EC_PARAMETERS: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";

#[test]
fn an_invalid_key_is_reported_with_the_reason() {
    let (rsa, ec) = (keys::rsa(), keys::ec());
    let small = keys::openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "");
    let other_curve = keys::openssl(&["ecparam", "-name", "secp256k1", "-genkey", "-noout"], "");
    let encrypted = keys::openssl(&["pkcs8", "-topk8", "-passout", "pass:word"], &rsa.pem);
    let public = keys::openssl(&["pkey", "-pubout"], &rsa.pem);
    let cut = rsa.pem[..400].to_owned();
    let spec = |algorithm: Option<&str>| {
        let assertion = algorithm.map_or(json!({}), |algorithm| json!({"algorithm": algorithm}));
        json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": assertion}})
    };
    let cases = [
        ("no key at all", "word".to_owned(), None, "is not a private key as PEM"),
        ("a truncated key", cut, None, "is not a private key as PEM"),
        ("a public key", public, None, "is not a private key as PEM"),
        ("a key with a password", encrypted, None, "is encrypted"),
        ("an RSA key of 1024 bits", small, None, "cannot be used for signing"),
        ("another curve", other_curve, None, "cannot be used for signing: use RSA of 2048 to 4096 bits, EC P-256"),
        ("ES256 with P-521", keys::ec521().pem, Some("ES256"), "is an EC key, which cannot sign with ES256"),
        ("ES512 with P-256", ec.pem.clone(), Some("ES512"), "is an EC key, which cannot sign with ES512"),
        ("RS256 with an EC key", ec.pem, Some("RS256"), "is an EC key, which cannot sign with RS256"),
        ("ES256 with an RSA key", rsa.pem, Some("ES256"), "is an RSA key, which cannot sign with ES256"),
    ];
    for (case, pem, algorithm, expected) in cases {
        let failure = prepared(spec(algorithm), &[(Credential::PrivateKey, &pem)]).expect_err(case);
        assert_eq!(failure.reason.as_str(), "CredentialsInvalid", "{case}");
        assert!(failure.message.contains("spec.credentials.keys.privateKey"), "{case}: {}", failure.message);
        assert!(failure.message.contains(expected), "{case}: {}", failure.message);
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(body.len() < 8 || !failure.message.contains(&body[..8]), "{case}: a part of the key is shown");
    }
}

fn credentials(more: &[(Credential, &str)]) -> Credentials {
    let defaults = [
        (Credential::ClientId, "the client"),
        (Credential::ClientSecret, "s3cr et/+"),
        (Credential::Username, "ada"),
        (Credential::Password, "word"),
        (Credential::SubjectToken, "subject"),
        (Credential::ActorToken, "actor"),
    ];
    defaults.iter().chain(more).map(|(credential, value)| (*credential, SecretString::from(*value))).collect()
}

fn fresh() -> JwtStamp {
    JwtStamp { now: Timestamp::from_second(1_800_000_000).expect("a time"), id: "fresh".to_owned() }
}

fn prepared(spec: Value, more: &[(Credential, &str)]) -> Result<RequestParts, RequestError> {
    let mut credentials = credentials(more);
    credentials.service_account_token = Some("the-service-account-token".into());
    build_request(&validated(spec).token_request, &credentials, &RequestKind::Token, &fresh()).map_err(explain)
}

fn members(prepared: &RequestParts) -> Vec<(&str, &str)> {
    prepared.parameters.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect()
}

fn member<'a>(prepared: &'a RequestParts, name: &str) -> &'a SecretString {
    let found = prepared.parameters.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("no {name}: {:?}", members(prepared))).1
}

#[test]
fn each_client_authentication_method_conforms_to_its_standard() {
    let method = |method: &str| json!({"clientAuthentication": {"method": method}});
    let post = prepared(method("client_secret_post"), &[]).expect("a request");
    let expected = [("grant_type", "client_credentials"), ("client_id", "the client"), ("client_secret", "s3cr et/+")];
    assert_eq!(members(&post), expected);
    assert!(post.authorization.is_none());

    // RFC 6749, section 2.3.1: form-encoded before they are joined.
    let basic = prepared(method("client_secret_basic"), &[]).expect("a request");
    assert_eq!(members(&basic), [("grant_type", "client_credentials")]);
    let expected = format!("Basic {}", STANDARD.encode("the+client:s3cr+et%2F%2B"));
    assert_eq!(basic.authorization.map(|header| header.header().expose_secret().to_owned()), Some(expected));

    let none = prepared(method("none"), &[]).expect("a request");
    assert_eq!(members(&none), [("grant_type", "client_credentials"), ("client_id", "the client")]);

    let by_token = json!({
        "clientAuthentication": {"method": "service_account_token"},
        "serviceAccountToken": {"serviceAccountName": "workload", "audience": "https://login.example.com"},
    });
    let by_token = prepared(by_token, &[]).expect("a request");
    let assertion = ("client_assertion", "the-service-account-token");
    let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert_eq!(
        members(&by_token),
        [("grant_type", "client_credentials"), ("client_id", "the client"), kind, assertion]
    );
}

#[test]
fn client_assertions_have_the_issuer_or_the_endpoint_as_audience() {
    let rsa = keys::rsa();
    let spec = |issuer: Option<&str>, assertion: Value| {
        let mut spec = json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": assertion}});
        if let Some(issuer) = issuer {
            spec["issuer"] = json!(issuer);
        }
        spec
    };
    let cases = [
        ("the endpoint", spec(None, json!({})), "https://login.example.com/token", 60),
        ("the issuer", spec(Some("https://login.example.com"), json!({})), "https://login.example.com", 60),
        ("the audience in the spec", spec(None, json!({"audience": "urn:x", "lifetime": "5m"})), "urn:x", 300),
    ];
    for (case, spec, audience, lifetime) in cases {
        let sent = prepared(spec, &[(Credential::PrivateKey, &rsa.pem)]).expect(case);
        let (header, claims) = parts(member(&sent, "client_assertion"));
        assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}), "{case}");
        let expected = json!({
            "iss": "the client", "sub": "the client", "aud": audience, "iat": 1_800_000_000_i64,
            "exp": 1_800_000_000_i64 + lifetime, "jti": "fresh",
        });
        assert_eq!(claims, expected, "{case}");
    }
    let by_secret = json!({"clientAuthentication": {"method": "client_secret_jwt"}});
    let sent = prepared(by_secret, &[]).expect("a request");
    let token = member(&sent, "client_assertion");
    assert_eq!(parts(token).0["alg"], "HS256");
    let (message, signature) = token.expose_secret().rsplit_once('.').expect("a signature");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cr et/+");
    ring::hmac::verify(&key, message.as_bytes(), &decode(signature)).expect("a valid signature");
}

#[test]
fn the_certificate_in_the_header_is_as_openssl_shows_it() {
    let (rsa, authority) = (keys::rsa(), keys::CertificateAuthority::new());
    let certificate = authority.client("it");
    let chain = format!("{}{}", certificate.pem, authority.pem);
    let assertion = json!({
        "issuer": "it", "certificateThumbprint": true, "certificateThumbprintSha1": true, "certificateChain": true,
        "notBefore": true, "issuedAtSkew": "60s",
    });
    let specs = [
        ("client_assertion", json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": assertion}})),
        ("assertion", json!({"grantType": "jwt_bearer", "assertion": assertion})),
    ];
    let more = [(Credential::PrivateKey, rsa.pem.as_str()), (Credential::TlsCertificate, chain.as_str())];
    let fingerprint = |hash: &str| {
        let printed = keys::openssl(&["x509", "-noout", "-fingerprint", hash], &certificate.pem);
        let hexadecimal = printed.trim().rsplit('=').next().expect("a fingerprint").replace(':', "");
        jwt::encode(&hex::decode(hexadecimal).expect("hexadecimal"))
    };
    let base64 = |pem: &str| pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    for (name, spec) in specs {
        let required = validated(spec.clone()).token_request.required_credentials();
        assert!(required.contains(&Credential::TlsCertificate), "{name}: {required:?}");
        let sent = prepared(spec.clone(), &more).expect("a request");
        let (header, claims) = parts(member(&sent, name));
        let expected = json!({
            "alg": "RS256", "typ": "JWT", "x5t#S256": fingerprint("-sha256"), "x5t": fingerprint("-sha1"),
            "x5c": [base64(&certificate.pem), base64(&authority.pem)],
        });
        assert_eq!(header, expected, "{name}");
        assert_eq!((&claims["nbf"], &claims["iat"]), (&json!(1_799_999_940), &json!(1_799_999_940)), "{name}");
        assert_eq!(claims["exp"], 1_800_000_060, "{name}");
        // Nothing but certificates is sent, and not too many of them.
        let other = keys::encrypted(&rsa.pem, "word", &[]).replace("ENCRYPTED PRIVATE KEY", "CERTIFICATE");
        for (value, says) in [
            ("kanarie-no-certificate", "is not a certificate as PEM"),
            (other.as_str(), "the client certificate cannot be parsed"),
            (chain.repeat(20).as_str(), "have more than 16 KiB as x5c"),
        ] {
            let failure = prepared(spec.clone(), &[more[0], (Credential::TlsCertificate, value)]).expect_err(says);
            assert_eq!(failure.reason.as_str(), "CredentialsInvalid");
            assert!(failure.message.contains(says), "{}", failure.message);
            assert!(failure.message.contains("spec.credentials.keys.tlsCertificate"), "{}", failure.message);
        }
    }
}

#[test]
fn each_grant_sends_its_parameters() {
    let rsa = keys::rsa();
    let key = [(Credential::PrivateKey, rsa.pem.as_str())];
    let client = [("client_id", "the client"), ("client_secret", "s3cr et/+")];

    let password = prepared(json!({"grantType": "password", "scope": "a"}), &[]).expect("a request");
    let user = [("username", "ada"), ("password", "word"), ("scope", "a")];
    assert_eq!(members(&password), [&[("grant_type", "password")][..], &client, &user].concat());

    let assertion =
        json!({"issuer": "iss", "subject": "sub", "audience": "aud", "claims": {"scope": "x"}, "keyId": "k"});
    let sent = prepared(json!({"grantType": "jwt_bearer", "assertion": assertion}), &key).expect("a request");
    assert_eq!(members(&sent)[0], ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"));
    let (header, claims) = parts(member(&sent, "assertion"));
    assert_eq!(header["kid"], "k");
    assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&json!("iss"), &json!("sub"), &json!("aud")));
    assert_eq!(claims["scope"], "x");

    let header_only = json!({"issuer": "iss", "place": "AuthorizationHeader"});
    let sent = prepared(json!({"grantType": "jwt_bearer", "assertion": header_only}), &key).expect("a request");
    assert_eq!(members(&sent), [], "GitHub expects an empty body");
    let bearer = sent.authorization.as_ref().expect("a header").header();
    let bearer = bearer.expose_secret();
    assert!(bearer.starts_with("Bearer ey"), "{bearer}");

    let exchange = json!({"actorTokenType": "urn:actor", "requestedTokenType": "urn:requested"});
    let sent = prepared(json!({"grantType": "token_exchange", "tokenExchange": exchange}), &[]).expect("a request");
    let expected = [
        ("subject_token", "subject"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("actor_token", "actor"),
        ("actor_token_type", "urn:actor"),
        ("requested_token_type", "urn:requested"),
    ];
    let grant = [("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")];
    assert_eq!(members(&sent), [&grant[..], &client, &expected].concat());

    let federated = json!({
        "grantType": "token_exchange", "tokenExchange": {"subjectTokenSource": "ServiceAccount"},
        "clientAuthentication": {"method": "none"},
        "serviceAccountToken": {"serviceAccountName": "workload", "audience": "x"},
    });
    let sent = prepared(federated, &[]).expect("a request");
    assert_eq!(member(&sent, "subject_token").expose_secret(), "the-service-account-token");
    assert_eq!(member(&sent, "subject_token_type").expose_secret(), "urn:ietf:params:oauth:token-type:jwt");
}

#[test]
fn parameters_are_renamed_listed_and_repeated() {
    let renamed = json!({
        "grantType": "user_password", "request": {"parameterNames": {"username": "email", "password": "pass"}},
    });
    let sent = prepared(renamed, &[]).expect("a request");
    assert_eq!(members(&sent), [("email", "ada"), ("pass", "word")]);

    let several = json!({
        "resource": {"key": "resource", "values": ["https://a", "https://b"]}, "scope": "x y",
        "request": {"scopeFormat": "list"},
    });
    let token_request = validated(several.clone()).token_request;
    let sent = prepared(several, &[]).expect("a request");
    let body: Value = serde_json::from_slice(&oauth_operator::oauth::body::encode(
        token_request.format,
        &sent.parameters,
        JsonTypes { lists: &["scope"], ..JsonTypes::default() },
    ))
    .expect("JSON");
    assert_eq!((&body["resource"], &body["scope"]), (&json!(["https://a", "https://b"]), &json!(["x", "y"])));

    let form = json!({
        "resource": {"key": "resource", "values": ["https://a", "https://b"]}, "request": {"format": "form"},
    });
    let token_request = validated(form.clone()).token_request;
    let sent = prepared(form, &[]).expect("a request");
    let body = oauth_operator::oauth::body::encode(token_request.format, &sent.parameters, JsonTypes::default());
    let body = std::str::from_utf8(&body).expect("a form");
    assert!(body.ends_with("&resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb"), "RFC 8707, section 2: {body}");

    let one = json!({"scope": "x", "request": {"scopeFormat": "list"}});
    let sent = prepared(one.clone(), &[]).expect("a request");
    let body = oauth_operator::oauth::body::encode(
        validated(one).token_request.format,
        &sent.parameters,
        JsonTypes { lists: &["scope"], ..JsonTypes::default() },
    );
    let body = std::str::from_utf8(&body).expect("JSON");
    assert!(body.contains(r#""scope":["x"]"#), "a single scope is also sent as a list: {body}");
}

#[test]
fn a_revocation_sends_the_token_and_the_client() {
    let revocation = RevocationRequest { endpoint: None, token: "the-token".into(), hint: "refresh_token" };
    let spec = json!({"scope": "x", "request": {"parameters": {"audience": "y"}}});
    let purpose = RequestKind::Revocation(&revocation);
    let sent = build_request(&validated(spec).token_request, &credentials(&[]), &purpose, &fresh()).expect("a request");
    let expected = [
        ("client_id", "the client"),
        ("client_secret", "s3cr et/+"),
        ("token", "the-token"),
        ("token_type_hint", "refresh_token"),
    ];
    assert_eq!(members(&sent), expected);
}

#[test]
fn each_jwt_id_is_unique() {
    let now = Timestamp::UNIX_EPOCH;
    let ids: std::collections::HashSet<String> = (0..1000).map(|_| JwtStamp::new(now).id).collect();
    assert_eq!(ids.len(), 1000);
}
