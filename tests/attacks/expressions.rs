//! Attacks with responses and expressions: memory, the main thread, and the queue of the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use oauth_operator::api::spec::OAuthIntegration;
use serde_json::{Value, json};

use crate::siege::{Observation, SHORT_TIMEOUT, Siege, client_credentials};
use test_support::endpoint::Reply;
use test_support::{Endpoint, eventually};

/// A spec of alice, who has credentials for her own endpoints.
fn spec_of(endpoint: &str, response: &Value) -> Value {
    let mut spec = client_credentials(endpoint, "credentials");
    spec["response"] = response.clone();
    spec
}

/// Credentials of alice that may be sent to these endpoints.
async fn credentials(siege: &Siege, endpoints: &[&Endpoint]) {
    let origins: Vec<String> = endpoints.iter().map(|endpoint| format!("http://{}", endpoint.address())).collect();
    let values = [("client_id", "alice"), ("client_secret", "kanarie-secret-of-alice")];
    siege.alice.pinned_secret("credentials", &values, &origins.join(" ")).await;
}

/// A token response of this size that uses as much memory as possible when it is parsed as a document.
fn bloated(bytes: usize) -> Reply {
    let item = r#"{"":1},"#;
    let items = item.repeat(bytes / item.len());
    let body = format!(r#"{{"access_token":"kanarie-large","expires_in":1,"x":[{}]}}"#, items.trim_end_matches(','));
    Reply::Http(200, vec![("Content-Type".into(), "application/json".into())], body)
}

#[tokio::test]
async fn a_response_of_one_mebibyte_does_not_affect_others() {
    // The maximum that an administrator can configure.
    let siege = Siege::with(&["--max-response-size=1MiB"]).await;
    let victim = siege.victim(6).await;
    let endpoint = Endpoint::start(|_| bloated((1 << 20) - 100));
    credentials(&siege, &[&endpoint]).await;
    for number in 0..4 {
        let spec = spec_of(&endpoint.url(), &json!({}));
        siege.alice.integration(&format!("path-{number}"), &spec).await.expect("an integration");
        // Parsing the whole document may crash a worker, but does not affect others.
        let mut spec = spec_of(&endpoint.url(), &json!({}));
        spec["target"] = json!({"data": {"count": "$string($count(response.x))"}});
        siege.alice.integration(&format!("whole-{number}"), &spec).await.expect("an integration");
    }
    let observation = siege.observe(&victim, Duration::from_secs(12)).await;
    observation.assert_unharmed();
    let target = siege.api_target("alice", "path-0").await;
    assert_eq!(target.as_deref(), Some("kanarie-large"), "paths are evaluated in a response of that size");
    siege.alice.wait_for_ready("whole-0", "False", "InvalidResponse").await;
}

/// There is memory for 8 responses of 1 MiB, and each is reserved before its request is sent. An integration without
/// memory waits, which is neither its failure nor one of the host.
#[tokio::test]
async fn without_memory_for_the_response_a_request_waits_and_does_not_count_as_failed() {
    let siege = Siege::with(&["--max-response-size=1MiB", "--min-renewal-interval=1s"]).await;
    eventually("it is logged at startup", SHORT_TIMEOUT, async || {
        let logs = siege.operator.logs();
        if logs.contains("there is memory for fewer responses") { Ok(()) } else { Err(logs) }
    })
    .await;
    let victim = siege.victim(6).await;
    let silent: Vec<Endpoint> = (0..8).map(|_| Endpoint::start(|_| Reply::NoResponse)).collect();
    let honest = Endpoint::start(|_| Reply::token(3600));
    credentials(&siege, &silent.iter().chain([&honest]).collect::<Vec<_>>()).await;
    for (number, endpoint) in silent.iter().enumerate() {
        let mut spec = spec_of(&endpoint.url(), &json!({}));
        spec["request"] = json!({"timeout": "10s"});
        siege.alice.integration(&format!("silent-{number}"), &spec).await.expect("an integration");
    }
    let sent = || silent.iter().map(Endpoint::count).sum::<usize>();
    eventually("alice uses the whole share of one namespace", SHORT_TIMEOUT, async || {
        if sent() == 4 { Ok(()) } else { Err(format!("{} requests", sent())) }
    })
    .await;
    siege.alice.integration("late", &spec_of(&honest.url(), &json!({}))).await.expect("an integration");
    siege.observe(&victim, Duration::from_secs(5)).await.assert_unharmed();
    assert_eq!((sent(), honest.count()), (4, 0), "the share of one namespace is used up");
    let late = siege.alice.api::<OAuthIntegration>().get("late").await.expect("an integration");
    assert_eq!(late.status.and_then(|status| status.last_failure), None, "waiting is not a failure");
    // It is served when those requests have timed out, before the other silent endpoints.
    siege.alice.wait_for_ready("late", "True", "TokenValid").await;
    let late = siege.alice.api::<OAuthIntegration>().get("late").await.expect("an integration");
    assert_eq!(late.status.and_then(|status| status.last_failure), None);
    assert_eq!(honest.count(), 1);
    // Events are published in order, so once the success is visible, a failure before it would be too.
    let events = Api::<Event>::namespaced(siege.admin.clone(), &siege.alice.namespace);
    eventually("only the success of late is reported", SHORT_TIMEOUT, async || {
        let events = events.list(&ListParams::default()).await.expect("a list of events");
        let about_late = |event: &&Event| event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some("late");
        let late: Vec<_> = events.iter().filter(about_late).collect();
        assert!(late.iter().all(|event| event.type_.as_deref() == Some("Normal")), "{late:?}");
        let issued = late.iter().any(|event| event.reason.as_deref() == Some("Issued"));
        if issued { Ok(()) } else { Err(format!("{late:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_response_larger_than_the_bound_is_not_read() {
    let siege = Siege::new().await;
    let (large, admitted) = (Endpoint::start(|_| bloated(70_000)), Endpoint::start(|_| bloated(60_000)));
    credentials(&siege, &[&large, &admitted]).await;
    siege.alice.integration("large", &spec_of(&large.url(), &json!({}))).await.expect("an integration");
    let spec = spec_of(&admitted.url(), &json!({"expiresIn": "expires_in + 3600"}));
    siege.alice.integration("admitted", &spec).await.expect("an integration");
    siege.alice.wait_for_ready("large", "False", "InvalidResponse").await;
    siege.alice.wait_for_ready("admitted", "True", "TokenValid").await;
    let large = siege.alice.api::<OAuthIntegration>().get("large").await.expect("an integration");
    let failure = large.status.and_then(|status| status.last_failure).expect("a failure");
    assert!(failure.message.contains("larger than 65536 bytes"), "{}", failure.message);
    assert!(failure.message.contains("--max-response-size"), "{}", failure.message);
}

/// Long, with a syntax error at the end.
fn expensive_to_parse(number: usize) -> String {
    let mut text = format!("[x{number}");
    while text.len() < 4_000 {
        text.push_str(",a&b");
    }
    text + "&("
}

#[tokio::test]
async fn invalid_expressions_do_not_use_the_main_thread() {
    const INTEGRATIONS: usize = 300;
    let siege = Siege::new().await;
    let victim = siege.victim(6).await;
    let elsewhere = Endpoint::start(|_| Reply::NoResponse);
    credentials(&siege, &[&elsewhere]).await;
    let extra: serde_json::Map<String, Value> =
        (0..12).map(|number| (format!("key-{number}"), format!("a{number}&(b)").into())).collect();
    for number in 0..INTEGRATIONS {
        let spec = json!({
            "tokenEndpoint": elsewhere.url(), "grantType": "client_credentials",
            "credentials": {"secretName": "credentials"},
            "response": {"accessToken": expensive_to_parse(number)}, "target": {"data": extra},
        });
        siege.alice.integration(&format!("it-{number}"), &spec).await.expect("an integration");
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let touching = touch(&siege, &stopped);
    let observation = siege.observe(&victim, Duration::from_secs(20)).await;
    stopped.store(true, Ordering::Relaxed);
    touching.await.expect("the task ends");
    observation.assert_unharmed();
    siege.alice.wait_for_ready("it-0", "False", "InvalidSpec").await;
    let rejected = siege.alice.api::<OAuthIntegration>().get("it-0").await.expect("an integration");
    let messages: Vec<String> =
        rejected.status.unwrap_or_default().conditions.into_iter().map(|one| one.message).collect();
    assert!(messages.iter().any(|text| text.contains("spec.response.accessToken is not a JSONata")), "{messages:?}");
}

/// Changes the credentials Secret of all of them repeatedly.
fn touch(siege: &Siege, stopped: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (secrets, stopped) = (siege.alice.api::<Secret>(), Arc::clone(stopped));
    tokio::spawn(async move {
        for number in 0_u32.. {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let patch = json!({"metadata": {"annotations": {"touched": number.to_string()}}});
            secrets.patch("credentials", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a change");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    })
}

#[tokio::test]
async fn expressions_that_become_slow_do_not_delay_others() {
    const INTEGRATIONS: usize = 140;
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    // The victim also needs a worker.
    let response = json!({"spec": {"response": {"accessToken": "$string(access_token)"}}});
    siege.bob.patch_integration("victim", &response).await.expect("a change");
    siege.bob.wait_for_ready("victim", "True", "TokenValid").await;
    let slow = Arc::new(AtomicBool::new(false));
    let turned = Arc::clone(&slow);
    let endpoint = Endpoint::start(move |_| {
        let slow = turned.load(Ordering::Relaxed);
        Reply::json(200, &json!({"token": "kanarie-slow-token", "expires_in": 2, "slow": slow}))
    });
    credentials(&siege, &[&endpoint]).await;
    let expression = "slow ? ($f := function($n) { $n > 0 ? $f($n - 1) : 't' }; $f(100000000)) : token";
    for number in 0..INTEGRATIONS {
        let spec = spec_of(&endpoint.url(), &json!({"accessToken": expression}));
        siege.alice.integration(&format!("it-{number}"), &spec).await.expect("an integration");
    }
    eventually("all have tokens", SHORT_TIMEOUT, async || {
        if endpoint.count() >= INTEGRATIONS { Ok(()) } else { Err(format!("{} requests", endpoint.count())) }
    })
    .await;
    siege.observe(&victim, Duration::from_secs(4)).await.assert_unharmed();
    slow.store(true, Ordering::Relaxed);
    let observation = siege.observe(&victim, Duration::from_secs(20)).await;
    observation.assert_unharmed();
    assert!(observation.tokens > 2, "the victim's token was renewed: {observation:?}");
}

/// An endpoint could add a long error text to successful responses, and the operator searched it each time for all
/// values that were sent.
#[tokio::test]
async fn long_error_texts_in_successful_responses_are_not_searched() {
    const INTEGRATIONS: usize = 60;
    const TIME: Duration = Duration::from_secs(8);
    let siege = Siege::new().await;
    let victim = siege.victim(8).await;
    let adds_text = Arc::new(AtomicBool::new(false));
    let added = Arc::clone(&adds_text);
    // It must be decoded in several ways before it can be searched.
    let text = r"%41 &#x41; \u0041 ".repeat(3_000);
    let endpoint = Endpoint::start(move |_| {
        let text = if added.load(Ordering::Relaxed) { text.as_str() } else { "" };
        Reply::json(200, &json!({"access_token": "kanarie-token", "expires_in": 3, "error_description": text}))
    });
    credentials(&siege, &[&endpoint]).await;
    let filler = |number: usize, length: usize| -> String {
        (0..length).map(|place| format!("{:x}", (place + number) * 31 % 97)).collect::<String>()[..length].to_owned()
    };
    let parameters: serde_json::Map<String, Value> =
        (0..15).map(|number| (format!("p{number}"), filler(number, 4_000).into())).collect();
    let headers: serde_json::Map<String, Value> =
        (0..3).map(|number| (format!("x-filler-{number}"), filler(number, 2_000).into())).collect();
    for number in 0..INTEGRATIONS {
        let mut spec = client_credentials(&endpoint.url(), "credentials");
        spec["request"] = json!({"parameters": parameters, "headers": headers});
        siege.alice.integration(&format!("it-{number}"), &spec).await.expect("an integration");
    }
    eventually("all are renewed", SHORT_TIMEOUT, async || {
        if endpoint.count() >= 2 * INTEGRATIONS { Ok(()) } else { Err(format!("{} requests", endpoint.count())) }
    })
    .await;
    let (mut seconds_per_request, mut observations) = (Vec::new(), Vec::new());
    for adds in [false, true] {
        adds_text.store(adds, Ordering::Relaxed);
        let (seconds, requests) = (siege.operator.cpu_seconds(), endpoint.count());
        observations.push(siege.observe(&victim, TIME).await);
        let requests = u32::try_from(endpoint.count() - requests).expect("a small number");
        assert!(requests > 0, "nothing was renewed");
        seconds_per_request.push((siege.operator.cpu_seconds() - seconds) / f64::from(requests));
    }
    // The operator is compared with itself, so that the speed and the load of the machine do not matter.
    let [without, with] = seconds_per_request[..] else { panic!("two phases") };
    assert!(with < without * 2.0, "{without} s of CPU time per request, and {with} s with the text");
    observations.iter().for_each(Observation::assert_unharmed);
}

impl Siege {
    /// The access token in a target Secret.
    async fn api_target(&self, namespace: &str, name: &str) -> Option<String> {
        let secrets = Api::<Secret>::namespaced(self.admin.clone(), namespace);
        let value = secrets.get_opt(name).await.expect("a read")?.data?.remove("access_token")?;
        String::from_utf8(value.0).ok()
    }
}
