//! Guarantee: exactly the unused parts of the API server's responses are dropped, and unusual content of one object
//! does not affect the other objects.

use kube::ResourceExt;
use kube::core::{DeserializeGuard, ObjectList, WatchEvent};
use oauth_operator::api::spec::OAuthIntegration;
use oauth_operator::kube_api::filter::Filter;
use oauth_operator::kube_api::filter::types::{Framing, LEFT_OUT};
use oauth_operator::kube_api::lenient::{Lenient, WatchedSecret};
use oauth_operator::kube_api::rules::{MAX_DEPTH, Reading, Rules};
use oauth_operator::target::integrity::Integrity;
use oauth_operator::target::snapshot::TargetSnapshot;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn rules(uri: &str) -> Rules {
    accepted(uri, "application/json")
}

fn accepted(uri: &str, accept: &str) -> Rules {
    Reading::of(&http::Request::get(uri).header("accept", accept).body(()).expect("a request")).rules
}

fn integrations() -> Rules {
    rules("/apis/oauth.evolutionx.io/v1alpha1/oauthintegrations?limit=5")
}

fn secrets() -> Rules {
    rules("/api/v1/secrets?limit=5")
}

/// The list of the credentials Secrets.
fn metadata_of_secrets() -> Rules {
    accepted("/api/v1/secrets?limit=5", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
}

/// The output of the filter for input in chunks of these sizes.
fn filter(rules: Rules, text: &[u8], sizes: &[usize]) -> Vec<u8> {
    try_filter(rules, text, sizes).expect("JSON")
}

/// As [`filter`]; `None` if the input is not JSON.
fn try_filter(rules: Rules, text: &[u8], sizes: &[usize]) -> Option<Vec<u8>> {
    let mut filter = Filter::new(rules, Framing::One);
    let (mut rest, mut sizes) = (text, sizes.iter().copied().cycle());
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        filter.push(piece).ok()?;
        rest = more;
    }
    filter.finish().ok()?;
    Some(filter.take())
}

/// A harmless object without the parts that should be dropped, implemented from the rules and not with the filter.
fn pruned(rules: &Rules, object: &Value) -> Value {
    let Value::Object(members) = object else { return object.clone() };
    let read = |name: &str| rules.members.is_empty() || rules.members.contains(&name);
    let members = members.iter().filter(|(name, _)| read(name));
    members
        .map(|(name, value)| match (name.as_str(), value) {
            ("metadata", Value::Object(metadata)) => (name.clone(), pruned_metadata(rules, metadata)),
            _ => (name.clone(), value.clone()),
        })
        .collect::<Map<_, _>>()
        .into()
}

fn pruned_metadata(rules: &Rules, metadata: &Map<String, Value>) -> Value {
    use oauth_operator::kube_api::rules::Annotations;
    let own = |name: &str| name.starts_with("oauth.evolutionx.io/");
    let keep = |name: &str, value: &Value| match name {
        "labels" => rules.labels.then(|| value.clone()),
        "annotations" if rules.annotations == Annotations::All => Some(value.clone()),
        "annotations" if rules.annotations == Annotations::Own => {
            let kept = value.as_object()?.iter().filter(|(name, _)| own(name));
            Some(kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into())
        }
        "annotations" if let Annotations::Only(only) = rules.annotations => {
            let kept = value.as_object()?.iter().filter(|(name, _)| *name == only);
            Some(kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into())
        }
        "managedFields" if rules.managers => {
            let entry = |entry: &Value| match entry["manager"].as_str() {
                Some("oauth-operator") => json!({"manager": "oauth-operator", "operation": entry["operation"]}),
                _ => json!({}),
            };
            Some(value.as_array()?.iter().map(entry).collect())
        }
        "name" | "namespace" | "uid" | "resourceVersion" | "generation" => Some(value.clone()),
        "finalizers" => (rules.finalizers > 0).then(|| value.clone()),
        "ownerReferences" => rules.owners.then(|| value.clone()),
        _ => None,
    };
    metadata.iter().filter_map(|(name, value)| Some((name.clone(), keep(name, value)?))).collect::<Map<_, _>>().into()
}

