//! Guarantee: with a provider, an integration gets what it would get without one, can request only what the rules of the
//! provider allow, and can neither set nor change anything that belongs to the provider.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oauth_operator::api::provider::{ClusterOAuthProvider, OAuthProviderSpec, ProviderKind, ProviderRef};
use oauth_operator::api::spec::OAuthIntegrationSpec;
use oauth_operator::spec::allow::Allow;
use oauth_operator::spec::provider::{Origin, Provider};
use oauth_operator::spec::validated::{ProviderUse, ValidatedSpec};
use proptest::prelude::*;
use serde_json::{Value, json};
use test_support::spec::merge;

const ENDPOINT: &str = "https://login.example.com/token";

/// A cluster-scoped provider with these fields.
fn provider(fields: &Value) -> Provider {
    let mut spec = json!({"tokenEndpoint": ENDPOINT, "credentials": {"secretName": "erp-client"}});
    merge(&mut spec, fields);
    let object = json!({"apiVersion": "oauth.evolutionx.io/v1alpha1", "kind": "ClusterOAuthProvider", "metadata": {"name": "erp"}, "spec": spec});
    let object: ClusterOAuthProvider = serde_json::from_value(object).expect("a provider");
    Provider {
        origin: Origin {
            reference: ProviderRef { kind: ProviderKind::Cluster, name: "erp".to_owned() },
            uid: "uid".to_owned(),
            generation: 1,
            namespace: "oauth-operator".to_owned(),
        },
        spec: Arc::new(object.spec.provider.shared),
        allow: Allow::new(&object.spec.allow).expect("valid rules"),
    }
}

/// An integration that uses it, with these fields.
fn integration(fields: &Value) -> OAuthIntegrationSpec {
    let mut spec = json!({
        "providerRef": {"kind": "ClusterOAuthProvider", "name": "erp"},
        "grantType": "client_credentials",
    });
    merge(&mut spec, fields);
    serde_json::from_value(spec).expect("a spec")
}

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parse(provider: &Provider, namespace: &str, own: &Value) -> Result<ValidatedSpec, String> {
    let of_namespace = match namespace {
        "labelled" => labels(&[("erp", "true")]),
        _ => BTreeMap::new(),
    };
    let with = ProviderUse { provider, namespace, labels: Some(&of_namespace) };
    ValidatedSpec::parse_with("it", &integration(own), with)
}

/// Why a request is not allowed; `None` if it is.
fn refusal(provider: &Provider, namespace: &str, own: &Value) -> Option<String> {
    parse(provider, namespace, own).expect("a valid spec").not_allowed
}

