//! Guarantee: whatever tenants and endpoints do, the operator does not send anything to a forbidden address, reveal a
//! secret, crash, or delay another tenant. Each case here is a line of `docs/threat-model.md`.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::world::{client_credentials, condition};
use test_support::{ControlPlane, Operator, World, eventually};

/// The address of the endpoints of these tests; the rest of loopback is forbidden, as by default.
const ALLOWED: &str = "127.0.0.2";
/// A part of every credential and every token.
const CANARY: &str = "KANARIENVOGEL-4711";
/// The accepted delay of the other tenant.
const LATE: Duration = Duration::from_secs(1);
/// The time limit of an expression, with a margin for a busy machine.
const MAX_EVALUATION: Duration = Duration::from_secs(5);

/// An environment whose operator has the default egress policy, except for one address; with another tenant's
/// integration whose tokens have a lifetime of 9 s.
struct HostileEnv {
    world: World,
    neighbor: Endpoint,
    latest: Arc<AtomicI64>,
    stopped: Arc<AtomicBool>,
}

impl HostileEnv {
    async fn new(name: &str) -> Self {
        let control_plane = ControlPlane::shared();
        let namespace = control_plane.namespace(name).await;
        let kubeconfig = test_support::operator::kubeconfig(control_plane).await;
        let environment = [("OAUTH_OPERATOR_ALLOW_CIDR".to_owned(), format!("{ALLOWED}/32"))];
        let operator = Operator::start_in(&kubeconfig, &["--namespace", &namespace], &environment);
        operator.until_ready().await;
        let world = World { operator, client: control_plane.client().await, namespace, kubeconfig };
        let secret = [("client_id", "the-client"), ("client_secret", CANARY), ("refresh_token", CANARY)];
        world.secret("credentials", &secret).await;
        let neighbor = Endpoint::start_at(ALLOWED, |_| Reply::token(9));
        world.integration("neighbor", &client_credentials(&neighbor.url())).await;
        world.ready("neighbor").await;
        let (latest, stopped) = (Arc::new(AtomicI64::new(i64::MIN)), Arc::new(AtomicBool::new(false)));
        let watch = (world.integrations(), Arc::clone(&latest), Arc::clone(&stopped));
        tokio::spawn(async move {
            let (api, latest, stopped) = watch;
            while !stopped.load(Ordering::Relaxed) {
                let seen = api.get("neighbor").await.ok().and_then(|it| it.status?.expires_at);
                if let Some(expires_at) = seen {
                    let late = Timestamp::now().duration_since(expires_at.0);
                    latest.fetch_max(late.as_millis().try_into().unwrap_or(i64::MAX), Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { world, neighbor, latest, stopped }
    }

    /// The checks that must succeed after every attack.
    async fn assert_healthy(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        assert_eq!(self.world.operator.get("/healthz").0, 200, "the process is alive");
        let late = Duration::from_millis(self.latest.load(Ordering::Relaxed).max(0).unsigned_abs());
        assert!(late < LATE, "the other tenant's token was expired for {late:?}");
        assert!(self.neighbor.count() > 0);
        let text = self.world.observable_output().await;
        assert!(!text.contains(CANARY), "a secret is shown");
        assert!(!text.contains(&STANDARD.encode(CANARY)[..12]), "a secret is shown in base64");
    }
}

/// A loopback port to which no request may be sent.
struct Honeypot {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Honeypot {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let ipv6 = TcpListener::bind(("::1", port)).ok();
        for listener in [Some(listener), ipv6].into_iter().flatten() {
            let counted = Arc::clone(&connections);
            std::thread::spawn(move || {
                for _ in listener.incoming() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { port, connections }
    }
}

/// Notations of a forbidden address. `PORT` is the port of the honeypot.
const ADDRESSES: [(&str, &str); 32] = [
    ("loopback", "http://127.0.0.1:PORT/"),
    ("another loopback address", "http://127.9.9.9:PORT/"),
    ("loopback in octal", "http://0177.0.0.1:PORT/"),
    ("loopback as one number", "http://2130706433:PORT/"),
    ("loopback in hexadecimal", "http://0x7f000001:PORT/"),
    ("loopback with fewer parts", "http://127.1:PORT/"),
    ("loopback with a trailing dot", "http://127.0.0.1.:PORT/"),
    ("loopback in full-width digits", "http://１２７.０.０.１:PORT/"),
    ("loopback, percent-encoded", "http://%31%32%37.0.0.1:PORT/"),
    ("loopback by name", "http://localhost:PORT/"),
    ("loopback by name, in capitals", "http://LOCALHOST:PORT/"),
    ("loopback by name with a trailing dot", "http://localhost.:PORT/"),
    ("IPv6 loopback", "http://[::1]:PORT/"),
    ("IPv4-mapped loopback", "http://[::ffff:127.0.0.1]:PORT/"),
    ("IPv4-mapped loopback, in hexadecimal", "http://[::ffff:7f00:1]:PORT/"),
    ("IPv4-compatible loopback", "http://[::127.0.0.1]:PORT/"),
    ("IPv4-translated loopback", "http://[::ffff:0:127.0.0.1]:PORT/"),
    ("loopback through NAT64", "http://[64:ff9b::7f00:1]:PORT/"),
    ("loopback through local NAT64", "http://[64:ff9b:1::7f00:1]:PORT/"),
    ("loopback through 6to4", "http://[2002:7f00:1::]:PORT/"),
    ("loopback through Teredo", "http://[2001::80ff:fffe]:PORT/"),
    ("unspecified", "http://0.0.0.0:PORT/"),
    ("IPv6 unspecified", "http://[::]:PORT/"),
    ("metadata of most clouds", "http://169.254.169.254/latest/meta-data/"),
    ("metadata of AWS over IPv6", "http://[fd00:ec2::254]/latest/meta-data/"),
    ("metadata of Azure", "http://168.63.129.16/metadata/"),
    ("metadata of Alibaba Cloud", "http://100.100.100.200/latest/meta-data/"),
    ("IPv6 link-local", "http://[fe80::1]:PORT/"),
    ("IPv6 link-local with a zone", "http://[fe80::1%25lo]:PORT/"),
    ("multicast", "http://224.0.0.1:PORT/"),
    ("broadcast", "http://255.255.255.255:PORT/"),
    ("IPv6 multicast", "http://[ff02::1]:PORT/"),
];

/// Either the API server or the operator rejects it; no request is sent.
async fn refused(env: &HostileEnv, name: &str, spec: &Value, case: &str) {
    if let Err(error) = env.world.try_integration(name, spec).await {
        assert!(error.to_string().contains("must be an absolute http or https URL"), "{case}: {error}");
        return;
    }
    let reported = eventually(&format!("{case} is rejected"), test_support::world::SHORT_TIMEOUT, async || {
        let ready = condition(&env.world.get(name).await, "Ready").filter(|ready| ready.reason != "Pending");
        ready.ok_or_else(|| "not checked".to_owned())
    })
    .await;
    // The name does not have to be resolvable on this machine.
    let unresolvable = case.contains("by name") && reported.message.contains("no such host in DNS");
    let known = unresolvable || ["EndpointNotAllowed", "InvalidSpec"].contains(&reported.reason.as_str());
    assert!(known && reported.status == "False", "{case}: {} {}", reported.reason, reported.message);
}

#[tokio::test]
async fn a_forbidden_address_is_blocked_in_every_notation() {
    let (env, honeypot) = (HostileEnv::new("addresses").await, Honeypot::new());
    for (number, (case, url)) in ADDRESSES.iter().enumerate() {
        let url = url.replace("PORT", &honeypot.port.to_string());
        refused(&env, &format!("it-{number}"), &client_credentials(&url), case).await;
    }
    let api_server = client_credentials(&format!("{}/api/v1/namespaces", ControlPlane::shared().url()));
    refused(&env, "api-server", &api_server, "the API server").await;
    // An address that is not in the operator's configuration.
    let versions: Value =
        serde_json::from_str(&ControlPlane::shared().kubectl(&["get", "--raw", "/api"])).expect("versions");
    let own = versions["serverAddressByClientCIDRs"][0]["serverAddress"].as_str().expect("an address");
    let by_own = client_credentials(&format!("https://{own}/api/v1/namespaces"));
    refused(&env, "api-server-advertised", &by_own, "the API server by its advertised address").await;
    let reported = condition(&env.world.get("api-server-advertised").await, "Ready").expect("a condition");
    assert!(reported.message.contains("the cluster's own API server"), "{}", reported.message);
    assert_eq!(honeypot.connections.load(Ordering::SeqCst), 0, "a request was sent");
    env.assert_healthy().await;
}

/// The protected resource itself, the issuer that it names, and the endpoint in its SMART configuration. The owner of the
/// credentials allows everything, so that only the address is a reason to reject it.
async fn refused_by_resource(env: &HostileEnv, evil: &str) {
    let by_issuer = Endpoint::start_at(ALLOWED, {
        let evil = evil.to_owned();
        move |request: &Request| {
            let own = format!("http://{}", request.headers["host"]);
            Reply::json(200, &json!({"resource": own, "authorization_servers": [evil]}))
        }
    });
    let by_endpoint = Endpoint::start_at(ALLOWED, {
        let evil = evil.to_owned();
        move |request: &Request| match request.path.as_str() {
            "/.well-known/smart-configuration" => Reply::json(200, &json!({"token_endpoint": format!("{evil}/token")})),
            _ => Reply::text(404, ""),
        }
    });
    let origin = |endpoint: &Endpoint| format!("http://{}", endpoint.address());
    env.world.secret("allowed-anywhere", &[("client_id", "c"), ("client_secret", CANARY)]).await;
    let resources = [
        ("resource", evil.to_owned()),
        ("resource-issuer", origin(&by_issuer)),
        ("resource-endpoint", origin(&by_endpoint)),
    ];
    let allowed: Vec<&str> = resources.iter().map(|(_, resource)| resource.as_str()).collect();
    env.world.pin("allowed-anywhere", &allowed.join(" ")).await;
    for (name, resource) in &resources {
        let mut spec = client_credentials("");
        spec.as_object_mut().expect("an object").remove("tokenEndpoint");
        spec["protectedResource"] = json!(resource);
        spec["scope"] = json!("read");
        spec["credentials"] = json!({"secretName": "allowed-anywhere"});
        refused(env, name, &spec, name).await;
        let ready = condition(&env.world.get(name).await, "Ready").expect("a condition");
        assert!(ready.message.contains("is not allowed: 127.0.0.1 is "), "{name}: {}", ready.message);
    }
}

#[tokio::test]
async fn a_forbidden_address_is_blocked_in_every_field() {
    let (env, honeypot) = (HostileEnv::new("fields").await, Honeypot::new());
    let evil = format!("http://127.0.0.1:{}", honeypot.port);
    let good = Endpoint::start_at(ALLOWED, |_| {
        Reply::json(200, &json!({"access_token": CANARY, "refresh_token": CANARY, "expires_in": 9}))
    });
    let issuing = Endpoint::start_at(ALLOWED, |_| Reply::Close);
    let issuer = format!("http://{}", issuing.address());
    let document = json!({"issuer": issuer, "token_endpoint": format!("{evil}/token"), "revocation_endpoint": evil});
    issuing.respond(move |_| Reply::json(200, &document));
    let redirecting = Endpoint::start_at(ALLOWED, {
        let evil = evil.clone();
        move |_: &Request| Reply::text(307, "").with_header("Location", &evil)
    });
    let base = client_credentials(&good.url());
    let with = |change: Value| {
        let mut spec = base.clone();
        for (field, value) in change.as_object().expect("an object") {
            spec[field] = value.clone();
        }
        spec
    };
    let by_issuer = |issuer: &str| {
        let mut spec = with(json!({"issuer": issuer}));
        spec.as_object_mut().expect("an object").remove("tokenEndpoint");
        spec
    };
    refused(&env, "issuer", &by_issuer(&evil), "the issuer").await;
    refused(&env, "metadata", &by_issuer(&issuer), "the metadata of an issuer").await;
    refused(&env, "proxy", &with(json!({"connection": {"proxy": evil}})), "a proxy").await;
    let world = &env.world;
    refused_by_resource(&env, &evil).await;
    world.integration("redirected", &client_credentials(&redirecting.url())).await;
    world.condition("redirected", "Ready", "False", "UnexpectedRedirect").await;
    // Refresh, fallback and revocation requests are sent to other endpoints than the first request.
    let refresh =
        json!({"grantType": "password", "renewal": {"strategy": "refresh_token", "refresh": {"tokenEndpoint": evil}}});
    world.secret("users", &[("client_id", "c"), ("username", "ada"), ("password", CANARY)]).await;
    let mut refresh = with(refresh);
    refresh["credentials"] = json!({"secretName": "users"});
    world.integration("refresh", &refresh).await;
    world.condition("refresh", "Ready", "True", "EndpointNotAllowed").await;
    let refusing = Endpoint::start_at(ALLOWED, |_| Reply::rejected(400, "invalid_grant", "no"));
    let mut fallback = client_credentials(&refusing.url());
    fallback["grantType"] = json!("refresh_token");
    fallback["renewal"] = json!({"fallback": {"grantType": "client_credentials", "tokenEndpoint": evil}});
    refused(&env, "fallback", &fallback, "a fallback").await;
    // The owner of the credentials allows the revocation endpoint, so that only its address is a reason to reject it.
    world.secret("pinned", &[("client_id", "c"), ("client_secret", CANARY)]).await;
    world.pin("pinned", &format!("http://{} {evil}", good.address())).await;
    let mut revoking = with(json!({"revocation": {"endpoint": evil, "onDeletion": true}}));
    revoking["credentials"] = json!({"secretName": "pinned"});
    world.integration("revoked", &revoking).await;
    world.ready("revoked").await;
    world.delete("revoked").await;
    let event = world.event("revoked", "RevocationFailed").await;
    assert!(event.note.as_deref().is_some_and(|note| note.contains("is not allowed")), "{event:?}");
    assert_eq!(honeypot.connections.load(Ordering::SeqCst), 0, "a request was sent");
    env.assert_healthy().await;
}

/// Expressions that would never terminate or would use all memory. Each fails with an error in time.
const EXPRESSIONS: [&str; 18] = [
    r#"$pad("x", 2000000000)"#,
    r#"($f := function($s, $n) { $n = 0 ? $s : $f($s & $s, $n - 1) }; $f("xxxxxxxx", 40))"#,
    "($f := function() { $f() }; $f())",
    "($f := function($n) { 1 + $f($n + 1) }; $f(0))",
    "[1..9999999]",
    "[1..3000].[1..3000]",
    "$map([1..99999], function($i) { $pad('x', 10000) })",
    "$reduce([1..60], function($a, $b) { $a & $a }, 'xx')",
    "$string([1..99999].{'a': $pad('y', 1000)})",
    r#"$eval("($f := function() { $f() }; $f())")"#,
    "$formatNumber(1, $pad('0', 100000000))",
    "$replace($pad('', 100000, 'a'), 'a', $pad('', 100000, 'b'))",
    "$split($pad('a', 9000000), '')",
    "$join([1..99999].$pad('z', 5000))",
    "($f := function($x) { [$x, $x] }; $reduce([1..40], function($a, $b) { $f($a) }, 1))",
    "$error('wrong: ' & access_token)",
    "$assert(false, access_token)",
    "$number(access_token)",
];

#[tokio::test]
async fn expressions_are_limited_in_time_and_memory() {
    let env = HostileEnv::new("expressions").await;
    let endpoint = Endpoint::start_at(ALLOWED, |_| Reply::json(200, &json!({"access_token": CANARY})));
    let world = &env.world;
    let before = tree_memory(world.operator.pid());
    let peak = std::sync::atomic::AtomicU64::new(0);
    for (number, expression) in EXPRESSIONS.iter().enumerate() {
        let name = format!("it-{number}");
        let mut spec = client_credentials(&endpoint.url());
        spec["response"] = json!({"accessToken": expression});
        let requests_before = endpoint.count();
        world.integration(&name, &spec).await;
        eventually("the response is sent", test_support::world::SHORT_TIMEOUT, async || {
            if endpoint.count() > requests_before { Ok(()) } else { Err("no request was sent".to_owned()) }
        })
        .await;
        let begun = Instant::now();
        eventually(&format!("{expression} terminates"), test_support::world::SHORT_TIMEOUT, async || {
            peak.fetch_max(tree_memory(world.operator.pid()), Ordering::Relaxed);
            let ready = condition(&world.get(&name).await, "Ready").filter(|ready| ready.reason == "InvalidResponse");
            ready.map(|_| ()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        assert!(begun.elapsed() < MAX_EVALUATION, "{expression}: {:?}", begun.elapsed());
    }
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before) >> 20;
    // Including the workers.
    assert!(grown < 64, "the operator and its workers have grown by {grown} MiB");
    eventually("the operator has released the memory", test_support::world::SHORT_TIMEOUT, async || {
        let grown = tree_memory(world.operator.pid()).saturating_sub(before) >> 20;
        if grown < 64 { Ok(()) } else { Err(format!("{grown} MiB")) }
    })
    .await;
    env.assert_healthy().await;
}

/// Resident memory of a process and its child processes, without the pages of the binary, which they share.
fn tree_memory(pid: u32) -> u64 {
    let resident = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
    };
    let parent = format!("PPid:\t{pid}\n");
    let own = format!("Pid:\t{pid}\n");
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
        .filter(|status| status.contains(&parent) || status.contains(&own))
        .map(|status| resident(&status))
        .sum()
}

/// Malicious responses of an endpoint, by name.
fn malicious_responses() -> Vec<(&'static str, Reply)> {
    let deep = format!("{}1{}", "[".repeat(60_000), "]".repeat(60_000));
    let wide: String = (0..50_000).map(|number| format!("\"m{number}\":{number},")).collect();
    let many = (0..5_000).fold(Reply::text(200, "{}"), |reply, number| reply.with_header(&format!("X-{number}"), "x"));
    let reported = |description: String| Reply::rejected(400, "invalid_client", &description);
    let escaped: String = CANARY.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let percent: String = CANARY.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let html: String = CANARY.chars().map(|c| format!("&#{};", u32::from(c))).collect();
    let cut = STANDARD.encode(format!("x{CANARY}"));
    vec![
        ("two megabytes", Reply::Oversized(2 << 20)),
        ("JSON nested deep", Reply::text(200, &deep)),
        ("an object of 50,000 members", Reply::text(200, &format!("{{{wide}\"end\":1}}"))),
        ("5,000 headers", many),
        ("a header of a megabyte", Reply::text(200, "{}").with_header("X-Long", &"x".repeat(1 << 20))),
        ("a compressed body", Reply::text(200, "\u{1f}\u{8b}").with_header("Content-Encoding", "gzip")),
        ("a token with a line break", Reply::json(200, &json!({"access_token": format!("{CANARY}\r\nX-Evil: 1")}))),
        ("a token with a NUL", Reply::json(200, &json!({"access_token": format!("{CANARY}\u{0}")}))),
        ("a truncated body", Reply::Truncated),
        ("the secret in an error", reported(format!("wrong: {CANARY}"))),
        ("the secret in base64", reported(format!("wrong: {}", STANDARD.encode(CANARY)))),
        ("the secret cut out of base64", reported(format!("wrong: {}", &cut[1..]))),
        ("the secret percent-encoded", reported(format!("wrong: {percent}"))),
        ("the secret escaped twice", reported(format!("wrong: {escaped}"))),
        ("the secret in HTML", reported(format!("wrong: {html}"))),
        ("the secret in hexadecimal", reported(format!("wrong: {}", hex::encode(CANARY)))),
        ("the secret as the error code", Reply::rejected(400, CANARY, "x")),
        ("an HTML page with the secret", Reply::text(500, &format!("<html>{CANARY}</html>"))),
    ]
}

#[tokio::test]
async fn malicious_responses_do_not_affect_the_operator_or_reveal_a_secret() {
    let env = HostileEnv::new("responses").await;
    let world = &env.world;
    let before = world.operator.memory();
    let endpoints: Vec<(&str, Endpoint)> = malicious_responses()
        .into_iter()
        .map(|(case, reply)| (case, Endpoint::start_at(ALLOWED, move |_| reply.clone())))
        .collect();
    for (number, (_, endpoint)) in endpoints.iter().enumerate() {
        world.integration(&format!("it-{number}"), &client_credentials(&endpoint.url())).await;
    }
    for (number, (case, _)) in endpoints.iter().enumerate() {
        eventually(&format!("{case} is reported"), test_support::world::SHORT_TIMEOUT, async || {
            let ready = condition(&world.get(&format!("it-{number}")).await, "Ready").expect("a condition");
            let known = ["InvalidResponse", "RequestRejected", "EndpointUnreachable", "EndpointUnavailable"];
            let hidden = [hex::encode(CANARY), STANDARD.encode(CANARY)];
            assert!(!hidden.iter().any(|form| ready.message.contains(&form[..16])), "{case}: {}", ready.message);
            if known.contains(&ready.reason.as_str()) { Ok(()) } else { Err(format!("{ready:?}")) }
        })
        .await;
        assert!(world.values(&format!("it-{number}")).await.is_none(), "{case}: something was written");
    }
    let grown = world.operator.memory().saturating_sub(before) >> 20;
    assert!(grown < 64, "{grown} MiB");
    env.assert_healthy().await;
}

#[tokio::test]
async fn endpoints_that_never_respond_delay_nobody() {
    let env = HostileEnv::new("slow").await;
    let world = &env.world;
    let slow = Endpoint::start_at(ALLOWED, |_| Reply::NoResponse);
    for number in 0..40 {
        world.integration(&format!("it-{number}"), &client_credentials(&slow.url())).await;
    }
    world.condition("it-0", "Ready", "False", "RequestTimedOut").await;
    // A new integration is served without waiting for the timeout of another request.
    let begun = Instant::now();
    world.integration("newcomer", &client_credentials(&env.neighbor.url())).await;
    world.ready("newcomer").await;
    assert!(begun.elapsed() < DEFAULT_TIMEOUT, "{:?}", begun.elapsed());
    env.assert_healthy().await;
}

/// The default of `spec.request.timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Also prints the duration of an evaluation, for the documentation.
#[tokio::test(flavor = "multi_thread")]
async fn good_expressions_do_not_wait_for_slow_ones() {
    use oauth_operator::oauth::expression::error::ExpressionError;
    use oauth_operator::oauth::expression::protocol::{EvaluationRequest, Task};
    use oauth_operator::oauth::expression::sandbox::Sandbox;
    use oauth_operator::oauth::expression::value::Value;
    let sandbox = Sandbox::of(test_support::operator::binary());
    let job = |expression: &str| EvaluationRequest {
        task: Task::Evaluate,
        expressions: vec![expression.to_owned()],
        public: 0,
        status: 200,
        headers: vec![],
        body: json!({"data": {"token": "at", "ttl": 15}}).to_string(),
        input: None,
    };
    let good = job("data.token & '!'");
    let expected = vec![Ok(Value::Text("at!".to_owned()))];
    assert_eq!(sandbox.evaluate("good", &good).await, Ok(expected.clone()));
    let begun = Instant::now();
    for _ in 0..200 {
        assert_eq!(sandbox.evaluate("good", &good).await, Ok(expected.clone()));
    }
    println!("a response in a worker: {:?}", begun.elapsed() / 200);
    let bad: Vec<_> = (0..3)
        .map(|number| {
            let (sandbox, job) = (sandbox.clone(), job(&format!("($f := function() {{ $f() }}; $f() + {number})")));
            tokio::spawn(async move { sandbox.evaluate("bad", &job).await })
        })
        .collect();
    assert_eq!(sandbox.evaluate("good", &good).await, Ok(expected));
    assert!(bad.iter().any(|bad| !bad.is_finished()), "the good expression waited for all slow ones");
    for bad in bad {
        let stopped = bad.await.expect("the task ends");
        assert!(!matches!(stopped.as_deref(), Ok([Ok(_)])), "{stopped:?}");
    }
    let greedy = sandbox.evaluate("bad", &job("$pad('x', 2000000000)")).await;
    assert_eq!(greedy, Err(ExpressionError::OutOfMemory(24)));
    // The next one gets a new worker.
    assert!(sandbox.evaluate("good", &good).await.is_ok());
}

/// The number of responses that a worker handles before it is replaced.
const JOBS_PER_WORKER: usize = 1_000;

#[tokio::test]
async fn a_worker_is_replaced_after_a_thousand_responses() {
    use oauth_operator::oauth::expression::sandbox::Sandbox;
    let directory = tempfile::tempdir().expect("a directory");
    let (program, starts) = (directory.path().join("worker"), directory.path().join("starts"));
    // Another process writes it: a program that this process has open for writing cannot be started.
    let script =
        "printf '#!/bin/sh\\necho started >> %s\\nexec %s \"$@\"\\n' \"$1\" \"$2\" > \"$3\" && chmod +x \"$3\"";
    let operator = test_support::operator::binary();
    let written =
        std::process::Command::new("sh").args(["-c", script, "sh"]).args([&starts, &operator, &program]).status();
    assert!(written.is_ok_and(|status| status.success()), "the script is written");
    let starts = || std::fs::read_to_string(&starts).expect("the log of the script").lines().count();
    let sandbox = Sandbox::of(program);
    for _ in 0..JOBS_PER_WORKER {
        assert_eq!(sandbox.check("tenant", vec!["a & b".to_owned()]).await, Ok(vec![Ok(())]));
    }
    assert_eq!(starts(), 1, "one worker is reused");
    assert_eq!(sandbox.check("tenant", vec!["a & b".to_owned()]).await, Ok(vec![Ok(())]));
    assert_eq!(starts(), 2, "the next one is new");
}

/// As a worker exits that may not restrict itself.
#[tokio::test]
async fn a_worker_that_exits_is_not_reported_as_one_without_memory() {
    use oauth_operator::oauth::expression::error::CheckError;
    use oauth_operator::oauth::expression::sandbox::Sandbox;
    let checked = Sandbox::of("/bin/false".into()).check("tenant", vec!["a & b".to_owned()]).await;
    let message = "it cannot restrict itself: check the limits of the container";
    assert_eq!(checked, Err(CheckError::NotStarted(message.to_owned())));
}