/// Any JSON of moderate depth.
fn harmless() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("a number", |number| number.is_finite()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("\"\\\u{7}<&>é🦀")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z.\"\\\\]{0,6}", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn metadata() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "oauth.evolutionx.io/[a-z]{1,5}",
        "[a-z]{1,4}/[a-z]{1,4}",
        "oauth.evolutionx.io/credentials-expire-at[a-z]?",
    ];
    let texts = prop::collection::btree_map(key, ".{0,9}", 0..4);
    let manager = prop_oneof![Just("oauth-operator"), Just("kubectl"), Just("oauth-operator-2")];
    let entries = prop::collection::vec(
        (manager, harmless()).prop_map(|(manager, fields)| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsV1": fields})
        }),
        0..4,
    );
    (texts.clone(), texts, entries, harmless()).prop_map(|(labels, annotations, entries, other)| {
        json!({
            "name": "it", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 2,
            "labels": labels, "annotations": annotations, "managedFields": entries, "selfLink": other,
            "finalizers": ["a", "b"], "ownerReferences": [{"kind": "X", "name": "x"}],
        })
    })
}

fn object() -> impl Strategy<Value = Value> {
    (metadata(), harmless(), harmless()).prop_map(|(metadata, spec, data)| {
        json!({"kind": "X", "metadata": metadata, "spec": {"any": spec}, "data": {"key": data}, "type": "Opaque"})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_unused_parts_of_harmless_objects_are_dropped(
        objects in prop::collection::vec(object(), 0..4),
        sizes in prop::collection::vec(1_usize..40, 1..9),
        pretty: bool,
        rules in prop::sample::select(vec![integrations(), secrets(), metadata_of_secrets()]),
    ) {
        let list = json!({"kind": "XList", "metadata": {"resourceVersion": "9", "continue": "c"}, "items": objects});
        let text = if pretty { serde_json::to_vec_pretty(&list) } else { serde_json::to_vec(&list) }.expect("JSON");
        // Numbers with many digits are parsed with a small rounding error.
        let list: Value = serde_json::from_slice(&text).expect("JSON");
        let found: Value = serde_json::from_slice(&filter(rules, &text, &sizes)).expect("JSON");
        let expected: Vec<Value> = list["items"].as_array().expect("items").iter().map(|it| pruned(&rules, it)).collect();
        prop_assert_eq!(&found["items"], &json!(expected));
        prop_assert_eq!(&found["metadata"]["continue"], &json!("c"));
    }

    #[test]
    fn the_output_of_the_filter_can_always_be_parsed(
        object in object(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof!["[\\[\\]{}\",:0-9eEu\\\\.tn -]{0,3}", any::<char>().prop_map(String::from)]), 0..6),
        sizes in prop::collection::vec(1_usize..40, 1..9),
    ) {
        let mut text = json!({"kind": "XList", "metadata": {"resourceVersion": "9"}, "items": [object]}).to_string().into_bytes();
        for (place, change) in changes {
            let at = place.index(text.len());
            text.splice(at..at + usize::from(change.len() > 1), change.bytes());
        }
        let is_json = serde_json::from_slice::<Value>(&text).is_ok();
        let results: Vec<Option<Vec<u8>>> = [&sizes[..], &[usize::MAX]].map(|sizes| try_filter(Rules::GENERAL, &text, sizes)).into();
        prop_assert_eq!(&results[0], &results[1], "the result depends on the chunk size");
        match &results[0] {
            Some(out) if !out.is_empty() => prop_assert!(serde_json::from_slice::<Value>(out).is_ok()),
            Some(_) => {}
            None => prop_assert!(!is_json, "JSON is rejected"),
        }
    }

    #[test]
    fn unusual_content_of_one_object_does_not_affect_the_others(hostile in hostile(), sizes in prop::collection::vec(1_usize..9_000, 1..5)) {
        let neighbor = json!({"metadata": {"name": "neighbor"}, "spec": {"tokenEndpoint": "https://login.example.com", "grantType": "client_credentials"}}).to_string();
        let text = format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{neighbor},{hostile},{neighbor}]}}"#);
        let out = filter(integrations(), text.as_bytes(), &sizes);
        prop_assert!(out.len() < 2 << 20);
        let list: ObjectList<Lenient<OAuthIntegration>> = serde_json::from_slice(&out).expect("a list");
        prop_assert_eq!(list.items.len(), 3);
        for index in [0, 2] {
            prop_assert!(list.items[index].0.0.is_ok());
        }
        prop_assert_eq!(list.items[1].name_any(), "hostile");
        let out = filter(secrets(), text.as_bytes(), &sizes);
        let list: ObjectList<WatchedSecret> = serde_json::from_slice(&out).expect("a list");
        prop_assert_eq!(list.items[1].name_any(), "hostile");
    }
}