#[test]
fn the_rules_decide_by_namespace_grant_scope_resource_and_subject() {
    const ALLOWED: &str = "";
    let scopes = json!({"scope": "own.read", "allow": [
        {"namespaces": {"names": ["billing"]}, "scopes": ["orders.read", "orders.write"]},
        {"namespaces": {"names": ["reports"]}},
        {"namespaces": {"names": ["root"]}, "scopes": ["*"]},
        {"namespaces": {"selector": {"matchLabels": {"erp": "true"}}}, "scopes": ["orders.read"]},
    ]});
    let grants = json!({"allow": [
        {"namespaces": {"names": ["billing"]}, "grantTypes": ["client_credentials"]},
        {"namespaces": {"names": ["people"]}, "grantTypes": ["password", "refresh_token"]},
        {"namespaces": {"names": ["any"]}},
    ]});
    let resources = json!({"resource": {"key": "audience", "value": "https://own.example.com"}, "allow": [
        {"namespaces": {"names": ["billing"]}, "resources": ["https://a.example.com", "https://b.example.com"]},
        {"namespaces": {"names": ["reports"]}},
    ]});
    let both = json!({"allow": [
        {"namespaces": {}, "scopes": ["read"], "resources": ["https://a.example.com"]},
        {"namespaces": {}, "scopes": ["write"], "resources": ["https://b.example.com"]},
        {"namespaces": {}, "scopes": ["admin"], "resources": ["https://b.example.com"], "grantTypes": ["password"]},
    ]});
    let subjects = json!({
        "issuer": "https://login.example.com",
        "assertion": {"subject": "robot@example.com"},
        "allow": [
            {"namespaces": {"names": ["billing"]}, "subjects": ["billing@example.com"]},
            {"namespaces": {"names": ["reports"]}},
            {"namespaces": {"names": ["root"]}, "subjects": ["*"]},
        ],
    });
    let nobody = json!({});
    let everybody = json!({"allow": [{"namespaces": {}}]});
    let nowhere = json!({"allow": [{"namespaces": {"selector": {"matchExpressions": [{"key": "erp", "operator": "In", "values": ["never"]}]}}}]});
    let password = |own: Value| {
        let mut spec = json!({"grantType": "password", "credentials": {"secretName": "user"}});
        merge(&mut spec, &own);
        spec
    };
    let jwt = |own: Value| {
        let mut spec = json!({"grantType": "jwt_bearer"});
        merge(&mut spec, &own);
        spec
    };
    let on = |resource: &str| json!({"resource": {"value": resource}});
    let with = |scope: &str, resource: &str| json!({"scope": scope, "resource": {"value": resource}});
    // provider, namespace, integration, what the refusal contains
    let table = [
        (&nobody, "billing", json!({}), "does not allow namespace billing"),
        (&everybody, "billing", json!({}), ALLOWED),
        (&nowhere, "labelled", json!({}), "does not allow namespace labelled"),
        // scopes
        (&scopes, "billing", json!({"scope": "orders.read"}), ALLOWED),
        (&scopes, "billing", json!({"scope": "orders.write orders.read"}), ALLOWED),
        (
            &scopes,
            "billing",
            json!({"scope": "orders.read admin"}),
            "the scope admin for namespace billing; allowed: orders.read, orders.write",
        ),
        (&scopes, "billing", json!({"scope": "orders.read\tadmin"}), "the scope admin"),
        (&scopes, "billing", json!({"scope": "orders.read,admin"}), "the scope orders.read,admin"),
        (&scopes, "billing", json!({"scope": "*"}), "the scope *"),
        (&scopes, "billing", json!({"scope": "ORDERS.READ"}), "the scope ORDERS.READ"),
        // The scope of the provider itself is not listed.
        (&scopes, "billing", json!({}), "the scope own.read"),
        (&scopes, "billing", json!({"scope": " "}), "requests without a known scope"),
        (&scopes, "reports", json!({}), ALLOWED),
        (&scopes, "reports", json!({"scope": "own.read"}), ALLOWED),
        (&scopes, "reports", json!({"scope": "orders.read"}), "the scope orders.read"),
        (&scopes, "reports", json!({"scope": " "}), "requests without a known scope"),
        (&scopes, "root", json!({"scope": "anything at all"}), ALLOWED),
        (&scopes, "root", json!({"scope": " "}), ALLOWED),
        (&scopes, "labelled", json!({"scope": "orders.read"}), ALLOWED),
        (&scopes, "labelled", json!({"scope": "orders.write"}), "the scope orders.write"),
        (&scopes, "unlabelled", json!({"scope": "orders.read"}), "does not allow namespace unlabelled"),
        (&scopes, "billing-2", json!({"scope": "orders.read"}), "does not allow namespace billing-2"),
        // grants
        (&grants, "billing", json!({}), ALLOWED),
        (&grants, "billing", password(json!({})), "the grant password"),
        (&grants, "people", password(json!({})), ALLOWED),
        (&grants, "people", json!({}), "the grant client_credentials"),
        (
            &grants,
            "people",
            password(json!({"grantType": "refresh_token", "renewal": {"fallback": {"grantType": "password"}}})),
            ALLOWED,
        ),
        (
            &grants,
            "people",
            password(
                json!({"grantType": "refresh_token", "renewal": {"fallback": {"grantType": "client_credentials"}}}),
            ),
            "the grant client_credentials",
        ),
        (&grants, "any", password(json!({})), ALLOWED),
        // Nobody may choose a scope, because the rules do not list any.
        (&grants, "any", json!({"scope": "orders.read"}), "the scope orders.read"),
        // resources
        (&resources, "billing", on("https://a.example.com"), ALLOWED),
        (&resources, "billing", on("https://c.example.com"), "the resource https://c.example.com"),
        (
            &resources,
            "billing",
            json!({"resource": {"values": ["https://a.example.com", "https://c.example.com"]}}),
            "the resource https://c.example.com",
        ),
        (&resources, "billing", json!({}), "the resource https://own.example.com"),
        (&resources, "reports", json!({}), ALLOWED),
        (&resources, "reports", on("https://a.example.com"), "the resource https://a.example.com"),
        // A scope is allowed only for the resources of the same rule.
        (&both, "billing", with("read", "https://a.example.com"), ALLOWED),
        (&both, "billing", with("write", "https://b.example.com"), ALLOWED),
        (&both, "billing", with("write", "https://a.example.com"), "the scope write"),
        (&both, "billing", with("read write", "https://a.example.com"), "the scope write"),
        (&both, "billing", with("admin", "https://b.example.com"), "the scope admin"),
        (&both, "billing", password(with("admin", "https://b.example.com")), ALLOWED),
        (
            &both,
            "billing",
            json!({"scope": "read", "resource": {"values": ["https://a.example.com", "https://b.example.com"]}}),
            "the scope read",
        ),
        // subjects
        (&subjects, "billing", jwt(json!({"assertion": {"subject": "billing@example.com"}})), ALLOWED),
        (
            &subjects,
            "billing",
            jwt(json!({"assertion": {"subject": "ceo@example.com"}})),
            "the subject ceo@example.com",
        ),
        (&subjects, "billing", jwt(json!({})), "the subject robot@example.com"),
        (&subjects, "reports", jwt(json!({})), ALLOWED),
        (
            &subjects,
            "reports",
            jwt(json!({"assertion": {"subject": "ceo@example.com"}})),
            "the subject ceo@example.com",
        ),
        (&subjects, "root", jwt(json!({"assertion": {"subject": "ceo@example.com"}})), ALLOWED),
        // Other grants have no subject.
        (&subjects, "billing", json!({}), ALLOWED),
        // Of a token that somebody else has issued, the subject is not known.
        (
            &subjects,
            "billing",
            jwt(json!({"assertion": {"from": {"integration": "other"}}})),
            "without a known subject",
        ),
        (&subjects, "root", jwt(json!({"assertion": {"from": {"integration": "other"}}})), ALLOWED),
        (&subjects, "billing", json!({"grantType": "token_exchange"}), "without a known subject"),
        (&grants, "any", json!({"grantType": "token_exchange"}), ALLOWED),
        (&grants, "billing", json!({"renewal": {"strategy": "refresh_token"}}), "the grant refresh_token"),
        (&grants, "any", json!({"renewal": {"strategy": "refresh_token"}}), ALLOWED),
    ];
    for (rules, namespace, own, expected) in table {
        let found = refusal(&provider(rules), namespace, &own);
        let row = format!("{namespace}: {own} with {rules}");
        match expected {
            ALLOWED => assert_eq!(found, None, "{row}"),
            expected => {
                let found = found.unwrap_or_else(|| panic!("allowed: {row}"));
                assert!(
                    found.starts_with("ClusterOAuthProvider erp does not allow") && found.contains(expected),
                    "{row}: {found}"
                );
            }
        }
    }
}

