//! Specs that each rule of the CRD accepts or rejects.

use serde_json::{Value, json};

/// A rule, identified by the start of its message, with changes of a spec that it accepts or rejects.
pub struct Rule {
    pub message: &'static str,
    pub accepted: fn() -> Vec<Value>,
    pub rejected: fn() -> Vec<Value>,
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

/// A token exchange with the token of another integration, with these changes.
fn with_token_of_another(changes: &Value) -> Value {
    let mut spec =
        json!({"grantType": "token_exchange", "tokenExchange": {"subjectTokenFrom": {"integration": "other"}}});
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

/// A JWT as the token, with these changes.
fn self_signed(changes: &Value) -> Value {
    let mut spec = json!({"grantType": "self_signed_jwt", "tokenEndpoint": null});
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

pub const RULES: &[Rule] = &[
    Rule {
        message: "tokenEndpoint must be an absolute http or https URL",
        accepted: || {
            each("tokenEndpoint", &["https://a.example.com", "http://127.0.0.1:8080/t?x=1", "https://[::1]/token"])
        },
        rejected: || {
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
            )
        },
    },
    Rule {
        message: "tokenLife must be a duration from 5s to 8760h",
        accepted: || each("tokenLife", &["5s", "1h30m", "8760h", "90.5s"]),
        rejected: || each("tokenLife", &["4s", "8761h", "1d", "90", "-5s", "forever", ""]),
    },
    Rule {
        message: "renewBefore must be a duration from 1s to 8760h",
        accepted: || each("renewBefore", &["1s", "10m"]),
        rejected: || each("renewBefore", &["999ms", "0s", "soon"]),
    },
    Rule {
        message: "renewal.jitter must be a duration from 0s to 8760h",
        accepted: || ["0s", "5m"].map(|jitter| json!({"renewal": {"jitter": jitter}})).into(),
        rejected: || ["8761h", "-1s", "5", "soon"].map(|jitter| json!({"renewal": {"jitter": jitter}})).into(),
    },
    Rule {
        message: "renewBefore must be shorter than tokenLife",
        accepted: || vec![json!({"tokenLife": "10m", "renewBefore": "9m59s"})],
        rejected: || {
            vec![json!({"tokenLife": "10m", "renewBefore": "10m"}), json!({"tokenLife": "10m", "renewBefore": "1h"})]
        },
    },
    Rule {
        message: "renewal.fallback applies only to grantType refresh_token",
        accepted: || {
            vec![json!({"grantType": "refresh_token", "renewal": {"fallback": {"grantType": "user_password"}}})]
        },
        rejected: || vec![json!({"renewal": {"fallback": {"grantType": "client_credentials"}}})],
    },
    Rule {
        message: "renewal.fallback.tokenEndpoint must be an absolute http or https URL",
        accepted: || vec![fallback_to("https://login.example.com/login")],
        rejected: || vec![fallback_to("login.example.com"), fallback_to("https://u:p@example.com/")],
    },
    Rule {
        message: "credentials.secretName must be the name of a Secret",
        accepted: || each("credentials.secretName", &["a", "a.b-c"]),
        rejected: || each("credentials.secretName", &["A", "a_b", "-a", "a/b"]),
    },
    Rule {
        message: "target.secretName must be a valid name for a Secret",
        accepted: || each("target.secretName", &["a", "a.b-c"]),
        rejected: || each("target.secretName", &["A", "a_b", "a..b"]),
    },
    Rule {
        message: "spec.target.secretName (default: the integration's name) must differ",
        accepted: || vec![at("target.secretName", &json!("other"))],
        rejected: || vec![at("target.secretName", &json!("credentials")), at("credentials.secretName", &json!("NAME"))],
    },
    Rule {
        message: "spec.target.refreshTokenSecretName must differ",
        accepted: || vec![at("target.refreshTokenSecretName", &json!("other"))],
        rejected: || {
            vec![
                at("target.refreshTokenSecretName", &json!("credentials")),
                json!({"target": {"secretName": "one", "refreshTokenSecretName": "one"}}),
            ]
        },
    },
    Rule {
        message: "target.refreshTokenSecretName must be a valid name for a Secret",
        accepted: || each("target.refreshTokenSecretName", &["a", "a.b-c"]),
        rejected: || each("target.refreshTokenSecretName", &["A", "a_b", "a..b"]),
    },
    Rule {
        message: "target.refreshTokenSecretName must not begin with sh.helm.release.v1.",
        accepted: || each("target.refreshTokenSecretName", &["sh.helm", "my-bootstrap-token-x"]),
        rejected: || each("target.refreshTokenSecretName", &["sh.helm.release.v1.web.v2", "bootstrap-token-abcdef"]),
    },
    Rule {
        message: "resource.key must not be a parameter that the grant itself sets",
        accepted: || {
            vec![
                json!({"resource": {"key": "audience", "value": "x"}}),
                json!({"resource": {"key": "any", "value": "x"}}),
            ]
        },
        rejected: || {
            vec![
                json!({"resource": {"key": "client_id", "value": "x"}}),
                json!({"resource": {"key": "scope", "value": "x"}}),
            ]
        },
    },
    Rule {
        message: "request.headers must not set headers that carry credentials",
        accepted: || {
            vec![json!({"request": {"headers": {"X-Tenant": "evox", "Accept": "x", "X-GitHub-Api-Version": "x"}}})]
        },
        rejected: || {
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
                "X-Api-Key",
                "Ocp-Apim-Subscription-Key",
                "X-Vault-Token",
            ]
            .map(|name| json!({"request": {"headers": {name: "x"}}}))
            .to_vec()
        },
    },
    Rule {
        message: "request.headers must not exceed 8 KiB",
        accepted: || vec![json!({"request": {"headers": headers(4)}})],
        rejected: || vec![json!({"request": {"headers": headers(5)}})],
    },
    Rule {
        message: "request.headersFrom must not set headers that the request sets itself",
        accepted: || ["Authorization", "X-Api-Key", "Cookie"].map(headers_from).into(),
        rejected: || {
            let names =
                ["Host", "content-length", "X-Forwarded-For", "X-Original-URL", "DPoP", "User-Agent", "X-Request-Id"];
            names.map(headers_from).into()
        },
    },
    Rule {
        message: "request.contentType must be a media type",
        accepted: || {
            each("request.contentType", &["application/json; charset=UTF-8", "application/vnd.api+json", "text/plain"])
        },
        rejected: || each("request.contentType", &["json", "a/b\r\nX: y", "application/json; charset", "a/b; c=d e"]),
    },
    Rule {
        message: "request.format, contentType and body do not apply to method GET",
        accepted: || vec![json!({"request": {"method": "GET", "secretsInQuery": true, "query": {"a": "b"}}})],
        rejected: || {
            [("format", "form"), ("contentType", "text/plain"), ("body", "$members")]
                .map(|(field, value)| json!({"request": {"method": "GET", "secretsInQuery": true, field: value}}))
                .into()
        },
    },
    Rule {
        message: "request.body is built from JSON",
        accepted: || {
            vec![
                json!({"request": {"body": "{\"auth\": $members}"}}),
                json!({"request": {"body": "$members", "format": "json", "contentType": "text/xml"}}),
            ]
        },
        rejected: || vec![json!({"request": {"body": "$members", "format": "form"}})],
    },
    Rule {
        message: "request.secretsInQuery applies only to method GET",
        accepted: || vec![json!({"request": {"secretsInQuery": false}})],
        rejected: || {
            vec![
                json!({"request": {"secretsInQuery": true}}),
                json!({"request": {"secretsInQuery": true, "method": "POST"}}),
            ]
        },
    },
    Rule {
        message: "request.method GET would send a secret in the URL",
        accepted: || {
            let in_header = json!({"grantType": "jwt_bearer", "assertion": {"place": "AuthorizationHeader"}, "request": {"method": "GET"}});
            ["client_secret_basic", "tls_client_auth", "none"]
                .map(|method| json!({"clientAuthentication": {"method": method}, "request": {"method": "GET"}}))
                .into_iter()
                .chain([in_header])
                .collect()
        },
        rejected: || {
            let get = json!({"method": "GET"});
            let basic = json!({"method": "client_secret_basic"});
            vec![
                json!({"request": get}),
                json!({"grantType": "jwt_bearer", "request": get}),
                json!({"grantType": "password", "clientAuthentication": basic, "request": get}),
                json!({"clientAuthentication": {"method": "private_key_jwt"}, "request": get}),
                json!({"clientAuthentication": basic, "renewal": {"strategy": "refresh_token"}, "request": get}),
                json!({"clientAuthentication": basic, "request": {"method": "GET", "parametersFrom": {"a": {"key": "a"}}}}),
                json!({"request": {"method": "GET", "secretsInQuery": false}}),
            ]
        },
    },
    Rule {
        message: "request.headersFrom must contain header names",
        accepted: || vec![headers_from("X-1")],
        rejected: || ["X 1", "X-1\r\nX-2", "ü"].map(headers_from).into(),
    },
    Rule {
        message: "request.headers and request.headersFrom must not contain the same name",
        accepted: || vec![json!({"request": {"headers": {"X-1": "x"}, "headersFrom": {"X-2": {"key": "x"}}}})],
        rejected: || vec![json!({"request": {"headers": {"X-1": "x"}, "headersFrom": {"x-1": {"key": "x"}}}})],
    },
    Rule {
        message: "request.parametersFrom and request.headersFrom need credentials",
        accepted: || {
            vec![
                json!({"request": {"parameters": {"a": {"b": [1, true]}}, "parametersFrom": {"c": {"key": "x"}}}}),
                refresh_with(&json!({"a": 1})),
            ]
        },
        rejected: || {
            ["parametersFrom", "headersFrom"]
                .map(|field| {
                    json!({
                        "credentials": null, "clientId": "c", "clientAuthentication": {"method": "none"},
                        "request": {field: {"x": {"key": "x"}}},
                    })
                })
                .into()
        },
    },
    Rule {
        message: "connection.clientCertificate needs credentials",
        accepted: || vec![json!({"connection": {"clientCertificate": true}})],
        rejected: || {
            vec![json!({
                "credentials": null, "clientId": "c", "clientAuthentication": {"method": "none"},
                "connection": {"clientCertificate": true},
            })]
        },
    },
    Rule {
        message: "request.headers must contain header names",
        accepted: || vec![json!({"request": {"headers": {"X-1": "all ~ printable"}}})],
        rejected: || {
            vec![
                json!({"request": {"headers": {"X 1": "x"}}}),
                json!({"request": {"headers": {"X-1": "a\r\nX-2: b"}}}),
                json!({"request": {"headers": {"X-1": "ü"}}}),
            ]
        },
    },
    Rule {
        message: "request.timeout must be a duration from 1s to 60s",
        accepted: || each("request.timeout", &["1s", "60s", "1m"]),
        rejected: || each("request.timeout", &["999ms", "61s", "0"]),
    },
    Rule {
        message: "target.type must not be a type that grants permissions",
        accepted: || each("target.type", &["Opaque", "example.com/token"]),
        rejected: || {
            each(
                "target.type",
                &["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"],
            )
        },
    },
    Rule {
        message: "target.secretName must not begin with sh.helm.release.v1.",
        accepted: || each("target.secretName", &["sh.helm", "my-bootstrap-token-x"]),
        rejected: || each("target.secretName", &["sh.helm.release.v1.web.v2", "bootstrap-token-abcdef"]),
    },
    Rule {
        message: "target.labels must not set app.kubernetes.io/managed-by",
        accepted: || vec![json!({"target": {"labels": {"app.kubernetes.io/name": "x"}}})],
        rejected: || {
            vec![
                json!({"target": {"labels": {"app.kubernetes.io/managed-by": "x"}}}),
                json!({"target": {"labels": {"oauth.evolutionx.io/integration-uid": "x"}}}),
            ]
        },
    },
    Rule {
        message: "target.labels must be valid labels",
        accepted: || vec![json!({"target": {"labels": {"example.com/team": "erp_1.x-y", "empty": ""}}})],
        rejected: || {
            vec![
                json!({"target": {"labels": {"a b": "x"}}}),
                json!({"target": {"labels": {"a": "x y"}}}),
                json!({"target": {"labels": {"a": "-x"}}}),
            ]
        },
    },
    Rule {
        message: "target.annotations must not set anything under oauth.evolutionx.io/",
        accepted: || vec![json!({"target": {"annotations": {"example.com/note": "any text, ü"}}})],
        rejected: || vec![json!({"target": {"annotations": {"oauth.evolutionx.io/renew-at": "x"}}})],
    },
    Rule {
        message: "target.annotations must have valid keys",
        accepted: || vec![json!({"target": {"annotations": {"note": "x"}}})],
        rejected: || vec![json!({"target": {"annotations": {"a b": "x"}}})],
    },
    Rule {
        message: "target.keys must be distinct",
        accepted: || vec![json!({"target": {"keys": all_keys()}})],
        rejected: || pairs_of_equal_keys(),
    },
    Rule {
        message: "tokenEndpoint, issuer, protectedResource or providerRef is required",
        accepted: || {
            vec![
                json!({"tokenEndpoint": null, "issuer": "https://login.example.com"}),
                by_resource(&json!({})),
                by_resource(&json!({"issuer": "https://login.example.com"})),
                self_signed(&json!({})),
                by_provider(&json!({})),
            ]
        },
        rejected: || vec![json!({"tokenEndpoint": null})],
    },
    Rule {
        message: "providerRef.name must be the name of a provider",
        accepted: || vec![by_provider(&json!({"providerRef": {"kind": "OAuthProvider", "name": "erp.example"}}))],
        rejected: || vec![by_provider(&json!({"providerRef": {"name": "ERP"}}))],
    },
    Rule {
        message: "with providerRef, the provider says where requests are sent and as whom",
        accepted: || {
            vec![
                by_provider(
                    &json!({"scope": "orders", "resource": {"value": "x"}, "tokenLife": "5m", "renewBefore": "1m"}),
                ),
                by_provider(&json!({"revocation": {"afterRenewal": "5m", "onDeletion": true}})),
                by_provider(&json!({"renewal": {"strategy": "refresh_token", "jitter": "1s"}})),
                by_provider(&json!({
                    "grantType": "refresh_token", "credentials": {"secretName": "user"},
                    "renewal": {"fallback": {"grantType": "client_credentials"}},
                })),
            ]
        },
        rejected: || {
            vec![
                by_provider(&json!({"tokenEndpoint": "https://login.example.com/token"})),
                by_provider(&json!({"issuer": "https://login.example.com"})),
                by_provider(&json!({"protectedResource": "https://login.example.com"})),
                by_provider(&json!({"clientId": "erp"})),
                by_provider(&json!({"clientAuthentication": {"method": "none"}})),
                by_provider(&json!({"connection": {"proxy": "http://proxy.example.com"}})),
                by_provider(&json!({"dpop": {}})),
                by_provider(&json!({"revocation": {"endpoint": "https://login.example.com/revoke"}})),
                by_provider(&json!({"revocation": {"format": "json"}})),
                by_provider(&json!({"renewal": {"strategy": "refresh_token", "refresh": {"format": "json"}}})),
                by_provider(&json!({
                    "grantType": "refresh_token", "credentials": {"secretName": "user"},
                    "renewal": {"fallback": {"grantType": "client_credentials", "tokenEndpoint": "https://login.example.com/token"}},
                })),
            ]
        },
    },
    Rule {
        message: "with providerRef, the provider says how requests and responses look",
        accepted: || vec![by_provider(&json!({})), by_provider(&json!({"request": {"timeout": "10s"}}))],
        rejected: || {
            let requests = [
                json!({"method": "GET"}),
                json!({"format": "form"}),
                json!({"contentType": "application/json"}),
                json!({"body": "$members"}),
                json!({"query": {"a": "b"}}),
                json!({"parameters": {"scope": "admin"}}),
                json!({"parameterNames": {"scope": "x"}}),
                json!({"scopeFormat": "text"}),
                json!({"headers": {"A": "b"}}),
                json!({"timeout": "60s"}),
                json!({"method": "GET", "secretsInQuery": true}),
            ];
            let responses = [
                json!({"accessToken": "$body"}),
                json!({"refreshToken": "x"}),
                json!({"expiresIn": "x"}),
                json!({"expiresAt": "x"}),
                json!({"refreshTokenExpiresIn": "x"}),
                json!({"refreshTokenExpiresAt": "x"}),
                json!({"success": "x"}),
                json!({"invalidGrant": "x"}),
                json!({"error": "x"}),
            ];
            let requests = requests.map(|request| by_provider(&json!({"request": request})));
            let responses = responses.map(|response| by_provider(&json!({"response": response})));
            requests.into_iter().chain(responses).collect()
        },
    },
    Rule {
        message: "with providerRef, credentials has only what belongs to a user",
        accepted: || {
            let keys =
                json!({"username": "a", "password": "b", "refreshToken": "c", "subjectToken": "d", "actorToken": "e"});
            vec![by_provider(&json!({"grantType": "password", "credentials": {"secretName": "user", "keys": keys}}))]
        },
        rejected: || {
            let keys = [
                "clientId",
                "clientSecret",
                "nextClientSecret",
                "privateKey",
                "privateKeyPassphrase",
                "tlsCertificate",
                "tlsKey",
            ];
            let with = |key: &str| by_provider(&json!({"credentials": {"secretName": "user", "keys": {key: "a"}}}));
            keys.map(with).into_iter().collect()
        },
    },
    Rule {
        message: "with providerRef, the provider signs assertions",
        accepted: || {
            vec![
                by_provider(&json!({"grantType": "jwt_bearer", "assertion": {"subject": "user@example.com"}})),
                by_provider(&json!({"grantType": "jwt_bearer", "assertion": {"from": {"integration": "other"}}})),
            ]
        },
        rejected: || {
            let assertions = [
                json!({"place": "AuthorizationHeader"}),
                json!({"issuer": "a"}),
                json!({"audience": "a"}),
                json!({"claims": {"a": "b"}}),
                json!({"algorithm": "RS256"}),
                json!({"keyId": "a"}),
                json!({"lifetime": "5m"}),
                json!({"type": "JWT"}),
                json!({"issuedAtSkew": "60s"}),
                json!({"notBefore": true}),
                json!({"certificateThumbprint": true}),
                json!({"certificateThumbprintSha1": true}),
                json!({"certificateChain": true}),
            ];
            let by_assertion = |assertion| by_provider(&json!({"grantType": "jwt_bearer", "assertion": assertion}));
            assertions
                .map(by_assertion)
                .into_iter()
                .chain([by_provider(&json!({"grantType": "self_signed_jwt"}))])
                .collect()
        },
    },
    Rule {
        message: "grantType self_signed_jwt sends no request",
        accepted: || {
            vec![
                self_signed(&json!({"assertion": {"issuer": "i", "algorithm": "ES256", "claims": {"a": 1}}})),
                self_signed(&json!({"renewBefore": "10s", "target": {"keys": {"accessToken": "jwt"}}})),
            ]
        },
        rejected: || {
            vec![
                self_signed(&json!({"tokenEndpoint": "https://login.example.com/token"})),
                self_signed(&json!({"issuer": "https://login.example.com"})),
                self_signed(&json!({"protectedResource": "https://mcp.example.com"})),
                self_signed(&json!({"clientAuthentication": {"method": "none"}})),
                self_signed(&json!({"scope": "orders"})),
                self_signed(&json!({"dpop": {}})),
                self_signed(&json!({"connection": {"proxy": "http://proxy.example.com:3128"}})),
                self_signed(&json!({"resource": {"value": "orders"}})),
                self_signed(&json!({"assertion": {"place": "Body"}})),
                self_signed(&json!({"assertion": {"from": {"integration": "other"}}})),
            ]
        },
    },
    Rule {
        message: "assertion.algorithm must be one with a private key",
        accepted: || {
            vec![
                self_signed(&json!({"assertion": {"algorithm": "HS512"}})),
                json!({"grantType": "jwt_bearer", "assertion": {"algorithm": "ES512"}}),
            ]
        },
        rejected: || vec![json!({"grantType": "jwt_bearer", "assertion": {"algorithm": "HS256"}})],
    },
    Rule {
        message: "protectedResource must be an absolute http or https URL",
        accepted: || {
            ["https://mcp.example.com", "https://fhir.example.com/r4/", "http://127.0.0.1:8080/mcp?tenant=1"]
                .map(|url| by_resource(&json!({"protectedResource": url})))
                .into()
        },
        rejected: || {
            ["mcp.example.com", "https://u:p@example.com", "https://example.com#f", "urn:example:orders"]
                .map(|url| by_resource(&json!({"protectedResource": url})))
                .into()
        },
    },
    Rule {
        message: "protectedResource does not apply with tokenEndpoint",
        accepted: || vec![by_resource(&json!({}))],
        rejected: || {
            vec![
                json!({"protectedResource": "https://mcp.example.com/mcp"}),
                json!({"protectedResource": "https://mcp.example.com/mcp", "issuer": "https://login.example.com"}),
            ]
        },
    },
    Rule {
        message: "issuer is required if protectedResource is set and refresh tokens are sent",
        accepted: || {
            let issuer = "https://login.example.com";
            vec![
                by_resource(&json!({"issuer": issuer, "grantType": "refresh_token"})),
                by_resource(
                    &json!({"issuer": issuer, "grantType": "password", "renewal": {"strategy": "refresh_token"}}),
                ),
                by_resource(&json!({"grantType": "password", "renewal": {"strategy": "grant"}})),
            ]
        },
        rejected: || {
            vec![
                by_resource(&json!({"grantType": "refresh_token"})),
                by_resource(&json!({"grantType": "password", "renewal": {"strategy": "refresh_token"}})),
            ]
        },
    },
    Rule {
        message: "issuer must be an absolute http or https URL",
        accepted: || each("issuer", &["https://login.example.com/realms/erp", "http://127.0.0.1:8080"]),
        rejected: || each("issuer", &["login.example.com", "https://u:p@example.com", "https://example.com#f"]),
    },
    Rule {
        message: "credentials is required: set credentials.secretName",
        accepted: || {
            vec![
                without_secret("client_credentials", &json!({"method": "service_account_token"})),
                json!({"credentials": null, "clientId": "c", "clientAuthentication": {"method": "none"}}),
                with_token_of_another(&json!({"credentials": null, "clientAuthentication": {"method": "none"}})),
                json!({
                    "credentials": null, "grantType": "jwt_bearer", "clientAuthentication": {"method": "none"},
                    "assertion": {"from": {"integration": "other"}},
                }),
                json!({
                    "credentials": null, "grantType": "jwt_bearer",
                    "assertion": {"from": {"integration": "other"}, "place": "AuthorizationHeader"},
                }),
            ]
        },
        rejected: || {
            vec![
                json!({"credentials": null}),
                json!({"credentials": null, "clientAuthentication": {"method": "private_key_jwt"}}),
                without_secret("jwt_bearer", &json!({"method": "service_account_token"})),
                json!({"credentials": null, "grantType": "token_exchange", "clientAuthentication": {"method": "none"}}),
                with_token_of_another(&json!({"credentials": null})),
                json!({
                    "credentials": null, "grantType": "jwt_bearer",
                    "assertion": {"from": {"integration": "other"}, "place": "Body"},
                }),
            ]
        },
    },
    Rule {
        message: "tokenExchange.subjectTokenFrom applies only to grantType token_exchange",
        accepted: || vec![with_token_of_another(&json!({}))],
        rejected: || {
            let fallback = |grant: &str| json!({"fallback": {"grantType": grant}});
            vec![
                with_token_of_another(&json!({"grantType": "refresh_token", "renewal": fallback("token_exchange")})),
                json!({
                    "grantType": "refresh_token", "renewal": fallback("jwt_bearer"),
                    "assertion": {"from": {"integration": "other"}},
                }),
            ]
        },
    },
    Rule {
        message: "tokenExchange.subjectTokenFrom and subjectTokenSource ServiceAccount exclude each other",
        accepted: || {
            let from = json!({"subjectTokenFrom": {"integration": "other", "value": "id_token"}, "subjectTokenSource": "Secret"});
            vec![with_token_of_another(&json!({"tokenExchange": from}))]
        },
        rejected: || {
            let from = json!({"subjectTokenFrom": {"integration": "other"}, "subjectTokenSource": "ServiceAccount"});
            let account = json!({"serviceAccountName": "a", "audience": "b"});
            vec![with_token_of_another(&json!({"tokenExchange": from, "serviceAccountToken": account}))]
        },
    },
    Rule {
        message: "assertion.from is sent as it is",
        accepted: || {
            vec![
                json!({"grantType": "jwt_bearer", "assertion": {"from": {"integration": "a"}, "place": "AuthorizationHeader"}}),
            ]
        },
        rejected: || {
            [("issuer", json!("i")), ("claims", json!({"a": 1})), ("lifetime", json!("60s")), ("algorithm", json!("RS256"))]
                .map(|(field, value)| {
                    json!({"grantType": "jwt_bearer", "assertion": {"from": {"integration": "a"}, field: value}})
                })
                .into()
        },
    },
    Rule {
        message: "integration must be the name of an OAuthIntegration",
        accepted: || vec![with_token_of_another(&json!({}))],
        rejected: || {
            let from = |name: &str| json!({"tokenExchange": {"subjectTokenFrom": {"integration": name}}});
            ["Other", "a/b", "a_b"].map(|name| with_token_of_another(&from(name))).into()
        },
    },
    Rule {
        message: "assertion applies only to grantType jwt_bearer and self_signed_jwt",
        accepted: || {
            vec![
                json!({"grantType": "jwt_bearer", "assertion": {"issuer": "x", "claims": {"a": {"b": [1]}}}}),
                json!({
                    "grantType": "jwt_bearer",
                    "assertion": {
                        "place": "AuthorizationHeader", "notBefore": true, "certificateThumbprint": true,
                        "certificateThumbprintSha1": true, "certificateChain": true,
                    },
                }),
                json!({
                    "grantType": "refresh_token", "assertion": {},
                    "renewal": {"fallback": {"grantType": "jwt_bearer"}},
                }),
            ]
        },
        rejected: || vec![json!({"assertion": {"issuer": "x"}})],
    },
    Rule {
        message: "tokenExchange applies only to grantType token_exchange",
        accepted: || vec![json!({"grantType": "token_exchange", "tokenExchange": {"requestedTokenType": "urn:x"}})],
        rejected: || vec![json!({"tokenExchange": {}}), json!({"grantType": "password", "tokenExchange": {}})],
    },
    Rule {
        message: "serviceAccountToken is required if",
        accepted: || {
            vec![json!({
                "grantType": "token_exchange", "tokenExchange": {"subjectTokenSource": "ServiceAccount"},
                "serviceAccountToken": service_account(&json!({})),
            })]
        },
        rejected: || {
            vec![
                json!({"clientAuthentication": {"method": "service_account_token"}}),
                json!({"serviceAccountToken": service_account(&json!({}))}),
                json!({"grantType": "token_exchange", "tokenExchange": {"subjectTokenSource": "ServiceAccount"}}),
            ]
        },
    },
    Rule {
        message: "serviceAccountToken.lifetime must be a duration from 10m to 1h",
        accepted: || lifetimes(&["10m", "1h"], |lifetime| by_service_account(&json!({"lifetime": lifetime}))),
        rejected: || lifetimes(&["9m", "61m", "x"], |lifetime| by_service_account(&json!({"lifetime": lifetime}))),
    },
    Rule {
        message: "serviceAccountToken.serviceAccountName must be the name of a ServiceAccount",
        accepted: || vec![by_service_account(&json!({"serviceAccountName": "a.b-c"}))],
        rejected: || vec![by_service_account(&json!({"serviceAccountName": "A"}))],
    },
    Rule {
        message: "clientAuthentication is not sent by grantType user_password",
        accepted: || vec![json!({"grantType": "password", "clientAuthentication": {"method": "client_secret_basic"}})],
        rejected: || {
            vec![json!({"grantType": "user_password", "clientAuthentication": {"method": "client_secret_basic"}})]
        },
    },
    Rule {
        message: "clientAuthentication.assertion applies only to the methods",
        accepted: || {
            vec![json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": {"algorithm": "PS256"}}})]
        },
        rejected: || {
            vec![
                json!({"clientAuthentication": {"method": "client_secret_basic", "assertion": {}}}),
                json!({"clientAuthentication": {"assertion": {}}}),
            ]
        },
    },
    Rule {
        message: "clientAuthentication.assertion.algorithm must be HS256, HS384 or HS512 with client_secret_jwt",
        accepted: || {
            vec![
                json!({"clientAuthentication": {"method": "client_secret_jwt", "assertion": {"audience": "x"}}}),
                signed("client_secret_jwt", "HS512"),
                signed("private_key_jwt", "RS512"),
                signed("private_key_jwt", "ES384"),
                signed("private_key_jwt", "ES512"),
            ]
        },
        rejected: || vec![signed("client_secret_jwt", "RS256"), signed("private_key_jwt", "HS256")],
    },
    Rule {
        message: "clientAuthentication.basicEncoding applies only to client_secret_basic",
        accepted: || vec![json!({"clientAuthentication": {"method": "client_secret_basic", "basicEncoding": "raw"}})],
        rejected: || vec![json!({"clientAuthentication": {"basicEncoding": "raw"}})],
    },
    Rule {
        message: "issuedAtSkew of an assertion must be a duration up to 5m",
        accepted: || [lifetimes(&["0s", "5m"], client_skew), lifetimes(&["0s", "60s"], skew)].concat(),
        rejected: || [lifetimes(&["301s", "-1s", "1d"], client_skew), lifetimes(&["6m", ""], skew)].concat(),
    },
    Rule {
        message: "the lifetime of an assertion must be a duration from 10s to 1h",
        accepted: || [lifetimes(&["10s", "1h"], client_assertion), lifetimes(&["10s", "1h"], assertion)].concat(),
        rejected: || {
            [lifetimes(&["9s", "61m", "1d"], client_assertion), lifetimes(&["9s", "61m", ""], assertion)].concat()
        },
    },
    Rule {
        message: "connection.caBundle.name must be the name of",
        accepted: || vec![json!({"connection": {"caBundle": {"name": "a.b-c"}}})],
        rejected: || {
            vec![
                json!({"connection": {"caBundle": {"name": "A"}}}),
                json!({"connection": {"caBundle": {"name": "a/b"}}}),
            ]
        },
    },
    Rule {
        message: "connection.proxy must be an absolute http or https URL",
        accepted: || each("connection.proxy", &["http://proxy.example.com:3128"]),
        rejected: || each("connection.proxy", &["proxy:3128", "http://u:p@proxy:3128", "socks5://proxy:1080"]),
    },
    Rule {
        message: "renewal.refresh applies only to renewal.strategy refresh_token",
        accepted: || {
            vec![
                json!({"grantType": "password", "renewal": {"strategy": "refresh_token", "refresh": {"format": "form"}}}),
            ]
        },
        rejected: || {
            vec![json!({"renewal": {"refresh": {}}}), json!({"renewal": {"strategy": "grant", "refresh": {}}})]
        },
    },
    Rule {
        message: "renewal.refresh does not apply to grantType refresh_token",
        accepted: || vec![json!({"grantType": "refresh_token", "renewal": {"strategy": "refresh_token"}})],
        rejected: || {
            vec![json!({"grantType": "refresh_token", "renewal": {"strategy": "refresh_token", "refresh": {}}})]
        },
    },
    Rule {
        message: "renewal.refresh.tokenEndpoint must be an absolute http or https URL",
        accepted: || vec![refresh_to("https://login.example.com/refresh")],
        rejected: || vec![refresh_to("login.example.com"), refresh_to("https://u:p@example.com/")],
    },
    Rule {
        message: "request.parameterNames may only rename parameters that the request contains",
        accepted: || vec![json!({"request": {"parameterNames": {"username": "email", "password": "pass"}}})],
        rejected: || vec![json!({"request": {"parameterNames": {"email": "username"}}})],
    },
    Rule {
        message: "request.parameterNames must give each parameter a distinct name",
        accepted: || vec![json!({"request": {"parameterNames": {"username": "a", "password": "b"}}})],
        rejected: || vec![json!({"request": {"parameterNames": {"username": "a", "password": "a"}}})],
    },
    Rule {
        message: "request.scopeFormat list applies only to JSON bodies",
        accepted: || {
            vec![
                json!({"request": {"scopeFormat": "list"}}),
                json!({"request": {"scopeFormat": "text", "format": "form"}}),
                json!({"request": {"scopeFormat": "list", "format": "json"}, "issuer": "https://login.example.com"}),
                by_resource(&json!({"request": {"scopeFormat": "list", "format": "json"}})),
            ]
        },
        rejected: || {
            vec![
                json!({"request": {"scopeFormat": "list", "format": "form"}}),
                json!({"request": {"scopeFormat": "list"}, "issuer": "https://login.example.com"}),
                by_resource(&json!({"request": {"scopeFormat": "list"}})),
            ]
        },
    },
    Rule {
        message: "resource must have either value or values",
        accepted: || vec![json!({"resource": {"key": "resource", "values": ["https://a", "https://b"]}})],
        rejected: || {
            vec![
                json!({"resource": {"key": "resource"}}),
                json!({"resource": {"key": "resource", "value": "https://a", "values": ["https://b"]}}),
            ]
        },
    },
    Rule {
        message: "target.data must use valid keys of a Secret",
        accepted: || vec![json!({"target": {"data": {"instance_url": "response.instance_url", "a.b-c": "scope"}}})],
        rejected: || vec![json!({"target": {"data": {"a b": "scope"}}}), json!({"target": {"data": {"": "scope"}}})],
    },
    Rule {
        message: "target.data must not use a key of target.keys",
        accepted: || vec![json!({"target": {"data": {"scope": "scope"}}})],
        rejected: || {
            vec![
                json!({"target": {"data": {"access_token": "scope"}}}),
                json!({"target": {"data": {"refresh_token": "scope"}}}),
                json!({"target": {"data": {"dpop_key": "scope"}}}),
                json!({"target": {"data": {"scope": "scope"}, "keys": {"scope": "scope"}}}),
                json!({"target": {"data": {"ends": "scope"}, "keys": {"expiresAt": "ends"}}}),
                json!({"target": {"data": {"old": "scope"}, "keys": {"previousAccessToken": "old"}}}),
            ]
        },
    },
    Rule {
        message: "revocation.endpoint is required unless issuer is set",
        accepted: || {
            vec![
                json!({"revocation": {"endpoint": "https://login.example.com/revoke", "onDeletion": true}}),
                json!({"issuer": "https://login.example.com", "revocation": {"onDeletion": true}}),
                by_resource(&json!({"issuer": "https://login.example.com", "revocation": {"onDeletion": true}})),
                by_resource(&json!({"revocation": {"endpoint": "https://login.example.com/revoke"}})),
                by_provider(&json!({"revocation": {"onDeletion": true}})),
            ]
        },
        rejected: || {
            vec![json!({"revocation": {"onDeletion": true}}), by_resource(&json!({"revocation": {"onDeletion": true}}))]
        },
    },
    Rule {
        message: "revocation.endpoint must have the origin (scheme, host and port) of tokenEndpoint or issuer",
        accepted: || {
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
            ]
        },
        rejected: || {
            vec![
                without_credentials("https://evil.example.com/revoke", &json!({})),
                without_credentials("http://login.example.com/revoke", &json!({})),
                without_credentials("https://login.example.com:8443/revoke", &json!({})),
            ]
        },
    },
    Rule {
        message: "revocation.endpoint must be an absolute http or https URL",
        accepted: || each("revocation.endpoint", &["https://login.example.com/revoke"]),
        rejected: || each("revocation.endpoint", &["/revoke", "ftp://example.com"]),
    },
    Rule {
        message: "target.deletionPolicy Retain conflicts with revocation.onDeletion",
        accepted: || {
            vec![
                json!({"issuer": "https://a", "revocation": {"onDeletion": true}, "target": {"deletionPolicy": "Delete"}}),
                json!({"issuer": "https://a", "revocation": {"afterRenewal": "1m"}, "target": {"deletionPolicy": "Retain"}}),
            ]
        },
        rejected: || {
            vec![json!({
                "issuer": "https://a", "revocation": {"onDeletion": true}, "target": {"deletionPolicy": "Retain"},
            })]
        },
    },
    Rule {
        message: "revocation.afterRenewal must be a duration from 1s to 24h",
        accepted: || lifetimes(&["1s", "24h"], after_renewal),
        rejected: || lifetimes(&["999ms", "25h"], after_renewal),
    },
];

/// A protected resource instead of an endpoint.
/// The changes that make an integration one with a provider, and these.
fn by_provider(change: &Value) -> Value {
    let mut all = json!({"tokenEndpoint": null, "credentials": null, "providerRef": {"kind": "ClusterOAuthProvider", "name": "erp"}});
    all.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    all
}

fn by_resource(more: &Value) -> Value {
    let mut spec = json!({"tokenEndpoint": null, "protectedResource": "https://mcp.example.com/mcp"});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
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

fn client_skew(skew: &str) -> Value {
    json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": {"issuedAtSkew": skew}}})
}

fn skew(skew: &str) -> Value {
    json!({"grantType": "jwt_bearer", "assertion": {"issuedAtSkew": skew}})
}

fn signed(method: &str, algorithm: &str) -> Value {
    json!({"clientAuthentication": {"method": method, "assertion": {"algorithm": algorithm}}})
}

fn headers_from(name: &str) -> Value {
    json!({"request": {"headersFrom": {name: {"key": "x"}}}})
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
