//! Guarantee: `oauth-operator import` translates Webhook generators of the External Secrets Operator into integrations
//! that the API server accepts, and that send the request that the generator describes.

use std::process::Command;

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::manifests::{apply, temporary_file};
use test_support::operator::binary;
use test_support::{ControlPlane, World, record};

pub struct Output {
    pub code: Option<i32>,
    pub documents: Vec<Value>,
    pub text: String,
    pub notes: String,
}

/// The output for these manifests.
pub fn import(manifests: &str) -> Output {
    let file = temporary_file(manifests);
    let output = Command::new(binary()).arg("import").arg(file.path()).output().expect("the binary");
    let text = String::from_utf8(output.stdout).expect("text");
    let notes = String::from_utf8(output.stderr).expect("text");
    record::keep("fetch", &text);
    record::keep("fetch", &notes);
    assert!(!text.contains("kanarie") && !notes.contains("kanarie"), "{text}\n{notes}");
    let documents = serde_saphyr::from_multiple(&text).expect("YAML");
    Output { code: output.status.code(), documents, text, notes }
}

/// A generator, an ExternalSecret with the same name, and the request that the External Secrets Operator would send.
struct Case {
    name: &'static str,
    generator: &'static str,
    external_secret: &'static str,
    request: fn(&Request),
    response: fn() -> Value,
    /// Values of the target.
    target: &'static [(&'static str, &'static str)],
}

fn token() -> Value {
    json!({"access_token": "kanarie-access", "expires_in": 3600})
}

