//! What each rule of the CRD admits and refuses.

use serde_json::{Value, json};

/// A rule, by the beginning of its message, with changes that it admits and changes that it refuses.
pub struct Rule {
    pub message: &'static str,
    pub accepted: Vec<Value>,
    pub refused: Vec<Value>,
}

fn rule(message: &'static str, accepted: Vec<Value>, refused: Vec<Value>) -> Rule {
    Rule { message, accepted, refused }
}

/// The same field with several values.
fn each(path: &str, values: &[&str]) -> Vec<Value> {
    values.iter().map(|value| at(path, &json!(value))).collect()
}

fn at(path: &str, value: &Value) -> Value {
    path.rsplit('.').fold(value.clone(), |inner, name| json!({name: inner}))
}

fn fallback_to(endpoint: &str) -> Value {
    let fallback = json!({"grantType": "user_password", "tokenEndpoint": endpoint});
    json!({"grantType": "refresh_token", "renewal": {"fallback": fallback}})
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn rules() -> Vec<Rule> {
    vec![
        rule(
            "tokenEndpoint must be an absolute http or https URL",
            each("tokenEndpoint", &["https://a.example.com", "http://127.0.0.1:8080/t?x=1", "https://[::1]/token"]),
            each(
                "tokenEndpoint",
                &[
                    "login.example.com",
                    "/token",
                    "ftp://example.com/t",
                    "https://u:p@example.com/t",
                    "https://example.com/t#f",
                    "https://",
                    "https://exa mple.com/",
                    "https://u@example.com",
                ],
            ),
        ),
        rule(
            "tokenLife must be a duration from 5s to 8760h",
            each("tokenLife", &["5s", "1h30m", "8760h", "90.5s"]),
            each("tokenLife", &["4s", "8761h", "1d", "90", "-5s", "forever", ""]),
        ),
        rule(
            "renewBefore must be a duration from 1s to 8760h",
            each("renewBefore", &["1s", "10m"]),
            each("renewBefore", &["999ms", "0s", "soon"]),
        ),
        rule(
            "renewBefore must be shorter than tokenLife",
            vec![json!({"tokenLife": "10m", "renewBefore": "9m59s"})],
            vec![json!({"tokenLife": "10m", "renewBefore": "10m"}), json!({"tokenLife": "10m", "renewBefore": "1h"})],
        ),
        rule(
            "renewal.fallback is for grantType refresh_token",
            vec![json!({"grantType": "refresh_token", "renewal": {"fallback": {"grantType": "user_password"}}})],
            vec![json!({"renewal": {"fallback": {"grantType": "client_credentials"}}})],
        ),
        rule(
            "renewal.fallback.tokenEndpoint must be an absolute http or https URL",
            vec![fallback_to("https://login.example.com/login")],
            vec![fallback_to("login.example.com"), fallback_to("https://u:p@example.com/")],
        ),
        rule(
            "credentials.secretName must be the name of a Secret",
            each("credentials.secretName", &["a", "a.b-c"]),
            each("credentials.secretName", &["A", "a_b", "-a", "a/b"]),
        ),
        rule(
            "target.secretName must be a name for a Secret",
            each("target.secretName", &["a", "a.b-c"]),
            each("target.secretName", &["A", "a_b", "a..b"]),
        ),
        rule(
            "spec.target.secretName (default: the integration's name) must differ",
            vec![at("target.secretName", &json!("other"))],
            vec![at("target.secretName", &json!("credentials")), at("credentials.secretName", &json!("NAME"))],
        ),
        rule(
            "resource.key must not be a member that the grant itself fills",
            vec![
                json!({"resource": {"key": "audience", "value": "x"}}),
                json!({"resource": {"key": "any", "value": "x"}}),
            ],
            vec![
                json!({"resource": {"key": "client_id", "value": "x"}}),
                json!({"resource": {"key": "scope", "value": "x"}}),
            ],
        ),
        rule(
            "request.headers must not set Authorization",
            vec![json!({"request": {"headers": {"X-Tenant": "evox"}}})],
            [
                "Authorization",
                "cookie",
                "HOST",
                "Content-Type",
                "Proxy-Authorization",
                "Content-Length",
                "Transfer-Encoding",
                "Connection",
            ]
            .map(|name| json!({"request": {"headers": {name: "x"}}}))
            .to_vec(),
        ),
        rule(
            "request.headers must hold header names",
            vec![json!({"request": {"headers": {"X-1": "all ~ printable"}}})],
            vec![
                json!({"request": {"headers": {"X 1": "x"}}}),
                json!({"request": {"headers": {"X-1": "a\r\nX-2: b"}}}),
                json!({"request": {"headers": {"X-1": "ü"}}}),
            ],
        ),
        rule(
            "request.timeout must be a duration from 1s to 60s",
            each("request.timeout", &["1s", "60s", "1m"]),
            each("request.timeout", &["999ms", "61s", "0"]),
        ),
        rule(
            "target.type must not be a type that grants rights",
            each("target.type", &["Opaque", "example.com/token"]),
            each("target.type", &["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"]),
        ),
        rule(
            "target.labels must not set app.kubernetes.io/managed-by",
            vec![json!({"target": {"labels": {"app.kubernetes.io/name": "x"}}})],
            vec![
                json!({"target": {"labels": {"app.kubernetes.io/managed-by": "x"}}}),
                json!({"target": {"labels": {"oauth.evolutionx.io/integration-uid": "x"}}}),
            ],
        ),
        rule(
            "target.labels must be valid labels",
            vec![json!({"target": {"labels": {"example.com/team": "erp_1.x-y", "empty": ""}}})],
            vec![
                json!({"target": {"labels": {"a b": "x"}}}),
                json!({"target": {"labels": {"a": "x y"}}}),
                json!({"target": {"labels": {"a": "-x"}}}),
            ],
        ),
        rule(
            "target.annotations must not set anything under oauth.evolutionx.io/",
            vec![json!({"target": {"annotations": {"example.com/note": "any text, ü"}}})],
            vec![json!({"target": {"annotations": {"oauth.evolutionx.io/renew-at": "x"}}})],
        ),
        rule(
            "target.labels must not set keys by which other controllers are steered",
            vec![
                json!({"target": {"labels": {"app.kubernetes.io/part-of": "erp", "example.com/team": "x", "team": "x"}}}),
            ],
            vec![
                json!({"target": {"labels": {"argocd.argoproj.io/secret-type": "cluster"}}}),
                json!({"target": {"labels": {"kubernetes.io/cluster-service": "true"}}}),
                json!({"target": {"labels": {"toolkit.fluxcd.io/tenant": "x"}}}),
            ],
        ),
        rule(
            "target.annotations must not set keys by which other controllers are steered",
            vec![json!({"target": {"annotations": {"example.com/reflection-allowed": "true"}}})],
            vec![
                json!({"target": {"annotations": {"reflector.v1.k8s.emberstack.com/reflection-allowed": "true"}}}),
                json!({"target": {"annotations": {"replicator.v1.mittwald.de/replicate-to": "x"}}}),
                json!({"target": {"annotations": {"kubernetes.io/service-account.name": "admin"}}}),
            ],
        ),
        rule(
            "target.annotations must have valid keys",
            vec![json!({"target": {"annotations": {"note": "x"}}})],
            vec![json!({"target": {"annotations": {"a b": "x"}}})],
        ),
        rule("target.keys must be distinct", vec![json!({"target": {"keys": all_keys()}})], pairs_of_equal_keys()),
        rule(
            "tokenEndpoint or issuer must be given",
            vec![json!({"tokenEndpoint": null, "issuer": "https://login.example.com"})],
            vec![json!({"tokenEndpoint": null})],
        ),
        rule(
            "issuer must be an absolute http or https URL",
            each("issuer", &["https://login.example.com/realms/erp", "http://127.0.0.1:8080"]),
            each("issuer", &["login.example.com", "https://u:p@example.com", "https://example.com#f"]),
        ),
        rule(
            "credentials must be given",
            vec![
                without_secret("client_credentials", &json!({"method": "service_account_token"})),
                json!({"credentials": null, "clientId": "c", "clientAuthentication": {"method": "none"}}),
            ],
            vec![
                json!({"credentials": null}),
                json!({"credentials": null, "clientAuthentication": {"method": "private_key_jwt"}}),
                without_secret("jwt_bearer", &json!({"method": "service_account_token"})),
                json!({"credentials": null, "grantType": "token_exchange", "clientAuthentication": {"method": "none"}}),
            ],
        ),
        rule(
            "assertion is for grantType jwt_bearer",
            vec![
                json!({"grantType": "jwt_bearer", "assertion": {"issuer": "x", "claims": {"a": {"b": [1]}}}}),
                json!({
                    "grantType": "refresh_token", "assertion": {},
                    "renewal": {"fallback": {"grantType": "jwt_bearer"}},
                }),
            ],
            vec![json!({"assertion": {"issuer": "x"}})],
        ),
        rule(
            "tokenExchange is for grantType token_exchange",
            vec![json!({"grantType": "token_exchange", "tokenExchange": {"requestedTokenType": "urn:x"}})],
            vec![json!({"tokenExchange": {}}), json!({"grantType": "password", "tokenExchange": {}})],
        ),
        rule(
            "serviceAccountToken must be given where",
            vec![json!({
                "grantType": "token_exchange", "tokenExchange": {"subjectTokenSource": "ServiceAccount"},
                "serviceAccountToken": service_account(&json!({})),
            })],
            vec![
                json!({"clientAuthentication": {"method": "service_account_token"}}),
                json!({"serviceAccountToken": service_account(&json!({}))}),
                json!({"grantType": "token_exchange", "tokenExchange": {"subjectTokenSource": "ServiceAccount"}}),
            ],
        ),
        rule(
            "serviceAccountToken.lifetime must be a duration from 10m to 1h",
            lifetimes(&["10m", "1h"], |lifetime| by_service_account(&json!({"lifetime": lifetime}))),
            lifetimes(&["9m", "61m", "x"], |lifetime| by_service_account(&json!({"lifetime": lifetime}))),
        ),
        rule(
            "serviceAccountToken.serviceAccountName must be the name of a ServiceAccount",
            vec![by_service_account(&json!({"serviceAccountName": "a.b-c"}))],
            vec![by_service_account(&json!({"serviceAccountName": "A"}))],
        ),
        rule(
            "clientAuthentication is not sent by grantType user_password",
            vec![json!({"grantType": "password", "clientAuthentication": {"method": "client_secret_basic"}})],
            vec![json!({"grantType": "user_password", "clientAuthentication": {"method": "client_secret_basic"}})],
        ),
        rule(
            "clientAuthentication.assertion is for the methods",
            vec![json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": {"algorithm": "PS256"}}})],
            vec![
                json!({"clientAuthentication": {"method": "client_secret_basic", "assertion": {}}}),
                json!({"clientAuthentication": {"assertion": {}}}),
            ],
        ),
        rule(
            "clientAuthentication.assertion.algorithm is for private_key_jwt",
            vec![json!({"clientAuthentication": {"method": "client_secret_jwt", "assertion": {"audience": "x"}}})],
            vec![json!({"clientAuthentication": {"method": "client_secret_jwt", "assertion": {"algorithm": "RS256"}}})],
        ),
        rule(
            "clientAuthentication.assertion.lifetime must be a duration from 10s to 1h",
            lifetimes(&["10s", "1h"], client_assertion),
            lifetimes(&["9s", "61m", "1d"], client_assertion),
        ),
        rule(
            "assertion.lifetime must be a duration from 10s to 1h",
            lifetimes(&["10s", "1h"], assertion),
            lifetimes(&["9s", "61m", ""], assertion),
        ),
        rule(
            "connection.caBundle.name must be the name of",
            vec![json!({"connection": {"caBundle": {"name": "a.b-c"}}})],
            vec![
                json!({"connection": {"caBundle": {"name": "A"}}}),
                json!({"connection": {"caBundle": {"name": "a/b"}}}),
            ],
        ),
        rule(
            "connection.proxy must be an absolute http or https URL",
            each("connection.proxy", &["http://proxy.example.com:3128"]),
            each("connection.proxy", &["proxy:3128", "http://u:p@proxy:3128", "socks5://proxy:1080"]),
        ),
        rule(
            "renewal.refresh is for renewal.strategy refresh_token",
            vec![
                json!({"grantType": "password", "renewal": {"strategy": "refresh_token", "refresh": {"format": "form"}}}),
            ],
            vec![json!({"renewal": {"refresh": {}}}), json!({"renewal": {"strategy": "grant", "refresh": {}}})],
        ),
        rule(
            "renewal.refresh is not for grantType refresh_token",
            vec![json!({"grantType": "refresh_token", "renewal": {"strategy": "refresh_token"}})],
            vec![json!({"grantType": "refresh_token", "renewal": {"strategy": "refresh_token", "refresh": {}}})],
        ),
        rule(
            "renewal.refresh.tokenEndpoint must be an absolute http or https URL",
            vec![refresh_to("https://login.example.com/refresh")],
            vec![refresh_to("login.example.com"), refresh_to("https://u:p@example.com/")],
        ),
        rule(
            "request.bodyKeys must rename members that the request holds",
            vec![json!({"request": {"bodyKeys": {"username": "email", "password": "pass"}}})],
            vec![json!({"request": {"bodyKeys": {"email": "username"}}})],
        ),
        rule(
            "request.bodyKeys must give each member another name",
            vec![json!({"request": {"bodyKeys": {"username": "a", "password": "b"}}})],
            vec![json!({"request": {"bodyKeys": {"username": "a", "password": "a"}}})],
        ),
        rule(
            "request.scopeFormat list is for JSON bodies",
            vec![
                json!({"request": {"scopeFormat": "list"}}),
                json!({"request": {"scopeFormat": "text", "format": "form"}}),
            ],
            vec![json!({"request": {"scopeFormat": "list", "format": "form"}})],
        ),
        rule(
            "resource must have either value or values",
            vec![json!({"resource": {"key": "resource", "values": ["https://a", "https://b"]}})],
            vec![
                json!({"resource": {"key": "resource"}}),
                json!({"resource": {"key": "resource", "value": "https://a", "values": ["https://b"]}}),
            ],
        ),
        rule(
            "response.extra must have keys that a Secret can have",
            vec![json!({"response": {"extra": {"instance_url": "instance_url", "a.b-c": "x"}}})],
            vec![json!({"response": {"extra": {"a b": "x"}}}), json!({"response": {"extra": {"": "x"}}})],
        ),
        rule(
            "response.extra must not use a key of target.keys",
            vec![json!({"response": {"extra": {"scope": "x"}}})],
            vec![
                json!({"response": {"extra": {"access_token": "x"}}}),
                json!({"response": {"extra": {"refresh_token": "x"}}}),
                json!({"response": {"extra": {"dpop_key": "x"}}}),
                json!({"response": {"extra": {"scope": "x"}}, "target": {"keys": {"scope": "scope"}}}),
                json!({"response": {"extra": {"ends": "x"}}, "target": {"keys": {"expiresAt": "ends"}}}),
            ],
        ),
        rule(
            "revocation.endpoint must be given where there is no issuer",
            vec![
                json!({"revocation": {"endpoint": "https://login.example.com/revoke", "onDeletion": true}}),
                json!({"issuer": "https://login.example.com", "revocation": {"onDeletion": true}}),
            ],
            vec![json!({"revocation": {"onDeletion": true}})],
        ),
        rule(
            "revocation.endpoint must be an absolute http or https URL",
            each("revocation.endpoint", &["https://login.example.com/revoke"]),
            each("revocation.endpoint", &["/revoke", "ftp://example.com"]),
        ),
        rule(
            "target.deletionPolicy Retain keeps what revocation.onDeletion makes worthless",
            vec![
                json!({"issuer": "https://a", "revocation": {"onDeletion": true}, "target": {"deletionPolicy": "Delete"}}),
                json!({"issuer": "https://a", "revocation": {"afterRenewal": "1m"}, "target": {"deletionPolicy": "Retain"}}),
            ],
            vec![json!({
                "issuer": "https://a", "revocation": {"onDeletion": true}, "target": {"deletionPolicy": "Retain"},
            })],
        ),
        rule(
            "revocation.afterRenewal must be a duration from 1s to 24h",
            lifetimes(&["1s", "24h"], after_renewal),
            lifetimes(&["999ms", "25h"], after_renewal),
        ),
    ]
}

fn lifetimes(values: &[&str], change: impl Fn(&str) -> Value) -> Vec<Value> {
    values.iter().map(|value| change(value)).collect()
}

fn assertion(lifetime: &str) -> Value {
    json!({"grantType": "jwt_bearer", "assertion": {"lifetime": lifetime}})
}

fn client_assertion(lifetime: &str) -> Value {
    json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": {"lifetime": lifetime}}})
}

fn after_renewal(after: &str) -> Value {
    json!({"revocation": {"endpoint": "https://login.example.com/revoke", "afterRenewal": after}})
}

fn refresh_to(endpoint: &str) -> Value {
    json!({"grantType": "password", "renewal": {"strategy": "refresh_token", "refresh": {"tokenEndpoint": endpoint}}})
}

fn service_account(more: &Value) -> Value {
    let mut token = json!({"serviceAccountName": "workload", "audience": "https://login.example.com"});
    for (field, value) in more.as_object().into_iter().flatten() {
        token[field] = value.clone();
    }
    token
}

fn by_service_account(more: &Value) -> Value {
    json!({"clientAuthentication": {"method": "service_account_token"}, "serviceAccountToken": service_account(more)})
}

fn without_secret(grant: &str, authentication: &Value) -> Value {
    json!({
        "credentials": null, "grantType": grant, "clientAuthentication": authentication,
        "serviceAccountToken": service_account(&json!({})),
    })
}

const KEYS: [&str; 6] = ["accessToken", "refreshToken", "tokenType", "expiresAt", "scope", "dpopKey"];

fn all_keys() -> Value {
    json!({"accessToken": "a", "refreshToken": "b", "tokenType": "c", "expiresAt": "d", "scope": "e", "dpopKey": "f"})
}

fn pairs_of_equal_keys() -> Vec<Value> {
    let pairs =
        KEYS.iter().enumerate().flat_map(|(index, one)| KEYS[index + 1..].iter().map(move |other| (one, other)));
    pairs
        .map(|(one, other)| {
            let mut keys = all_keys();
            keys[*other] = keys[*one].clone();
            json!({"target": {"keys": keys}})
        })
        .collect()
}
