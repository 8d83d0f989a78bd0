//! Specs that each rule of the CRD accepts or rejects.

use serde_json::{Value, json};

/// A rule, identified by the start of its message, with changes of a spec that it accepts or rejects.
pub struct Rule {
    pub message: &'static str,
    pub accepted: Vec<Value>,
    pub rejected: Vec<Value>,
}

fn rule(message: &'static str, accepted: Vec<Value>, rejected: Vec<Value>) -> Rule {
    Rule { message, accepted, rejected }
}

/// Specs that set one field to each of these values.
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

fn refresh_with(parameters: &Value) -> Value {
    json!({"grantType": "password", "renewal": {"strategy": "refresh_token", "refresh": {"parameters": parameters}}})
}

/// This many headers of 2,000 bytes.
fn headers(number: usize) -> Value {
    (0..number).map(|number| (format!("X-{number}"), json!("h".repeat(2000)))).collect()
}

/// This many parameters of 4 KiB.
fn parameters(number: usize) -> Value {
    (0..number).map(|number| (format!("p{number}"), json!("p".repeat(4096)))).collect()
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
            "renewal.fallback applies only to grantType refresh_token",
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
            "target.secretName must be a valid name for a Secret",
            each("target.secretName", &["a", "a.b-c"]),
            each("target.secretName", &["A", "a_b", "a..b"]),
        ),
        rule(
            "spec.target.secretName (default: the integration's name) must differ",
            vec![at("target.secretName", &json!("other"))],
            vec![at("target.secretName", &json!("credentials")), at("credentials.secretName", &json!("NAME"))],
        ),
        rule(
            "resource.key must not be a parameter that the grant itself sets",
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
            "request.headers must not set headers that carry credentials",
            vec![json!({"request": {"headers": {"X-Tenant": "evox", "Accept": "x", "X-GitHub-Api-Version": "x"}}})],
            [
                "Authorization",
                "cookie",
                "HOST",
                "Content-Type",
                "Proxy-Authorization",
                "Content-Length",
                "Transfer-Encoding",
                "Connection",
                "Upgrade",
                "X-Original-URL",
                "x-rewrite-url",
                "X-HTTP-Method-Override",
                "X-Forwarded-For",
                "Forwarded",
                "X-SSL-Client-Cert",
                "Impersonate-User",
            ]
            .map(|name| json!({"request": {"headers": {name: "x"}}}))
            .to_vec(),
        ),
        rule(
            "request.headers must not exceed 8 KiB",
            vec![json!({"request": {"headers": headers(4)}})],
            vec![json!({"request": {"headers": headers(5)}})],
        ),
        rule(
            "request.parameters must not exceed 64 KiB",
            vec![json!({"request": {"parameters": parameters(15)}})],
            vec![json!({"request": {"parameters": parameters(17)}})],
        ),
        rule(
            "renewal.refresh.parameters must not exceed 64 KiB",
            vec![refresh_with(&parameters(15))],
            vec![refresh_with(&parameters(17))],
        ),
        rule(
            "request.headers must contain header names",
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
            "target.type must not be a type that grants permissions",
            each("target.type", &["Opaque", "example.com/token"]),
            each(
                "target.type",
                &["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"],
            ),
        ),
        rule(
            "target.secretName must not begin with sh.helm.release.v1.",
            each("target.secretName", &["sh.helm", "my-bootstrap-token-x"]),
            each("target.secretName", &["sh.helm.release.v1.web.v2", "bootstrap-token-abcdef"]),
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
            "target.annotations must have valid keys",
            vec![json!({"target": {"annotations": {"note": "x"}}})],
            vec![json!({"target": {"annotations": {"a b": "x"}}})],
        ),
        rule("target.keys must be distinct", vec![json!({"target": {"keys": all_keys()}})], pairs_of_equal_keys()),
        rule(
            "tokenEndpoint or issuer is required",
            vec![json!({"tokenEndpoint": null, "issuer": "https://login.example.com"})],
            vec![json!({"tokenEndpoint": null})],
        ),
        rule(
            "issuer must be an absolute http or https URL",
            each("issuer", &["https://login.example.com/realms/erp", "http://127.0.0.1:8080"]),
            each("issuer", &["login.example.com", "https://u:p@example.com", "https://example.com#f"]),
        ),
        rule(
            "credentials is required unless",
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
            "assertion applies only to grantType jwt_bearer",
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
            "tokenExchange applies only to grantType token_exchange",
            vec![json!({"grantType": "token_exchange", "tokenExchange": {"requestedTokenType": "urn:x"}})],
            vec![json!({"tokenExchange": {}}), json!({"grantType": "password", "tokenExchange": {}})],
        ),
        rule(
            "serviceAccountToken is required if",
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
            "clientAuthentication.assertion applies only to the methods",
            vec![json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": {"algorithm": "PS256"}}})],
            vec![
                json!({"clientAuthentication": {"method": "client_secret_basic", "assertion": {}}}),
                json!({"clientAuthentication": {"assertion": {}}}),
            ],
        ),
        rule(
            "clientAuthentication.assertion.algorithm applies only to private_key_jwt",
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
            "renewal.refresh applies only to renewal.strategy refresh_token",
            vec![
                json!({"grantType": "password", "renewal": {"strategy": "refresh_token", "refresh": {"format": "form"}}}),
            ],
            vec![json!({"renewal": {"refresh": {}}}), json!({"renewal": {"strategy": "grant", "refresh": {}}})],
        ),
        rule(
            "renewal.refresh does not apply to grantType refresh_token",
            vec![json!({"grantType": "refresh_token", "renewal": {"strategy": "refresh_token"}})],
            vec![json!({"grantType": "refresh_token", "renewal": {"strategy": "refresh_token", "refresh": {}}})],
        ),
        rule(
            "renewal.refresh.tokenEndpoint must be an absolute http or https URL",
            vec![refresh_to("https://login.example.com/refresh")],
            vec![refresh_to("login.example.com"), refresh_to("https://u:p@example.com/")],
        ),
        rule(
            "request.parameterNames may only rename parameters that the request contains",
            vec![json!({"request": {"parameterNames": {"username": "email", "password": "pass"}}})],
            vec![json!({"request": {"parameterNames": {"email": "username"}}})],
        ),
        rule(
            "request.parameterNames must give each parameter a distinct name",
            vec![json!({"request": {"parameterNames": {"username": "a", "password": "b"}}})],
            vec![json!({"request": {"parameterNames": {"username": "a", "password": "a"}}})],
        ),
        rule(
            "request.scopeFormat list applies only to JSON bodies",
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
            "response.extra must use valid keys of a Secret",
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
            "revocation.endpoint is required unless issuer is set",
            vec![
                json!({"revocation": {"endpoint": "https://login.example.com/revoke", "onDeletion": true}}),
                json!({"issuer": "https://login.example.com", "revocation": {"onDeletion": true}}),
            ],
            vec![json!({"revocation": {"onDeletion": true}})],
        ),
        rule(
            "revocation.endpoint must have the origin (scheme, host and port) of tokenEndpoint or issuer",
            vec![
                without_credentials(
                    "https://login.example.com:443/revoke",
                    &json!({"tokenEndpoint": "https://login.example.com:443/t"}),
                ),
                without_credentials(
                    "https://id.example.com/revoke",
                    &json!({"issuer": "https://id.example.com/realms/a"}),
                ),
                json!({"revocation": {"endpoint": "https://revoke.example.com/revoke"}}),
            ],
            vec![
                without_credentials("https://evil.example.com/revoke", &json!({})),
                without_credentials("http://login.example.com/revoke", &json!({})),
                without_credentials("https://login.example.com:8443/revoke", &json!({})),
            ],
        ),
        rule(
            "revocation.endpoint must be an absolute http or https URL",
            each("revocation.endpoint", &["https://login.example.com/revoke"]),
            each("revocation.endpoint", &["/revoke", "ftp://example.com"]),
        ),
        rule(
            "target.deletionPolicy Retain conflicts with revocation.onDeletion",
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

fn without_credentials(revocation: &str, more: &Value) -> Value {
    let mut change = json!({
        "credentials": null, "clientAuthentication": {"method": "none"}, "revocation": {"endpoint": revocation},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        change[field] = value.clone();
    }
    change
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