const CASES: &[Case] = &[
    Case {
        name: "form",
        generator: r#"
  method: POST
  url: URL/oauth/token?api-version=2
  headers:
    Content-Type: application/x-www-form-urlencoded
    Accept: application/json
  body: grant_type=client_credentials&client_id={{ .auth.clientid }}&client_secret={{ .auth.clientsecret | urlquery }}&scope=orders.read%20orders.write&audience=https%3A%2F%2Fapi.example.com
  secrets:
  - {name: auth, secretRef: {name: login}}
"#,
        external_secret: "refreshInterval: 30m0s\n  target: {name: form-secret}",
        request: |request| {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/oauth/token?api-version=2"));
            assert_eq!(request.headers["accept"], "application/json");
            let expected = [
                ("grant_type", "client_credentials"),
                ("client_id", "kanarie-id"),
                ("client_secret", "kanarie secret&"),
                ("scope", "orders.read orders.write"),
                ("audience", "https://api.example.com"),
            ];
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(request.form(), expected.into_iter().collect());
        },
        response: token,
        target: &[("access_token", "kanarie-access")],
    },
    Case {
        name: "json",
        generator: r#"
  method: POST
  url: URL/token
  headers: {Content-Type: application/json, X-Api-Key: "{{ .auth.apikey }}"}
  body: |
    {"grant_type": "client_credentials", "client_id": "public-client", "client_secret": {{ .auth.clientsecret | toJson }},
     "lifetime": 600, "permissions": {"orders": "read"}}
  result: {jsonPath: $.data.session}
  timeout: 20s
  secrets:
  - {name: auth, secretRef: {name: login}}
"#,
        external_secret: "target:
    name: json-secret
    template:
      metadata: {labels: {app.kubernetes.io/component: erp, team: billing}}
      data:
        token: '{{ .access_token }}'
        header: 'Authorization: Bearer {{ .access_token }}'
        account: '{{ .account }}'",
        request: |request| {
            let expected = json!({
                "grant_type": "client_credentials", "client_id": "public-client", "client_secret": "kanarie secret&",
                "lifetime": 600, "permissions": {"orders": "read"},
            });
            assert_eq!(request.json(), expected);
            assert_eq!(request.headers["x-api-key"], "kanarie-api-key");
        },
        response: || json!({"data": {"session": {"access_token": "kanarie-access", "account": 4_711_815, "expires_in": 900}}}),
        target: &[
            ("token", "kanarie-access"),
            ("header", "Authorization: Bearer kanarie-access"),
            ("account", "4711815"),
        ],
    },
    Case {
        // The example of the documentation of the External Secrets Operator.
        name: "get",
        generator: r#"
  url: "URL/get?parameter={{ .auth.apikey }}&format=json"
  result: {jsonPath: "$.args"}
  headers:
    Authorization: Basic {{ print .auth.username ":" .auth.password | b64enc }}
  secrets:
  - name: auth
    secretRef: {name: login}
"#,
        external_secret: "refreshInterval: 1h",
        request: |request| {
            assert_eq!(request.method, "GET");
            let expected = [("format", "json"), ("parameter", "kanarie-api-key")];
            assert_eq!(
                request.query(),
                expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect()
            );
            assert_eq!(request.headers["authorization"], "Basic a2FuYXJpZS11c2VyOmthbmFyaWUgcGFzcysvPQ==");
        },
        response: || json!({"args": token()}),
        target: &[("access_token", "kanarie-access")],
    },
    Case {
        name: "custom-login",
        generator: r#"
  method: POST
  url: URL/login
  headers: {Content-Type: application/json; charset=UTF-8}
  body: '{"email": "{{ .auth.username }}", "pass": "{{ .auth.password }}", "device": "kubernetes"}'
  secrets:
  - {name: auth, secretRef: {name: login}}
"#,
        external_secret: "refreshInterval: 1h\n  target: {template: {data: {jwt: '{{ .token }}'}}}",
        request: |request| {
            let expected = json!({"email": "kanarie-user", "pass": "kanarie pass+/=", "device": "kubernetes"});
            assert_eq!(request.json(), expected);
            assert_eq!(request.headers["content-type"], "application/json; charset=UTF-8");
        },
        response: || json!({"token": "kanarie-access"}),
        target: &[("jwt", "kanarie-access")],
    },
    Case {
        name: "nested",
        generator: r#"
  method: POST
  url: URL/v3/auth
  headers: {Content-Type: application/json}
  body: '{"auth": {"user": "{{ .auth.username }}", "key": "v1:{{ index .auth "api-key" }}", "tenants": ["a", 2, true]}}'
  secrets:
  - {name: auth, secretRef: {name: login}}
"#,
        external_secret: "refreshInterval: 1h",
        request: |request| {
            let expected =
                json!({"auth": {"user": "kanarie-user", "key": "v1:kanarie-dash", "tenants": ["a", 2, true]}});
            assert_eq!(request.json(), expected);
        },
        response: token,
        target: &[("access_token", "kanarie-access")],
    },
    Case {
        name: "xml",
        generator: r#"
  method: POST
  url: URL/soap
  headers: {Content-Type: text/xml}
  body: "<login><user>{{ .auth.username }}</user><key>{{ .auth.apikey }}</key></login>"
  secrets:
  - {name: auth, secretRef: {name: login}}
"#,
        external_secret: "refreshInterval: 1h",
        request: |request| {
            assert_eq!(request.headers["content-type"], "text/xml");
            assert_eq!(request.body, "<login><user>kanarie-user</user><key>kanarie-api-key</key></login>");
        },
        response: token,
        target: &[("access_token", "kanarie-access")],
    },
    Case {
        name: "key",
        generator: r#"
  method: POST
  url: URL/session
  body: '{"apikey": "{{ .auth.apikey }}", "ttl": 900}'
  headers: {Content-Type: application/json}
  secrets:
  - {name: auth, secretRef: {name: login}}
"#,
        external_secret: "refreshInterval: 1h",
        request: |request| assert_eq!(request.json(), json!({"apikey": "kanarie-api-key", "ttl": 900})),
        response: token,
        target: &[("access_token", "kanarie-access")],
    },
    Case {
        name: "refresh",
        generator: r#"
  method: POST
  url: URL/token
  body: 'grant_type=refresh_token&refresh_token={{ .auth.refresh }}&client_id={{ .auth.clientid }}'
  headers: {Content-Type: application/x-www-form-urlencoded}
  secrets:
  - {name: auth, secretRef: {name: login}}
"#,
        external_secret: "refreshInterval: 1h",
        request: |request| {
            let expected =
                [("client_id", "kanarie-id"), ("grant_type", "refresh_token"), ("refresh_token", "kanarie-refresh")];
            assert_eq!(
                request.form(),
                expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect()
            );
        },
        response: token,
        target: &[("access_token", "kanarie-access"), ("refresh_token", "kanarie-refresh")],
    },
];

