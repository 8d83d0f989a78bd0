//! Guarantee: `target.data` shapes the Secret as its readers want it, without more token requests than necessary, and
//! `previousAccessToken` keeps a token that a workload may still use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply};
use test_support::world::{SHORT_TIMEOUT, client_credentials, rotating};
use test_support::{World, eventually};

/// Numbered tokens with this lifetime in seconds. Only the first response has an `account`.
fn issuing(lifetime: u64) -> Endpoint {
    let count = Arc::new(AtomicUsize::new(0));
    Endpoint::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let mut body = json!({
            "access_token": format!("kanarie-access-{number}"), "refresh_token": format!("kanarie-refresh-{number}"),
            "expires_in": lifetime, "token_type": "Bearer", "region": "eu1",
        });
        if number == 0 {
            body["account"] = json!({"id": 7});
        }
        Reply::json(200, &body)
    })
}

async fn wait_for(world: &World, key: &str, wanted: Option<&str>) {
    eventually(&format!("{key} is {wanted:?}"), SHORT_TIMEOUT, async || {
        let values = world.values("it").await.unwrap_or_default();
        if values.get(key).map(String::as_str) == wanted { Ok(()) } else { Err(format!("{values:?}")) }
    })
    .await;
}

fn data(data: &Value) -> Value {
    json!({"spec": {"target": {"data": data}}})
}

#[tokio::test]
async fn expressions_see_the_token_its_times_the_response_and_the_integration() {
    let endpoint = issuing(3600);
    let world = World::new("data-input").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"data": {
        "authorization": "token_type & ' ' & access_token",
        "config": "{'bearerToken': access_token, 'tlsClientConfig': {'insecure': false}}",
        "not-secret-number": "response.account.id * 2", "not-secret-whole": "response.account", "token.copy": "access_token",
        "not-secret-name": "integration.namespace & '/' & integration.name", "not-secret-plain-name": "integration.name",
        "not-secret-lives": "($toMillis(expires_at) - $toMillis(issued_at)) / 1000",
        "not-secret-status": "$status", "not-secret-media-type": "$headers.`content-type`", "nothing": "refresh_token = 'x' ? 'y'",
    }});
    world.integration("it", &spec).await;
    world.ready("it").await;
    let values = world.values("it").await.expect("the target");
    let expected = [
        ("authorization", "Bearer kanarie-access-0"),
        ("config", r#"{"bearerToken":"kanarie-access-0","tlsClientConfig":{"insecure":false}}"#),
        ("not-secret-number", "14"),
        ("not-secret-whole", r#"{"id":7}"#),
        ("token.copy", "kanarie-access-0"),
        ("not-secret-name", &format!("{}/it", world.namespace)),
        ("not-secret-plain-name", "it"),
        ("not-secret-lives", "3600"),
        ("not-secret-status", "200"),
        ("not-secret-media-type", "application/json"),
    ];
    for (key, value) in expected {
        assert_eq!(values.get(key).map(String::as_str), Some(value), "{key} in {values:?}");
    }
    assert!(!values.contains_key("nothing"), "{values:?}");
}

#[tokio::test]
async fn a_change_requests_a_token_only_if_it_needs_another_response() {
    let endpoint = issuing(3600);
    let world = World::new("data-change").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] =
        json!({"data": {"not-secret-account": "response.account.id", "header": "'Bearer ' & access_token"}});
    world.integration("it", &spec).await;
    world.ready("it").await;
    // What is stored is enough: an expression over the token, and fewer values of the response.
    world.change("it", &data(&json!({"header": "'bearer ' & access_token", "not-secret-user": "'oauth2'"}))).await;
    wait_for(&world, "header", Some("bearer kanarie-access-0")).await;
    wait_for(&world, "not-secret-account", Some("7")).await;
    world.change("it", &data(&json!({"not-secret-user": null}))).await;
    wait_for(&world, "not-secret-user", None).await;
    assert_eq!(endpoint.count(), 1);
    // Another value of the response is not.
    world.change("it", &data(&json!({"not-secret-region": "response.region"}))).await;
    wait_for(&world, "not-secret-region", Some("eu1")).await;
    assert_eq!(endpoint.count(), 2);
    wait_for(&world, "not-secret-account", None).await;
    world.change("it", &data(&json!({"not-secret-region": null}))).await;
    wait_for(&world, "not-secret-region", None).await;
    assert_eq!(endpoint.count(), 2);
}