#[test]
fn many_names_do_not_make_the_check_slow() {
    let names = |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    let rule =
        json!({"namespaces": {}, "scopes": names("other", 256), "resources": names("https://example.com/", 256)});
    let rules = provider(&json!({"allow": vec![rule; 256]}));
    let most =
        json!({"scope": names("other", 64).join(" "), "resource": {"values": names("https://example.com/", 16)}});
    let started = std::time::Instant::now();
    assert_eq!(refusal(&rules, "billing", &most), None);
    // 64 × 16 × 256 comparisons, and not the 16 million that 4,000 names would need.
    println!("the most expensive check: {:?}", started.elapsed());
    let more = json!({"scope": names("s", 65).join(" ")});
    assert!(refusal(&rules, "billing", &more).is_some_and(|why| why.contains("more than 64 names")));
}

#[test]
fn rules_show_a_namespace_only_what_it_may_itself_request() {
    let rules = provider(&json!({"allow": [
        {"namespaces": {"names": ["billing"]}, "scopes": ["orders.read"]},
        {"namespaces": {"names": ["secret-project"]}, "scopes": ["acquisition.read"]},
    ]}));
    for own in [json!({"scope": "acquisition.read"}), json!({"scope": "x"}), json!({})] {
        let message = refusal(&rules, "billing", &own).expect("not allowed");
        assert!(!message.contains("secret-project"), "{message}");
        assert!(!message.contains("acquisition") || own["scope"] == "acquisition.read", "{message}");
    }
}

/// Rules and a request, as small numbers, so that they often meet.
type Dimension = Option<Vec<u8>>;

fn dimension() -> impl Strategy<Value = Dimension> {
    proptest::option::of(proptest::collection::vec(0_u8..4, 1..3))
}

fn named(prefix: &str, numbers: &[u8]) -> Vec<String> {
    numbers.iter().map(|number| if *number == 3 { "*".to_owned() } else { format!("{prefix}{number}") }).collect()
}