/// Namespaced generators and those of the cluster in turn, and both versions of ExternalSecrets.
fn manifests(case: &Case, index: usize, endpoint: &Endpoint) -> String {
    let Case { name, generator, external_secret, .. } = case;
    let generator = generator.replace("URL", &format!("http://{}", endpoint.address()));
    let (kind, spec) = if index.is_multiple_of(2) {
        ("Webhook", format!("spec:{generator}"))
    } else {
        let indented = generator.lines().map(|line| format!("    {line}\n")).collect::<String>();
        ("ClusterGenerator", format!("spec:\n  kind: Webhook\n  generator:\n    webhookSpec:\n{indented}"))
    };
    let version = if index.is_multiple_of(3) { "v1beta1" } else { "v1" };
    format!(
        "apiVersion: generators.external-secrets.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}-generator}}\n{spec}
---
apiVersion: external-secrets.io/{version}
kind: ExternalSecret
metadata: {{name: {name}}}
spec:
  {external_secret}
  dataFrom:
  - sourceRef:
      generatorRef: {{apiVersion: generators.external-secrets.io/v1alpha1, kind: {kind}, name: {name}-generator}}
"
    )
}

#[tokio::test]
async fn translated_generators_send_the_same_requests() {
    let world = World::new("import").await;
    let credentials = [
        ("clientid", "kanarie-id"),
        ("clientsecret", "kanarie secret&"),
        ("client_id", "kanarie-not-sent"),
        ("username", "kanarie-user"),
        ("password", "kanarie pass+/="),
        ("apikey", "kanarie-api-key"),
        ("api-key", "kanarie-dash"),
        ("refresh", "kanarie-refresh"),
    ];
    world.secret("login", &credentials).await;
    for (index, case) in CASES.iter().enumerate() {
        let name = case.name;
        let response = case.response;
        let endpoint = Endpoint::start(move |_| Reply::json(200, &response()));
        let Output { code, text, documents, notes } = import(&manifests(case, index, &endpoint));
        assert_eq!(code, Some(0), "{name}: {notes}");
        assert!(
            notes.contains("kubectl annotate secret login oauth.evolutionx.io/allowed-endpoints=http://"),
            "{notes}"
        );
        assert!(notes.contains(&format!("oauth.evolutionx.io/adopt-by={name}")), "{notes}");
        apply(ControlPlane::shared(), &world.namespace, &text);
        world.ready(name).await;
        let sent = endpoint.requests();
        assert_eq!(sent.len(), 1, "{name}");
        eprintln!("{name}: {text}");
        (case.request)(&sent[0]);
        let target = documents[0]["spec"]["target"]["secretName"].as_str().expect("a target");
        let values = world.values(target).await.expect("the target");
        for (key, value) in case.target {
            assert_eq!(values.get(*key).map(String::as_str), Some(*value), "{name}: {key}");
        }
    }
}

fn generator(spec: &Value) -> String {
    let webhook = json!({
        "apiVersion": "generators.external-secrets.io/v1alpha1", "kind": "Webhook", "metadata": {"name": "erp"},
        "spec": spec,
    });
    webhook.to_string()
}