/// An author of specs who may not read the token must not learn about it from changes of expressions: a failure costs a
/// new token.
#[tokio::test]
async fn a_failure_on_the_stored_token_is_not_shown_but_a_new_token_is_requested() {
    let endpoint = issuing(3600);
    let world = World::new("data-failure").await;
    world.credentials().await;
    world.integration("it", &client_credentials(&endpoint.url())).await;
    world.ready("it").await;
    world
        .change("it", &data(&json!({"not-secret-guess": "access_token = 'kanarie-access-0' ? $error('x') : 'no'"})))
        .await;
    wait_for(&world, "not-secret-guess", Some("no")).await;
    assert_eq!((endpoint.count(), world.value("it", "access_token").await.as_str()), (2, "kanarie-access-1"));
    assert!(!world.observable_output().await.contains("spec.target.data"), "{}", world.observable_output().await);
    // Also the new token cannot be used with this one: the stored token stays.
    world.change("it", &data(&json!({"not-secret-guess": "$error('x')"}))).await;
    let failed = world.condition("it", "Ready", "True", "InvalidResponse").await.message;
    assert!(failed.contains("an expression of spec.target.data does not yield a usable value"), "{failed}");
    assert!(failed.contains("oauth-operator fetch --explain"), "{failed}");
    let values = world.values("it").await.expect("the target");
    assert_eq!((values["access_token"].as_str(), values["not-secret-guess"].as_str()), ("kanarie-access-1", "no"));
}

#[tokio::test]
async fn a_refresh_keeps_values_that_its_response_does_not_repeat() {
    let endpoint = issuing(9);
    let world = World::new("data-refresh").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", "kanarie-initial")]).await;
    let mut spec = rotating(&endpoint.url(), "credentials");
    spec["target"] = json!({"data": {
        "not-secret-account": "response.account.id", "not-secret-computed": "response.account.id ? response.account.id * 2",
        "both": "access_token & ' ' & refresh_token",
    }});
    world.integration("it", &spec).await;
    world.ready("it").await;
    world.wait_for_change("it", "access_token", "kanarie-access-0").await;
    let values = world.values("it").await.expect("the target");
    assert_eq!((values["not-secret-account"].as_str(), values["not-secret-computed"].as_str()), ("7", "14"));
    let both = format!("{} {}", values["access_token"], values["refresh_token"]);
    assert_eq!(values["both"], both, "of the same response");
}

/// A new refresh token of a response that is otherwise unusable is kept, with the data of the stored token.
#[tokio::test]
async fn a_rotated_refresh_token_is_kept_if_the_data_cannot_be_computed() {
    let endpoint = issuing(9);
    let world = World::new("data-rotated").await;
    world.secret("credentials", &[("client_id", "c"), ("refresh_token", "kanarie-initial")]).await;
    let mut spec = rotating(&endpoint.url(), "credentials");
    // Fails from the second response on.
    let config = "response.account ? {'auths': {'registry.example.com': {'auth': access_token}}} : $error('x')";
    spec["target"] = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": config}});
    world.integration("it", &spec).await;
    world.ready("it").await;
    world.wait_for_change("it", "refresh_token", "kanarie-refresh-0").await;
    let values = world.values("it").await.expect("the target");
    assert_eq!(values["access_token"], "kanarie-access-0");
    assert!(values[".dockerconfigjson"].contains("kanarie-access-0"), "{values:?}");
    // And it is used.
    let used = eventually("the next refresh", SHORT_TIMEOUT, async || {
        endpoint.requests().get(2).map(|request| request.parameter("refresh_token")).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert_eq!(used, "kanarie-refresh-1");
    let sent = endpoint.requests();
    assert_eq!(sent[1].parameter("refresh_token"), "kanarie-refresh-0");
}

/// The API server would reject these values, and the response with them.
#[tokio::test]
async fn values_that_the_type_does_not_allow_are_not_written() {
    let world = World::new("data-values").await;
    world.credentials().await;
    let endpoint = issuing(3600);
    for (name, expression) in
        [("list", "[access_token]"), ("text", "access_token"), ("nothing", "refresh_token = 'x' ? {}")]
    {
        let mut spec = client_credentials(&endpoint.url());
        spec["target"] = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": expression}});
        world.integration(name, &spec).await;
        let failed = world.condition(name, "Ready", "False", "InvalidResponse").await.message;
        assert!(failed.contains("does not yield a usable value"), "{failed}");
        assert_eq!(world.values(name).await, None);
    }
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"refreshTokenSecretName": "apart", "data": {"all": "response"}});
    world.integration("revealed", &spec).await;
    let failed = world.condition("revealed", "Ready", "False", "InvalidResponse").await.message;
    assert!(failed.contains("keeps out of the target"), "{failed}");
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({"keys": {"previousAccessToken": "previous"}});
    spec["revocation"] = json!({"endpoint": endpoint.url(), "afterRenewal": "1m"});
    world.integration("contradiction", &spec).await;
    let stalled = world.condition("contradiction", "Stalled", "True", "InvalidSpec").await.message;
    assert!(stalled.contains("revokes the token that spec.target.keys.previousAccessToken keeps"), "{stalled}");
}