proptest! {
    /// Each combination of what is requested is allowed by one rule, and only then the request is.
    #[test]
    fn a_request_is_allowed_if_each_of_its_combinations_is(
        rules in proptest::collection::vec((0_u8..3, dimension(), dimension(), dimension()), 0..4),
        namespace in 0_u8..3,
        own_scopes in proptest::collection::vec(0_u8..3, 0..2),
        scopes in proptest::option::of(proptest::collection::vec(0_u8..3, 0..3)),
        resources in proptest::collection::vec(0_u8..3, 0..3),
        by_password in any::<bool>(),
    ) {
        let grants = |numbers: &[u8]| -> Vec<&str> {
            numbers.iter().map(|number| if number % 2 == 0 { "client_credentials" } else { "password" }).collect()
        };
        let allow: Vec<Value> = rules.iter().map(|(namespace, of_grants, of_scopes, of_resources)| {
            let mut rule = json!({"namespaces": {"names": [format!("ns{namespace}")]}});
            if let Some(all) = of_grants { rule["grantTypes"] = json!(grants(all)); }
            if let Some(all) = of_scopes { rule["scopes"] = json!(named("s", all)); }
            if let Some(all) = of_resources { rule["resources"] = json!(named("r", all)); }
            rule
        }).collect();
        let mut fields = json!({"allow": allow});
        if !own_scopes.is_empty() { fields["scope"] = json!(named("s", &own_scopes).join(" ")); }
        let mut own = json!({});
        if by_password { own = json!({"grantType": "password", "credentials": {"secretName": "user"}}); }
        if let Some(scopes) = &scopes { own["scope"] = json!(format!(" {}", named("s", scopes).join(" "))); }
        if !resources.is_empty() { own["resource"] = json!({"values": named("r", &resources)}); }

        // The same, by sets of combinations.
        let grant = u8::from(by_password);
        let effective: BTreeSet<Option<u8>> = match &scopes {
            Some(scopes) if scopes.is_empty() => BTreeSet::from([None]),
            Some(scopes) => scopes.iter().copied().map(Some).collect(),
            None if own_scopes.is_empty() => BTreeSet::from([None]),
            None => own_scopes.iter().copied().map(Some).collect(),
        };
        let wanted_resources: BTreeSet<Option<u8>> =
            if resources.is_empty() { BTreeSet::from([None]) } else { resources.iter().copied().map(Some).collect() };
        let universe: Vec<Option<u8>> = vec![None, Some(0), Some(1), Some(2)];
        let of_rule = |listed: &Dimension, of_provider: &[u8]| -> BTreeSet<Option<u8>> {
            match listed {
                Some(all) if all.contains(&3) => universe.iter().copied().collect(),
                Some(all) => all.iter().copied().map(Some).collect(),
                None if of_provider.is_empty() => BTreeSet::from([None]),
                None => of_provider.iter().copied().map(Some).collect(),
            }
        };
        let mut allowed = BTreeSet::new();
        for (of_namespace, of_grants, of_scopes, of_resources) in &rules {
            let has_grant = of_grants.as_ref().is_none_or(|all| all.iter().any(|number| number % 2 == grant));
            if *of_namespace != namespace || !has_grant { continue; }
            for scope in of_rule(of_scopes, &own_scopes) {
                for resource in of_rule(of_resources, &[]) {
                    allowed.insert((scope, resource));
                }
            }
        }
        let expected = effective.iter().all(|scope| wanted_resources.iter().all(|resource| allowed.contains(&(*scope, *resource))));
        let found = refusal(&provider(&fields), &format!("ns{namespace}"), &own);
        prop_assert_eq!(found.is_none(), expected, "{} {} {:?}", fields, own, found);
    }
}