#[test]
fn what_cannot_be_translated_is_named_and_not_printed() {
    let secrets = json!([{"name": "auth", "secretRef": {"name": "login"}}]);
    let post = |url: &str, body: &str| json!({"method": "POST", "url": url, "body": body, "secrets": secrets});
    let ok = "https://login.example.com/token";
    let mut ntlm = post(ok, "");
    ntlm["auth"] = json!({"ntlm": {}});
    let mut path = post(ok, "");
    path["result"] = json!({"jsonPath": "$..token"});
    let cases = [
        (ntlm, "NTLM is not supported"),
        (path, "result.jsonPath is more than a path of names"),
        (json!({"method": "PUT", "url": ok}), "only the methods GET and POST"),
        (json!({"url": ok, "body": "x"}), "a GET request with a body"),
        (post("https://{{ .auth.host }}/token", ""), "its URL contains values before the query"),
        (post("https://u:kanarie-pass@login.example.com/token", ""), "its URL contains a username or a password"),
        (
            post("https://login.example.com/token?api_key=kanarie-key", ""),
            "its URL contains a credential in plain text",
        ),
        (post(ok, "{{ if .auth.x }}a{{ end }}"), "is more than a reference to a value"),
        (post(ok, "a={{ .other.key }}"), "there is no Secret other in its secrets"),
        (
            post(ok, r#"{"auth": {"user": "{{ .auth.user }}", "password": {"password": "kanarie-nested"}}}"#),
            "its body contains a credential in plain text",
        ),
        (
            post(ok, "<login><user>{{ .auth.user }}</user><password>kanarie-in-xml</password></login>"),
            "its body contains a credential in plain text",
        ),
        (post(ok, r#"a=Basic {{ "svc:kanarie-quoted" | b64enc }}"#), "is more than a reference to a value"),
        (post(ok, "perm=x&perm=y"), "the parameter perm is there more than once"),
    ];
    for (spec, expected) in cases {
        let Output { code, documents, notes, .. } = import(&generator(&spec));
        assert_eq!((code, documents.len()), (Some(3), 0), "{notes}");
        assert!(notes.contains("error: Webhook erp is not printed") && notes.contains(expected), "{expected}: {notes}");
        assert!(!notes.contains("kanarie"), "{notes}");
    }
    let Output { code, notes, .. } = import("kind: ConfigMap");
    assert_eq!(code, Some(3));
    assert!(notes.contains("contain no Webhook generator"), "{notes}");
}

#[test]
fn what_needs_attention_is_noted() {
    let webhook = json!({
        "method": "POST", "url": "https://login.example.com/token", "timeout": "90s", "body": r#"{"pass": 12345678}"#,
    });
    let external = json!({
        "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "erp", "namespace": "shop"},
        "spec": {
            "refreshInterval": "1s",
            "target": {"name": "erp-token", "deletionPolicy": "Delete", "template": {"data": {
                "token": "{{ .jwt_token }}", "refresh": "{{ .refresh_token }}", "json": r#"{"t": {{ .jwt_token | toJson }}}"#,
            }}},
            "dataFrom": [
                {"sourceRef": {"generatorRef": {"kind": "Webhook", "name": "erp"}}},
                {"sourceRef": {"generatorRef": {"kind": "Webhook", "name": "erp"}}},
            ],
        },
    });
    let webhook = json!({
        "apiVersion": "generators.external-secrets.io/v1alpha1", "kind": "Webhook",
        "metadata": {"name": "erp", "namespace": "shop"}, "spec": webhook,
    });
    let Output { code, documents, notes, .. } = import(&format!("{webhook}\n---\n{external}"));
    assert_eq!((code, documents.len()), (Some(3), 1), "{notes}");
    let spec = &documents[0]["spec"];
    assert_eq!((spec["response"]["accessToken"].as_str(), &spec["tokenLife"]), (Some("jwt_token"), &Value::Null));
    assert_eq!(spec["target"]["keys"], json!({"accessToken": "token", "refreshToken": "refresh"}));
    assert_eq!(spec["request"].get("timeout"), None);
    assert!(!documents[0].to_string().contains("12345678") && !notes.contains("12345678"), "{notes}");
    for expected in [
        "the timeout 90s is not from 1s to 60s",
        "the refreshInterval, 1s, is shorter than any tokenLife",
        "the generator contains pass in plain text",
        "the key json of the Secret is not translated",
        "the token is taken from the member jwt_token",
        r#"kubectl patch externalsecret erp --namespace shop --type merge --patch '{"spec": {"target": {"deletionPolicy": "Retain"}}}'"#,
        "kubectl delete externalsecret erp --namespace shop --cascade=orphan && kubectl annotate secret erp-token --namespace shop",
        "it has several generators",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
}

/// Some generators contain credentials in plain text, which is no reason to copy them into another object.
#[test]
fn no_secret_value_is_printed() {
    let headers = json!({"Content-Type": "application/json", "X-Api-Key": "kanarie-header", "Authorization": "Bearer kanarie-bearer"});
    let body = json!({"grant_type": "client_credentials", "client_id": "erp", "client_secret": "kanarie-secret"});
    let spec = json!({
        "method": "POST", "url": "https://login.example.com/token", "headers": headers, "body": body.to_string(),
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"a": "kanarie-value"}});
    let Output { code, documents, notes, .. } = import(&format!("{}\n---\n{secret}", generator(&spec)));
    assert_eq!(code, Some(0), "{notes}");
    for expected in [
        "the generator contains client_secret in plain text: store it in Secret erp-credentials under the key client_secret",
        "store the whole value of the header X-Api-Key in Secret erp-credentials under the key x_api_key",
        "store the whole value of the header Authorization in Secret erp-credentials under the key authorization",
        "no ExternalSecret in the given files uses it",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
    assert_eq!(documents[0]["spec"]["clientId"], "erp");
    assert_eq!(documents[0]["spec"]["request"]["headersFrom"]["X-Api-Key"]["key"], "x_api_key");
}
