//! Guarantee: a newcomer finds the way out of a failure by the documentation alone. The integration of the quickstart fails, the
//! message of its condition leads to the page of the reason, and the commands of that page fix it.

use std::process::Command;

use serde_json::json;
use test_support::docs::blocks;
use test_support::endpoint::{Endpoint, Reply, Request};
use test_support::world::SHORT_TIMEOUT;
use test_support::{ControlPlane, World, eventually, tools};

const RIGHT_SECRET: &str = "kanarie-right-client-secret";

/// A mistake in the quickstart.
struct Case {
    reason: &'static str,
    /// What the newcomer writes instead.
    mistake: (&'static str, &'static str),
    /// What is in the namespace already.
    before: &'static str,
    reply: fn() -> Reply,
}

fn token() -> Reply {
    Reply::token(3600)
}

const fn case(reason: &'static str, from: &'static str, to: &'static str) -> Case {
    Case { reason, mistake: (from, to), before: "", reply: token }
}

fn cases() -> Vec<Case> {
    let target = "  target:\n    secretName: my-api-token\n";
    vec![
        case("CredentialsMissing", "  client_secret: replace-with-your-client-secret\n", ""),
        case("RequestRejected", "replace-with-your-client-secret", "of-another-client"),
        case("InvalidSpec", target, "  response:\n    accessToken: data.[\n  target:\n    secretName: my-api-token\n"),
        case(
            "EndpointNotAllowed",
            "allowed-endpoints: https://login.example.com",
            "allowed-endpoints: https://login.example.org",
        ),
        case("Suspended", target, "  suspend: true\n  target:\n    secretName: my-api-token\n"),
        Case {
            before: "kubectl create secret generic my-api-token --from-literal=access_token=kanarie-of-another-tool",
            ..case("TargetConflict", "", "")
        },
        Case {
            reply: || Reply::json(200, &json!({"data": {"token": "kanarie-nested-token"}, "expires_in": 3600})),
            ..case("InvalidResponse", "", "")
        },
        Case {
            reply: || Reply::json(200, &json!({"access_token": "kanarie-without-lifetime"})),
            ..case("TokenLifetimeUnknown", "", "")
        },
    ]
}

/// An identity provider with metadata and one client.
fn respond(request: &Request, reply: fn() -> Reply) -> Reply {
    let issuer = format!("http://{}/realms/example", request.headers["host"]);
    if request.path.ends_with("/.well-known/openid-configuration") {
        return Reply::json(200, &json!({"issuer": issuer, "token_endpoint": format!("{issuer}/token")}));
    }
    match request.parameter("client_secret").as_str() {
        RIGHT_SECRET => reply(),
        _ => Reply::rejected(401, "invalid_client", "Invalid client or Invalid client credentials"),
    }
}

/// Runs the commands of a page in a namespace, with only the endpoint and the secret replaced.
fn run(namespace: &str, endpoint: &Endpoint, script: &str) {
    let origin = format!("http://{}", endpoint.address());
    let script = script
        .replace("https://login.example.com", &origin)
        .replace("replace-with-your-client-secret", RIGHT_SECRET)
        .replace("replace-with-your-client-id", "my-client");
    let kubectl = tools::install("kubernetes").join("kubectl");
    let kubectl = format!("kubectl() {{ {} --namespace {namespace} \"$@\"; }}\n", kubectl.display());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &format!("{kubectl}{script}")]);
    let output = bash.env("KUBECONFIG", ControlPlane::shared().admin_kubeconfig()).output().expect("bash");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The reason to which the message of `Ready` leads, if it is a page of the documentation.
async fn page_of(world: &World) -> Result<String, String> {
    let integration = world.integrations().get_opt("my-api").await.map_err(|error| error.to_string())?;
    let conditions = integration.and_then(|it| it.status).map(|status| status.conditions).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").ok_or("no condition")?;
    let page = ready.message.rsplit_once(&format!("; see {}/reasons/", env!("CARGO_PKG_HOMEPAGE")));
    page.map(|(_, page)| page.to_owned()).ok_or_else(|| ready.message.clone())
}

#[tokio::test]
async fn the_page_of_a_reason_fixes_it() {
    let quickstart = blocks("docs/quickstart.md", "sh").into_iter().find(|block| block.contains("OAuthIntegration"));
    let quickstart = quickstart.expect("the integration of the quickstart");
    for Case { reason, mistake: (from, to), before, reply } in cases() {
        let world = World::new(&format!("page-{}", reason.to_lowercase())).await;
        let endpoint = Endpoint::start(move |request| respond(request, reply));
        run(&world.namespace, &endpoint, before);
        assert!(quickstart.contains(from), "{reason}: {from}");
        run(&world.namespace, &endpoint, &quickstart.replacen(from, to, 1));
        eventually(&format!("the message leads to the page {reason}"), SHORT_TIMEOUT, async || {
            match page_of(&world).await? {
                page if page == reason => Ok(()),
                other => Err(format!("{other}\n{}", world.operator.logs())),
            }
        })
        .await;
        let commands = blocks(&format!("docs/reasons/{reason}.md"), "sh").join("\n");
        assert!(!commands.is_empty(), "{reason}");
        run(&world.namespace, &endpoint, &commands);
        eventually(&format!("{reason} is fixed"), SHORT_TIMEOUT, async || match page_of(&world).await {
            Ok(page) => Err(format!("{page}\n{}", world.operator.logs())),
            Err(_) => Ok(()),
        })
        .await;
        world.ready("my-api").await;
        assert!(!world.value("my-api-token", "access_token").await.is_empty(), "{reason}");
    }
}

/// Commands that no test executes are shown as `console`.
#[test]
fn every_command_of_a_reason_page_is_executed() {
    let entries = std::fs::read_dir(tools::root().join("docs/reasons")).expect("the pages");
    let mut with_commands: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !blocks(&format!("docs/reasons/{name}"), "sh").is_empty())
        .map(|name| name.replace(".md", ""))
        .collect();
    with_commands.sort();
    let mut executed: Vec<&str> = cases().iter().map(|case| case.reason).collect();
    executed.sort_unstable();
    assert_eq!(with_commands, executed);
}