#[test]
fn what_belongs_to_the_provider_is_refused_with_the_name_of_the_field() {
    let erp = provider(&json!({"allow": [{"namespaces": {}, "scopes": ["*"], "resources": ["*"], "subjects": ["*"]}]}));
    let evil = "https://evil.example.com/token";
    let cases = [
        (json!({"tokenEndpoint": evil}), "spec.tokenEndpoint belongs to ClusterOAuthProvider erp"),
        (json!({"issuer": evil}), "spec.issuer belongs"),
        (json!({"protectedResource": evil}), "spec.protectedResource belongs"),
        (json!({"clientId": "me"}), "spec.clientId belongs"),
        (json!({"clientAuthentication": {"method": "none"}}), "spec.clientAuthentication belongs"),
        (json!({"connection": {"proxy": "http://evil.example.com"}}), "spec.connection belongs"),
        (json!({"dpop": {}}), "spec.dpop belongs"),
        (json!({"request": {"body": "$credentials"}}), "spec.request belongs"),
        (json!({"request": {"parameters": {"scope": "admin"}}}), "spec.request belongs"),
        (json!({"request": {"timeout": "60s"}}), "spec.request belongs"),
        (json!({"response": {"accessToken": "$body"}}), "spec.response belongs"),
        (
            json!({"renewal": {"strategy": "refresh_token", "refresh": {"tokenEndpoint": evil}}}),
            "spec.renewal.refresh belongs",
        ),
        (
            json!({"grantType": "refresh_token", "credentials": {"secretName": "user"},
                   "renewal": {"fallback": {"grantType": "client_credentials", "tokenEndpoint": evil}}}),
            "spec.renewal.fallback.tokenEndpoint belongs",
        ),
        (json!({"revocation": {"endpoint": evil}}), "spec.revocation.endpoint belongs"),
        (json!({"revocation": {"format": "json"}}), "spec.revocation.format belongs"),
        (
            json!({"grantType": "jwt_bearer", "assertion": {"audience": evil}}),
            "all of spec.assertion except subject and from",
        ),
        (
            json!({"grantType": "jwt_bearer", "assertion": {"claims": {"scope": "admin"}}}),
            "all of spec.assertion except",
        ),
        (
            json!({"grantType": "jwt_bearer", "assertion": {"place": "AuthorizationHeader"}}),
            "all of spec.assertion except",
        ),
        (
            json!({"credentials": {"secretName": "mine", "keys": {"clientSecret": "x"}}}),
            "all of spec.credentials.keys except",
        ),
        (json!({"resource": {"key": "scope_override", "value": "x"}}), "spec.resource.key belongs"),
        (json!({"resource": {"key": "requested_actor", "value": "x"}}), "spec.resource.key belongs"),
        (json!({"grantType": "self_signed_jwt"}), "spec.grantType self_signed_jwt does not go with"),
        (json!({"revocation": {"onDeletion": true}}), "spec.revocation does not go with"),
        (json!({"grantType": "refresh_token"}), "spec.credentials must be set"),
    ];
    for (own, expected) in cases {
        let error = parse(&erp, "billing", &own).err().unwrap_or_else(|| panic!("accepted: {own}"));
        assert!(error.contains(expected), "{own}: {error}");
    }
    let account = json!({"serviceAccountName": "me", "audience": "https://login.example.com"});
    let federated = provider(&json!({
        "clientAuthentication": {"method": "service_account_token"},
        "serviceAccountToken": {"serviceAccountName": "erp", "audience": "https://login.example.com"},
        "allow": [{"namespaces": {}}],
    }));
    let own = json!({"grantType": "token_exchange", "tokenExchange": {"subjectTokenSource": "ServiceAccount"}, "serviceAccountToken": account});
    let error = parse(&federated, "billing", &own).expect_err("two ServiceAccounts");
    assert!(error.contains("spec.serviceAccountToken does not go with ClusterOAuthProvider erp"), "{error}");
    assert!(parse(&erp, "billing", &own).is_ok(), "the subject is a ServiceAccount of the integration");
}