/// The text of an object with unusual content in one place.
fn hostile() -> impl Strategy<Value = String> {
    let deep = (1_usize..400).prop_map(|depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth)));
    let deep_objects = (1_usize..400).prop_map(|depth| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)));
    let long = (0_usize..600_000).prop_map(|length| format!("\"{}\"", "x".repeat(length)));
    let many = (0_usize..60_000).prop_map(|number| format!("[{}0]", "{},".repeat(number)));
    let long_key = (0_usize..3_000).prop_map(|length| format!("{{\"{}\":1}}", "k".repeat(length)));
    let odd = prop_oneof![
        Just("1e999"),
        Just("\"\\ud800\""),
        Just("-0"),
        Just("{\"\\ud800\":1}"),
        Just("null"),
        Just("\"\\u0000\""),
        Just("123456789012345678901234567890123456789012345678901234567890123456789"),
    ];
    let value = prop_oneof![deep, deep_objects, long, many, long_key, odd.prop_map(ToOwned::to_owned)].boxed();
    let place = prop_oneof![
        Just((r#""metadata":{"name":"hostile","managedFields":[{"manager":"oauth-operator","fieldsV1":"#, "}]}")),
        Just((r#""metadata":{"name":"hostile","managedFields":"#, "}")),
        Just((r#""metadata":{"name":"hostile","annotations":{"a":"#, "}}")),
        Just((r#""metadata":{"name":"hostile","annotations":{"oauth.evolutionx.io/a":"#, "}}")),
        Just((r#""metadata":{"name":"hostile","labels":"#, "}")),
        Just((r#""metadata":{"name":"hostile","finalizers":["#, "]}")),
        Just((r#""metadata":{"name":"hostile","ownerReferences":"#, "}")),
        Just((r#""metadata":{"name":"hostile"},"spec":{"assertion":{"claims":"#, "}}")),
        Just((r#""metadata":{"name":"hostile"},"data":{"a":"#, "}")),
        Just((r#""metadata":{"name":"hostile"},"status":"#, "")),
        Just((r#""metadata":{"name":"hostile"},"spec":"#, "")),
        Just((r#""metadata":{"name":"hostile"},"kind":"#, "")),
    ];
    (place, value).prop_map(|((before, after), value)| format!("{{{before}{value}{after}}}"))
}

#[test]
fn of_the_annotations_of_credentials_secrets_only_the_expiry_is_read() {
    let list = |annotations: &Value| {
        let items = [json!({"metadata": {"name": "it", "annotations": annotations}})];
        let text = json!({"metadata": {}, "items": items}).to_string();
        let out = filter(metadata_of_secrets(), text.as_bytes(), &[4_096]);
        assert!(!String::from_utf8_lossy(&out).contains(LEFT_OUT), "the object stays readable");
        serde_json::from_slice::<Value>(&out).expect("JSON")["items"][0]["metadata"]["annotations"].clone()
    };
    let expiry = "oauth.evolutionx.io/credentials-expire-at";
    let read = list(&json!({expiry: "2027-03-01", "oauth.evolutionx.io/allowed-endpoints": "x", "a": "b"}));
    assert_eq!(read, json!({expiry: "2027-03-01"}));
    // The longest text that has a meaning, in its longest encoding; and what a tenant may write.
    let long = "\u{1}".repeat(1 << 10);
    assert_eq!(list(&json!({expiry: long})), json!({expiry: long}));
    assert_eq!(list(&json!({expiry: "x".repeat(250 << 10)})), json!({}));
}

#[test]
fn an_omitted_part_is_recorded_only_in_its_object() {
    let deep = format!("{}1{}", "[".repeat(140), "]".repeat(140));
    let object = |claims: &str| {
        format!(
            r#"{{"metadata":{{"name":"it","uid":"u","generation":3}},"spec":{{"tokenEndpoint":"https://login.example.com","grantType":"jwt_bearer","assertion":{{"claims":{{"a":{claims}}}}}}}}}"#
        )
    };
    for (claims, why) in [
        (deep.as_str(), "spec is nested too deep"),
        (&format!("\"{}\"", "x".repeat(300 << 10)), "spec is too large"),
        (&format!("[{}0]", "0,".repeat(3_000)), "spec is too large"),
        ("1e999", "spec is not readable"),
    ] {
        let out = filter(integrations(), object(claims).as_bytes(), &[4_096]);
        let Lenient(DeserializeGuard(read)) = serde_json::from_slice::<Lenient<OAuthIntegration>>(&out).expect("read");
        let invalid = read.expect_err("invalid");
        assert_eq!((invalid.error.as_str(), invalid.metadata.generation), (why, Some(3)));
    }
    let out = filter(integrations(), object("[[1]]").as_bytes(), &[1]);
    assert!(serde_json::from_slice::<Lenient<OAuthIntegration>>(&out).expect("read").0.0.is_ok());
    assert!(!String::from_utf8_lossy(&out).contains(LEFT_OUT));
}

#[test]
fn the_reason_for_an_invalid_integration_is_reported_without_its_values() {
    for (spec, expected) in [
        (json!({"grantType": "KANARIENVOGEL"}), "unknown variant `…`, expected one of"),
        (
            json!({"grantType": "client_credentials", "suspend": "KANARIENVOGEL"}),
            "invalid type: string …, expected a boolean",
        ),
        (json!("KANARIENVOGEL"), "invalid type: string …"),
    ] {
        let object = json!({"metadata": {"name": "it"}, "spec": spec}).to_string();
        let Lenient(DeserializeGuard(read)) = serde_json::from_str::<Lenient<OAuthIntegration>>(&object).expect("read");
        let error = read.expect_err("invalid").error;
        assert!(error.contains(expected) && !error.contains("KANARIE"), "{error}");
    }
}

#[test]
fn a_secret_without_data_is_unread_and_an_emptied_one_is_changed() {
    let keys = json!({"accessToken": "access_token", "refreshToken": "refresh_token"}).to_string();
    let secret = |extra: Value| {
        let mut secret = json!({"metadata": {"name": "it", "resourceVersion": "7", "annotations": {
            "oauth.evolutionx.io/keys": keys, "oauth.evolutionx.io/data-hash": "salt:hash"}}});
        secret.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        let out = filter(secrets(), secret.to_string().as_bytes(), &[64]);
        let WatchedSecret { metadata, data } = serde_json::from_slice(&out).expect("read");
        TargetSnapshot::read(&metadata, data.as_ref()).integrity
    };
    assert_eq!(secret(json!({"kind": "PartialObjectMetadata"})), Integrity::Unread);
    assert_eq!(secret(json!({"data": {"a": "x".repeat(100 << 10)}})), Integrity::Unread, "too large for a list");
    assert_eq!(secret(json!({"kind": "Secret"})), Integrity::Changed);
    assert_eq!(secret(json!({"data": {"access_token": "eA=="}})), Integrity::Changed);
}

#[test]
fn depth_is_bounded_below_the_limit_of_the_parser() {
    for depth in [MAX_DEPTH - 2, MAX_DEPTH, 127, 128, 129, 100_000] {
        let text = format!("{{\"metadata\":{{}},\"spec\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let out = filter(Rules::GENERAL, text.as_bytes(), &[1_000]);
        let value: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value.get("spec").is_some(), depth < MAX_DEPTH, "{depth}");
    }
}

#[test]
fn the_name_and_version_of_any_secret_are_read() {
    const ACCEPT: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let request = http::Request::get("/api/v1/secrets?limit=5").header("accept", ACCEPT).body(()).expect("a request");
    let identity = Reading::of(&request).rules;
    let deep = format!("{}1{}", "[".repeat(140), "]".repeat(140));
    let text = format!(
        r#"{{"kind":"PartialObjectMetadataList","metadata":{{"resourceVersion":"9"}},"items":[
            {{"kind":"PartialObjectMetadata","metadata":{{"name":"it","namespace":"ns","uid":"u","resourceVersion":"7",
            "creationTimestamp":"2026-11-25T16:26:34Z","annotations":{{"a":"b"}},"managedFields":[{{"time":"x","fieldsV1":{deep}}}]}}}}]}}"#
    );
    let out = filter(identity, text.as_bytes(), &[64]);
    let empty = filter(identity, br#"{"metadata":{"resourceVersion":"9"},"items":null}"#, &[64]);
    assert_eq!(empty, br#"{"metadata":{"resourceVersion":"9"},"items":null}"#);
    let list: ObjectList<kube::api::PartialObjectMeta<k8s_openapi::api::core::v1::Secret>> =
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    assert_eq!((list.items[0].name_any(), list.items[0].resource_version()), ("it".to_owned(), Some("7".to_owned())));
}

#[test]
fn a_watch_receives_the_error_about_an_expired_resource_version() {
    const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let identity = http::Request::get("/api/v1/secrets?watch=true").header("accept", METADATA).body(()).unwrap();
    let secrets = rules("/api/v1/secrets?labelSelector=a&watch=true");
    let integrations = rules("/apis/oauth.evolutionx.io/v1alpha1/oauthintegrations?watch=true");
    let expired = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410}});
    for rules in [secrets, Reading::of(&identity).rules, integrations] {
        let mut filter = Filter::new(rules, Framing::Events);
        filter.push(format!("{expired}\n").as_bytes()).expect("JSON");
        let event: WatchEvent<WatchedSecret> = serde_json::from_slice(&filter.take()).expect("an event");
        let WatchEvent::Error(status) = event else { panic!("no error: {event:?}") };
        assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
        assert_eq!(status.message, "too old resource version: 1 (2)");
    }
}
