//! Hostile documents, and the URLs of the documents.

use serde_json::{Value, json};

use crate::oauth::http::protected_resource::lists::MAX_SCOPE;
use crate::oauth::http::protected_resource::*;

const RESOURCE: &str = "https://mcp.example.com/mcp";
const ISSUER: &str = "https://login.example.com/realms/a";

fn resource(text: &str) -> ProtectedResource {
    ProtectedResource { url: Url::parse(text).expect("a URL"), name: text.to_owned() }
}

fn parse(document: &Value, issuer: Option<&str>) -> Result<ResourceMetadata, RequestError> {
    ResourceMetadata::parse(&resource(RESOURCE), issuer, document.to_string().as_bytes())
}

fn parse_smart(document: &Value, issuer: Option<&str>) -> Result<ResourceMetadata, RequestError> {
    ResourceMetadata::parse_smart(&resource(RESOURCE), issuer, document.to_string().as_bytes())
}

fn named(metadata: Result<ResourceMetadata, RequestError>) -> (String, DefaultScope) {
    match metadata.expect("metadata").server {
        NamedServer::Issuer { name, scope, .. } => (name, scope),
        other @ NamedServer::TokenEndpoint { .. } => panic!("{other:?}"),
    }
}

#[track_caller]
fn fails(metadata: Result<ResourceMetadata, RequestError>, message: &str, advice: Advice) {
    let error = metadata.expect_err("an error");
    assert!(error.message.contains(message), "{:?} does not contain {message:?}", error.message);
    assert_eq!(error.advice, [advice], "{}", error.message);
}

