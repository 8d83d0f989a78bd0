//! Guarantee: keys in JSON are read as the RFCs define them, their ids are sent, and what is not a private key is reported.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth_operator::api::signed_jwt::SigningAlgorithm;
use oauth_operator::oauth::key_error::KeyError;
use oauth_operator::oauth::signing_key::SigningKey;
use serde_json::{Value, json};
use test_support::keys;

/// RFC 7515, appendix A.2.1, A.3.1 and A.4.1, and RFC 8037, appendix A.1.
fn examples() -> [(SigningAlgorithm, Value); 4] {
    [
        (
            SigningAlgorithm::RS256,
            json!({
                "kty": "RSA",
                "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
                "e": "AQAB",
                "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
                "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
                "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
                "dp": "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
                "dq": "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
                "qi": "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
            }),
        ),
        (
            SigningAlgorithm::ES256,
            json!({
                "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
            }),
        ),
        (
            SigningAlgorithm::ES512,
            json!({
                "kty": "EC", "crv": "P-521",
                "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
                "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
                "d": "AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C",
            }),
        ),
        (
            SigningAlgorithm::EdDSA,
            json!({
                "kty": "OKP", "crv": "Ed25519", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }),
        ),
    ]
}

#[test]
fn the_keys_of_the_rfcs_sign_as_in_the_rfcs() {
    let [rsa, ec, p521, ed] = examples().map(|(algorithm, jwk)| {
        let key = SigningKey::from_pem(&jwk.to_string()).unwrap_or_else(|why| panic!("{jwk}: {why}"));
        assert_eq!(key.default_algorithm(), Ok(algorithm));
        assert_eq!(key.key_id(), None);
        let shown = format!("{key:?}");
        assert!(!shown.contains(jwk["d"].as_str().expect("d")), "{shown}");
        key
    });
    // RFC 7515, appendix A.2.1.
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signed = rsa.sign(SigningAlgorithm::RS256, format!("eyJhbGciOiJSUzI1NiJ9.{payload}").as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signed.expect("a signature"));
    assert!(signature.starts_with("cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiu"), "{signature}");
    // RFC 8037, appendix A.4.
    let signed = ed.sign(SigningAlgorithm::EdDSA, b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
    let expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(URL_SAFE_NO_PAD.encode(signed.expect("a signature")), expected);
    assert_eq!(ec.sign(SigningAlgorithm::ES256, b"message").expect("a signature").len(), 64);
    assert_eq!(p521.sign(SigningAlgorithm::ES512, b"message").expect("a signature").len(), 132);
}

/// RFC 6979, appendix A.2.7: the signature of P-521 with SHA-512.
#[test]
fn es512_signs_as_rfc_6979() {
    let bytes = |hexadecimal: &str| hex::decode(format!("{hexadecimal:0>132}")).expect("hexadecimal");
    let encode = |hexadecimal: &str| URL_SAFE_NO_PAD.encode(bytes(hexadecimal));
    let jwk = json!({
        "kty": "EC", "crv": "P-521",
        "d": encode("FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538"),
        "x": encode("1894550D0785932E00EAA23B694F213F8C3121F86DC97A04E5A7167DB4E5BCD371123D46E45DB6B5D5370A7F20FB633155D38FFA16D2BD761DCAC474B9A2F5023A4"),
        "y": encode("493101C962CD4D2FDDF782285E64584139C2F91B47F87FF82354D6630F746A28A0DB25741B5B34A828008B22ACC23F924FAAFBD4D33F81EA66956DFEAA2BFDFCF5"),
    });
    let key = SigningKey::from_pem(&jwk.to_string()).expect("a key");
    let r = "C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA";
    let s = "617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A";
    assert_eq!(key.sign(SigningAlgorithm::ES512, b"sample"), Ok([bytes(r), bytes(s)].concat()));
}

#[test]
fn ids_and_algorithms_are_those_of_the_key() {
    let [(_, rsa), (_, ec), ..] = examples();
    let with = |jwk: &Value, more: Value| {
        let mut jwk = jwk.clone();
        jwk.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        SigningKey::from_pem(&jwk.to_string())
    };
    let key = with(&rsa, json!({"kid": "key-2026", "alg": "PS256", "use": "sig", "x5c": ["x"]})).expect("a key");
    assert_eq!((key.key_id(), key.default_algorithm()), (Some("key-2026"), Ok(SigningAlgorithm::PS256)));
    // An algorithm that does not sign, or not with a private key.
    for other in ["RSA-OAEP", "HS256", "none"] {
        let key = with(&rsa, json!({"alg": other})).expect("a key");
        assert_eq!(key.default_algorithm(), Ok(SigningAlgorithm::RS256), "{other}");
    }
    // Leading zeros of numbers may be missing, and padding may be there.
    let padded = json!({"d": format!("{}=", ec["d"].as_str().expect("d"))});
    assert!(with(&ec, padded).is_ok());
    let google = json!({"type": "service_account", "private_key": keys::rsa().pem, "private_key_id": "0f3a9c81"});
    let key = SigningKey::from_pem(&google.to_string()).expect("a key");
    assert_eq!(key.key_id(), Some("0f3a9c81"));
    let long = with(&ec, json!({"kid": "x".repeat(257)})).err();
    assert_eq!(long, Some(KeyError::KeyIdTooLong));
}

#[test]
fn a_jwk_that_is_no_private_key_is_reported() {
    let [(_, rsa), (_, ec), ..] = examples();
    let without = |jwk: &Value, member: &str| {
        let mut jwk = jwk.clone();
        jwk.as_object_mut().expect("an object").remove(member);
        jwk
    };
    let with = |member: &str, value: &str| {
        let mut jwk = ec.clone();
        jwk[member] = json!(value);
        jwk
    };
    let cases = [
        (json!({"keys": [ec]}), KeyError::JwkSet),
        (without(&ec, "d"), KeyError::PublicJwk),
        (without(&rsa, "d"), KeyError::PublicJwk),
        (json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ"}), KeyError::SymmetricJwk),
        (without(&rsa, "p"), KeyError::MalformedJwk),
        (without(&ec, "y"), KeyError::MalformedJwk),
        (with("d", "not base64url!"), KeyError::MalformedJwk),
        (with("d", &"A".repeat(400)), KeyError::MalformedJwk),
        (with("crv", "secp256k1"), KeyError::UnsupportedCurve),
        (with("crv", "P-384"), KeyError::Unsupported),
        (with("x", ec["y"].as_str().expect("y")), KeyError::Unsupported),
        (with("kty", "AKP"), KeyError::Unsupported),
        (json!({"kty": "OKP", "crv": "X25519", "d": "AA", "x": "AA"}), KeyError::Unsupported),
        (json!({"something": "else"}), KeyError::NotPem),
        (json!({"kty": 5}), KeyError::NotPem),
    ];
    for (jwk, expected) in cases {
        assert_eq!(SigningKey::from_pem(&jwk.to_string()).err(), Some(expected), "{jwk}");
    }
}
