//! Guarantee: target Secrets have only types and metadata that an administrator allows, and stored tokens are bound to
//! the server that issued them.

use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::spec::validated::ValidatedSpec;
use oauth_operator::target::policy::{MetadataPattern, TargetPolicy, parse_type};
use proptest::prelude::*;
use serde_json::{Value, json};

fn validated(changes: &Value) -> Result<ValidatedSpec, String> {
    let mut spec = json!({
        "tokenEndpoint": "https://login.example.com/token", "grantType": "client_credentials",
        "credentials": {"secretName": "credentials"},
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let spec: OAuthIntegrationSpec = serde_json::from_value(spec).expect("a spec");
    ValidatedSpec::parse("it", &spec)
}

fn binding(changes: &Value) -> String {
    validated(changes).expect("a valid spec").binding
}

#[test]
fn metadata_patterns_are_keys_or_prefixes() {
    for (text, matching, others) in [
        ("team", vec!["team"], vec!["teams", "a/team", "tea"]),
        ("example.com/team", vec!["example.com/team"], vec!["team", "example.com/teams", "evil.example.com/team"]),
        (
            "example.com/*",
            vec!["example.com/a", "example.com/b.c"],
            vec!["example.com/", "example.com", "a.example.com/b"],
        ),
    ] {
        let pattern: MetadataPattern = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(pattern.to_string(), text);
        assert!(matching.iter().all(|key| pattern.matches(key)), "{text}");
        assert!(!others.iter().any(|key| pattern.matches(key)), "{text}");
    }
    for text in [
        "",
        "*",
        "/*",
        "/a",
        "a b",
        "a,b",
        "*/a",
        "a*",
        "example.com/a*",
        "oauth.evolutionx.io/*",
        "app.kubernetes.io/managed-by",
    ] {
        assert!(text.parse::<MetadataPattern>().is_err(), "{text:?} is accepted");
    }
}

#[test]
fn types_that_grant_permissions_cannot_be_allowed() {
    for text in
        ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1", "", "a b"]
    {
        assert!(parse_type(text).is_err(), "{text:?} is accepted");
    }
    assert_eq!(parse_type("example.com/token").as_deref(), Ok("example.com/token"));
}

#[test]
fn a_binding_changes_only_with_fields_that_determine_where_a_token_is_sent() {
    let before = binding(&json!({}));
    for change in [
        json!({"tokenEndpoint": "https://evil.example.com/token"}),
        json!({"tokenEndpoint": "http://login.example.com/token"}),
        json!({"tokenEndpoint": "https://login.example.com:8443/token"}),
        json!({"issuer": "https://login.example.com/realms/other"}),
        json!({"tokenEndpoint": null, "protectedResource": "https://mcp.example.com/mcp"}),
        json!({"connection": {"proxy": "http://proxy.example.com"}}),
        json!({"connection": {"caBundle": {"name": "ca"}}}),
        json!({"renewal": {"strategy": "refresh_token", "refresh": {"tokenEndpoint": "https://evil.example.com/refresh"}}}),
    ] {
        assert_ne!(binding(&change), before, "{change}");
    }
    for change in [
        json!({"tokenEndpoint": "https://login.example.com:443/v2/token"}),
        json!({"scope": "more"}),
        json!({"resource": {"key": "audience", "value": "x"}}),
        json!({"request": {"format": "form", "timeout": "20s", "parameters": {"a": "b"}, "headers": {"X-A": "b"}}}),
        json!({"clientAuthentication": {"method": "client_secret_basic"}}),
        json!({"credentials": {"secretName": "credentials", "keys": {"clientId": "id"}}}),
        json!({"revocation": {"endpoint": "https://login.example.com/revoke"}}),
        json!({"target": {"secretName": "other"}}),
        json!({"renewBefore": "10m", "tokenLife": "1h"}),
    ] {
        assert_eq!(binding(&change), before, "{change}");
    }
}

#[test]
fn a_revocation_endpoint_of_another_origin_must_be_allowed() {
    let revocation = |endpoint: &str| json!({"revocation": {"endpoint": endpoint}});
    let foreign =
        |changes: &Value| validated(changes).map(|spec| spec.revocation.expect("a revocation").foreign_origin);
    assert_eq!(foreign(&revocation("https://login.example.com/a/b")), Ok(None));
    let evil = "https://evil.example.com".to_owned();
    assert_eq!(foreign(&revocation("https://evil.example.com/revoke")), Ok(Some(evil)));
    let mut anonymous = revocation("https://evil.example.com/revoke");
    anonymous["credentials"] = Value::Null;
    anonymous["clientAuthentication"] = json!({"method": "none"});
    let evil = "https://evil.example.com".to_owned();
    assert_eq!(foreign(&anonymous), Ok(Some(evil)), "only the revocation is rejected: renewals continue");
}

proptest! {
    #[test]
    fn unknown_metadata_is_rejected(type_ in "[a-z.]{1,20}/[a-z]{1,10}", key in "[a-z.]{0,20}/?[a-z]{1,10}") {
        let policy = TargetPolicy::default();
        let check = |target: Value| policy.check(&validated(&json!({"target": target})).expect("a spec").template);
        let rejected = [json!({"type": type_}), json!({"labels": {&key: "x"}}), json!({"annotations": {&key: "x"}})];
        for target in rejected {
            prop_assert!(check(target.clone()).is_err(), "{} is allowed", target);
        }
        let described = check(json!({"labels": {"app.kubernetes.io/name": "x"}}));
        prop_assert!(described.is_ok(), "{:?}", described);
    }
}