/// The API server rejects Secrets of these types without certain keys.
#[tokio::test]
async fn types_that_require_keys_work_even_if_only_a_refresh_token_can_be_kept() {
    let cases = [
        ("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "{}"),
        ("kubernetes.io/basic-auth", "password", ""),
        ("kubernetes.io/tls", "tls.crt", ""),
        ("kubernetes.io/ssh-auth", "ssh-privatekey", "\n"),
    ];
    let world = World::new("data-types").await;
    for (index, (type_, key, placeholder)) in cases.into_iter().enumerate() {
        let initial = format!("kanarie-initial-{index}");
        let initial_of_request = initial.clone();
        let endpoint = Endpoint::start(move |request| {
            if request.parameter("refresh_token") == initial_of_request {
                Reply::json(200, &json!({"refresh_token": "kanarie-second", "expires_in": 60}))
            } else {
                Reply::json(200, &json!({"access_token": "kanarie-access", "expires_in": 3600}))
            }
        });
        let name = format!("it-{index}");
        let credentials = format!("credentials-{index}");
        world.secret(&credentials, &[("client_id", "c"), ("refresh_token", &initial)]).await;
        let mut spec = rotating(&endpoint.url(), &credentials);
        spec["target"] = json!({"type": type_});
        world.integration(&name, &spec).await;
        let stalled = world.condition(&name, "Stalled", "True", "InvalidSpec").await.message;
        assert!(stalled.contains(&format!("{type_} requires the key {key}")), "{stalled}");
        let more = if key == "tls.crt" { json!({"tls.key": "access_token"}) } else { json!({}) };
        let mut all = more.clone();
        all[key] = json!("response.access_token ? {'token': access_token}");
        world.change(&name, &json!({"spec": {"target": {"data": all}}})).await;
        eventually("the refresh token is kept", SHORT_TIMEOUT, async || {
            let values = world.values(&name).await.unwrap_or_default();
            let kept = values.get("refresh_token").is_some_and(|token| token == "kanarie-second");
            if kept && values[key] == placeholder { Ok(()) } else { Err(format!("{values:?}")) }
        })
        .await;
        world.request_renewal(&name, "now").await;
        world.ready(&name).await;
        assert_eq!(world.value(&name, key).await, r#"{"token":"kanarie-access"}"#);
    }
}

#[tokio::test]
async fn invalid_expressions_are_explained_before_anything_is_sent() {
    let endpoint = issuing(3600);
    let world = World::new("data-invalid").await;
    world.credentials().await;
    let cases = [
        ("instance_url", "there is no instance_url: write response.instance_url for a value of the response"),
        ("access_token & (", "spec.target.data.key is not a JSONata expression"),
        ("previous_access_token", "set spec.target.keys.previousAccessToken"),
    ];
    for (index, (expression, expected)) in cases.into_iter().enumerate() {
        let mut spec = client_credentials(&endpoint.url());
        spec["target"] = json!({"data": {"key": expression}});
        let name = format!("it-{index}");
        world.integration(&name, &spec).await;
        let stalled = world.condition(&name, "Stalled", "True", "InvalidSpec").await.message;
        assert!(stalled.contains(expected), "{stalled}");
    }
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn the_previous_access_token_is_kept_until_it_expires() {
    let endpoint = issuing(3600);
    let world = World::new("previous").await;
    world.credentials().await;
    let mut spec = client_credentials(&endpoint.url());
    spec["target"] = json!({
        "keys": {"previousAccessToken": "previous"}, "data": {"both": "access_token & ' ' & previous_access_token"},
    });
    world.integration("it", &spec).await;
    world.ready("it").await;
    assert!(!world.values("it").await.expect("the target").contains_key("previous"));
    let renew = async |request: &str| {
        let before = world.value("it", "access_token").await;
        world.request_renewal("it", request).await;
        world.wait_for_change("it", "access_token", &before).await;
        let values = world.values("it").await.expect("the target");
        assert_eq!(values["previous"], before);
        assert_eq!(values["both"], format!("{} {before}", values["access_token"]));
    };
    renew("1").await;
    renew("2").await;
    // The tokens of this endpoint expire before the next renewal.
    let short = issuing(1);
    let requested = json!({
        "spec": {"tokenEndpoint": short.url(), "target": {"data": {"both": null}}},
        "metadata": {"annotations": {"oauth.evolutionx.io/renew-requested-at": "3"}},
    });
    world.change("it", &requested).await;
    eventually("an expired token is removed by a renewal", SHORT_TIMEOUT, async || {
        let values = world.values("it").await.expect("the target");
        let is_expired = short.count() >= 3 && !values.contains_key("previous");
        if is_expired { Ok(()) } else { Err(format!("{} requests, {values:?}", short.count())) }
    })
    .await;
}