/// The request of an integration with a provider is that of an integration with all of the fields.
#[test]
fn the_request_is_the_same_as_without_a_provider() {
    let common = json!({
        "issuer": "https://login.example.com",
        "clientAuthentication": {"method": "private_key_jwt", "assertion": {"keyId": "1"}},
        "request": {"headers": {"X-Tenant": "one"}, "timeout": "20s", "parameters": {"a": 1}},
        "response": {"accessToken": "data.token"},
        "tokenLife": "10m",
        "renewBefore": "1m",
        "scope": "own",
        "resource": {"key": "audience", "value": "https://api.example.com"},
        "renewal": {"strategy": "refresh_token", "refresh": {"format": "json"}, "jitter": "5s"},
        "revocation": {"onDeletion": true},
        "dpop": {},
    });
    let erp = provider(&{
        let mut all = common.clone();
        merge(
            &mut all,
            &json!({"tokenEndpoint": null, "allow": [{"namespaces": {}, "scopes": ["*"], "resources": ["*"]}]}),
        );
        all
    });
    let cases = [
        (json!({}), json!({})),
        (json!({"scope": "other"}), json!({"scope": "other"})),
        (
            json!({"resource": {"value": "https://b.example.com"}}),
            json!({"resource": {"key": "audience", "value": "https://b.example.com"}}),
        ),
        (json!({"tokenLife": "5m"}), json!({"tokenLife": "5m"})),
        (
            json!({"renewal": {"jitter": "1s"}}),
            json!({"renewal": {"strategy": "refresh_token", "refresh": {"format": "json"}, "jitter": "1s"}}),
        ),
        (json!({"renewal": {"strategy": "grant"}}), json!({"renewal": {"strategy": "grant", "jitter": "5s"}})),
        (json!({"revocation": {"afterRenewal": "5m"}}), json!({"revocation": {"afterRenewal": "5m"}})),
    ];
    for (own, whole) in cases {
        let with = parse(&erp, "billing", &own).expect("valid");
        let mut all = common.clone();
        all.as_object_mut().expect("an object").extend(whole.as_object().expect("an object").clone());
        merge(&mut all, &json!({"grantType": "client_credentials", "credentials": {"secretName": "erp-client"}}));
        let alone: OAuthIntegrationSpec = serde_json::from_value(all).expect("a spec");
        let alone = ValidatedSpec::parse("it", &alone).expect("valid");
        assert_eq!(format!("{:?}", with.token_request), format!("{:?}", alone.token_request), "{own}");
        assert_eq!(format!("{:?}", with.renewal), format!("{:?}", alone.renewal), "{own}");
        assert_eq!(format!("{:?}", with.renewal_time), format!("{:?}", alone.renewal_time), "{own}");
        assert_eq!(format!("{:?}", with.revocation), format!("{:?}", alone.revocation), "{own}");
        assert_eq!(with.spec_hash, alone.spec_hash, "{own}");
        assert_eq!(with.token_lifetime, alone.token_lifetime, "{own}");
        // A token is bound to the provider, whose Secret is in another namespace.
        assert_ne!(with.binding, alone.binding);
        assert_eq!(with.credentials_name, "oauth-operator/erp-client");
    }
}

#[test]
fn a_field_of_the_provider_that_does_not_apply_to_the_grant_is_left_out() {
    let erp = provider(&json!({
        "renewal": {"strategy": "refresh_token", "fallback": {"grantType": "password", "tokenEndpoint": "https://login.example.com/login"}},
        "assertion": {"place": "AuthorizationHeader"},
        "request": {"headersFrom": {"Authorization": {"key": "header"}}},
        "allow": [{"namespaces": {}}],
    }));
    let plain = parse(&erp, "billing", &json!({})).expect("valid");
    assert!(plain.renewal.is_refresh_first() && plain.token_request.grant.is_refresh());
    let refresh = json!({"grantType": "refresh_token", "credentials": {"secretName": "user"}});
    let refresh = parse(&erp, "billing", &refresh).expect("valid");
    let fallback = refresh.renewal.fallback().expect("that of the provider");
    assert_eq!(fallback.endpoint.known().map(|url| url.as_str()), Some("https://login.example.com/login"));
}

#[test]
fn the_spec_of_a_namespaced_provider_has_the_same_fields_without_rules() {
    let spec = json!({"tokenEndpoint": ENDPOINT, "credentials": {"secretName": "erp-client"}, "scope": "own"});
    let spec: OAuthProviderSpec = serde_json::from_value(spec).expect("a spec");
    let origin = Origin {
        reference: ProviderRef { kind: ProviderKind::Namespaced, name: "erp".to_owned() },
        uid: "uid".to_owned(),
        generation: 1,
        namespace: "billing".to_owned(),
    };
    let provider = Provider { origin, spec: Arc::new(spec.shared), allow: Allow::All };
    let own = json!({"providerRef": {"name": "erp"}, "grantType": "client_credentials", "scope": "any"});
    let own: OAuthIntegrationSpec = serde_json::from_value(own).expect("a spec");
    let with = ProviderUse { provider: &provider, namespace: "billing", labels: None };
    let spec = ValidatedSpec::parse_with("it", &own, with).expect("valid");
    assert_eq!((spec.not_allowed, spec.credentials_name.as_str()), (None, "erp-client"));
}

#[test]
fn an_invalid_selector_is_named() {
    let rule = json!({"namespaces": {"selector": {"matchExpressions": [{"key": "erp", "operator": "Matches", "values": ["x"]}]}}});
    let rules = vec![serde_json::from_value(rule).expect("a rule")];
    let error = Allow::new(&rules).expect_err("invalid");
    assert!(error.starts_with("spec.allow[0].namespaces.selector is invalid"), "{error}");
}