#[test]
fn the_well_known_path_is_between_host_and_path() {
    let cases = [
        ("https://a.example", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example:8443/mcp", "https://a.example:8443/.well-known/oauth-protected-resource/mcp"),
        ("https://a.example/mcp/", "https://a.example/.well-known/oauth-protected-resource/mcp/"),
        ("https://a.example/a/b", "https://a.example/.well-known/oauth-protected-resource/a/b"),
        ("https://a.example?k=v", "https://a.example/.well-known/oauth-protected-resource?k=v"),
        ("https://a.example/?k=v", "https://a.example/.well-known/oauth-protected-resource?k=v"),
        ("https://a.example/mcp?k=v&l", "https://a.example/.well-known/oauth-protected-resource/mcp?k=v&l"),
        ("https://[::1]:1/x", "https://[::1]:1/.well-known/oauth-protected-resource/x"),
    ];
    for (given, expected) in cases {
        assert_eq!(metadata_url(&resource(given).url), expected, "{given}");
    }
}

#[test]
fn the_smart_configuration_is_below_the_base_url() {
    let cases = [
        ("https://a.example", Some("https://a.example/.well-known/smart-configuration")),
        ("https://a.example/fhir/r4", Some("https://a.example/fhir/r4/.well-known/smart-configuration")),
        ("https://a.example/fhir/r4/", Some("https://a.example/fhir/r4/.well-known/smart-configuration")),
        ("https://a.example/fhir?tenant=1", None),
    ];
    for (given, expected) in cases {
        assert_eq!(smart_url(&resource(given).url).as_deref(), expected, "{given}");
    }
}

#[test]
fn one_authorization_server_and_all_scopes_are_the_defaults() {
    let document = |scopes: Value| json!({"resource": RESOURCE, "authorization_servers": [ISSUER], "scopes_supported": scopes, "x": [1]});
    let known = |text: &str| DefaultScope::Known(text.to_owned());
    let cases = [
        (json!(["read", "write"]), known("read write")),
        (json!(["https://a.example/scope"]), known("https://a.example/scope")),
        (json!([]), DefaultScope::None),
        (Value::Null, DefaultScope::None),
        (json!(["read", "write admin"]), DefaultScope::Unusable),
        (json!(["read", ""]), DefaultScope::Unusable),
        (json!(["read\n", "write"]), DefaultScope::Unusable),
        (json!(["\"", "write"]), DefaultScope::Unusable),
        (json!(["a".repeat(MAX_SCOPE)]), known(&"a".repeat(MAX_SCOPE))),
        (json!(["a".repeat(MAX_SCOPE - 1), "b"]), DefaultScope::Unusable),
        (json!(vec!["s"; 10_000]), DefaultScope::Unusable),
    ];
    for (scopes, expected) in cases {
        let (issuer, scope) = named(parse(&document(scopes), None));
        assert_eq!((issuer.as_str(), scope), (ISSUER, expected));
    }
    let least = json!({"resource": RESOURCE, "authorization_servers": [ISSUER]});
    assert_eq!(named(parse(&least, None)).1, DefaultScope::None);
}

#[test]
fn the_issuer_of_the_spec_selects_a_server() {
    let other = "https://login.example.com/realms/b";
    let document = json!({"resource": RESOURCE, "authorization_servers": [other, ISSUER]});
    assert_eq!(named(parse(&document, Some(ISSUER))).0, ISSUER);
    assert_eq!(named(parse(&document, Some(other))).0, other);
    fails(parse(&document, None), &format!("lists 2 authorization servers ({other}, {ISSUER})"), Advice::SelectIssuer);
    let wrong = parse(&document, Some("https://login.example.com/realms/a/"));
    fails(wrong, &format!("lists {other}, {ISSUER} and not the issuer"), Advice::CheckUrl(UrlKind::Issuer));
    for none in [json!([]), Value::Null] {
        let document = json!({"resource": RESOURCE, "authorization_servers": none});
        for issuer in [None, Some(ISSUER)] {
            fails(parse(&document, issuer), "names no authorization server", Advice::NameServer);
        }
    }
    let many: Vec<String> = (0..=MAX_SERVERS).map(|number| format!("https://{number}.example")).collect();
    let document = json!({"resource": RESOURCE, "authorization_servers": many});
    for issuer in [None, Some("https://1.example")] {
        let error = parse(&document, issuer);
        fails(error, "lists more than 64 authorization servers", Advice::CheckUrl(UrlKind::ProtectedResource));
    }
}

#[test]
fn metadata_of_another_resource_is_not_used() {
    let cases = [
        ("https://mcp.example.com/mcp/", "ends with a slash that the configured one does not have"),
        ("https://mcp.example.com", "has another path"),
        ("https://mcp.example.com/MCP", "has another path"),
        ("https://evil.example.com/mcp", "has another host"),
        ("http://mcp.example.com/mcp", "has another scheme"),
        ("https://mcp.example.com:8443/mcp", "has another port"),
        ("https://mcp.example.com/mcp?x=1", "has another query"),
        ("https://MCP.example.com/mcp", "is not the same character by character"),
        ("https://mcp.example.com:443/mcp", "is not the same character by character"),
        ("mcp", "is not a URL"),
        ("", "is not a URL"),
    ];
    for (other, what) in cases {
        let document = json!({"resource": other, "authorization_servers": [ISSUER]});
        let message = format!("the resource in the metadata is {other}, which {what}");
        fails(parse(&document, None), &message, Advice::CheckUrl(UrlKind::ProtectedResource));
    }
    let slash = resource("https://mcp.example.com/mcp/");
    let body = json!({"resource": RESOURCE, "authorization_servers": [ISSUER]}).to_string();
    let error = ResourceMetadata::parse(&slash, None, body.as_bytes());
    let advice = Advice::CheckUrl(UrlKind::ProtectedResource);
    fails(error, "lacks the slash at the end of the configured one", advice);
}

#[test]
fn a_server_without_tls_or_with_an_unusual_url_is_not_used() {
    let long = format!("https://login.example.com/{}", "a".repeat(2_048));
    let cases = [
        ("http://login.example.com", "is not an https URL"),
        ("ftp://login.example.com", "is not an https URL"),
        ("https://user:password@login.example.com", "is not an https URL"),
        ("login.example.com", "is not a URL"),
        (long.as_str(), "has more than 2048 bytes"),
        ("https://login.example.com?x=1", "has a query, a fragment or spaces"),
        ("https://login.example.com#x", "has a query, a fragment or spaces"),
        ("https://login.example.com/a\nb", "has a query, a fragment or spaces"),
    ];
    for (server, message) in cases {
        let document = json!({"resource": RESOURCE, "authorization_servers": [server]});
        fails(parse(&document, None), message, Advice::CheckUrl(UrlKind::ProtectedResource));
        // The issuer of the spec changes nothing about it.
        fails(parse(&document, Some(server)), message, Advice::CheckUrl(UrlKind::ProtectedResource));
    }
    let plain = resource("http://127.0.0.1:8080/mcp");
    let body = json!({"resource": plain.name, "authorization_servers": ["http://127.0.0.1:1"]}).to_string();
    assert_eq!(named(ResourceMetadata::parse(&plain, None, body.as_bytes())).0, "http://127.0.0.1:1");
}

#[test]
fn a_document_of_another_form_is_not_used() {
    let (invalid, advice) = ("is not valid (RFC 9728, section 2)", Advice::CheckUrl(UrlKind::ProtectedResource));
    let cases = [
        json!([]),
        json!({"authorization_servers": [ISSUER]}),
        json!({"resource": 1, "authorization_servers": [ISSUER]}),
        json!({"resource": RESOURCE, "authorization_servers": ISSUER}),
        json!({"resource": RESOURCE, "authorization_servers": [1]}),
        json!({"resource": RESOURCE, "authorization_servers": {"0": ISSUER}}),
        json!({"resource": RESOURCE, "authorization_servers": [ISSUER], "scopes_supported": "read"}),
        json!({"resource": RESOURCE, "authorization_servers": [ISSUER], "scopes_supported": [null]}),
    ];
    for document in cases {
        fails(parse(&document, None), invalid, advice.clone());
    }
    for body in ["", "<html>", "{\"resource\":\"a\",\"resource\":\"b\"}"] {
        fails(ResourceMetadata::parse(&resource(RESOURCE), None, body.as_bytes()), invalid, advice.clone());
    }
}

#[test]
fn a_smart_configuration_names_the_endpoint_itself() {
    let endpoint = "https://login.example.com/token";
    let document = json!({"token_endpoint": endpoint, "issuer": ISSUER, "scopes_supported": ["user/*.rs"]});
    for issuer in [None, Some(ISSUER)] {
        match parse_smart(&document, issuer).expect("metadata").server {
            NamedServer::TokenEndpoint { name, .. } => assert_eq!(name, endpoint),
            other @ NamedServer::Issuer { .. } => panic!("{other:?}"),
        }
    }
    let check = || Advice::CheckUrl(UrlKind::ProtectedResource);
    let with = |endpoint: &str| json!({"token_endpoint": endpoint, "issuer": ISSUER});
    fails(parse_smart(&json!({}), None), "does not contain token_endpoint", check());
    fails(parse_smart(&with("http://login.example.com/token"), None), "is not an https URL", check());
    fails(parse_smart(&with("/token"), None), "is not a URL", check());
    fails(parse_smart(&with("https://login.example.com/token#x"), None), "with a fragment or spaces", check());
    fails(parse_smart(&json!([1]), None), "is not valid (SMART App Launch", check());
}

#[test]
fn a_smart_configuration_must_belong_to_the_issuer() {
    let check = || Advice::CheckUrl(UrlKind::Issuer);
    let none = json!({"token_endpoint": "https://login.example.com/token"});
    fails(parse_smart(&none, Some(ISSUER)), "names no issuer", check());
    let other = json!({"token_endpoint": "https://login.example.com/token", "issuer": "https://a.example"});
    fails(parse_smart(&other, Some(ISSUER)), "the issuer https://a.example, which does not match", check());
    // A FHIR server that is compromised can write the issuer of the spec, but not receive what is sent to it.
    for endpoint in ["https://evil.example.com/token", "https://login.example.com:8443/token"] {
        let document = json!({"token_endpoint": endpoint, "issuer": ISSUER});
        fails(
            parse_smart(&document, Some(ISSUER)),
            "does not have the origin of the issuer",
            Advice::NameTokenEndpoint,
        );
    }
}
