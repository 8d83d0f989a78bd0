//! Guarantee: every value of the chart is documented, checked and usable: the API server accepts what is rendered.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};
use test_support::manifests::{OPERATOR, helm_template, temporary_file, wait_until_established};
use test_support::{ControlPlane, tools};

use crate::packaging::admitted;

fn chart_file(name: &str) -> String {
    fs::read_to_string(tools::root().join("charts/oauth-operator").join(name)).expect("a file of the chart")
}

/// The documents of a rendered chart.
fn documents(rendered: &str) -> Vec<Value> {
    rendered.split("\n---").filter_map(|text| serde_saphyr::from_str(text).ok()).collect()
}

/// The only document of this kind.
fn document(rendered: &str, kind: &str) -> Value {
    let found = documents(rendered).into_iter().find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} is rendered"))
}

/// The path of each value: objects are followed, lists and scalars are values.
fn value_paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(members) if !members.is_empty() => {
            for (name, member) in members {
                value_paths(member, format!("{path}.{name}").trim_start_matches('.'), found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

fn values() -> BTreeSet<String> {
    let values: Value = serde_saphyr::from_str(&chart_file("values.yaml")).expect("YAML");
    let mut found = BTreeSet::new();
    value_paths(&values, "", &mut found);
    assert!(found.len() > 80, "{found:?}");
    found
}

/// Whether `path` is `prefix` or a member of it.
fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[test]
fn the_table_of_the_readme_has_every_value() {
    let readme = chart_file("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ").map(|(key, _)| key));
    let keys: BTreeSet<&str> = rows.filter(|key| *key != "Key").collect();
    let values = values();
    let missing: Vec<_> = values.iter().filter(|path| !keys.iter().any(|key| is_within(path, key))).collect();
    assert!(missing.is_empty(), "not in the README, run helm-docs: {missing:?}");
    let unknown: Vec<_> = keys.iter().filter(|key| !values.iter().any(|path| is_within(path, key))).collect();
    assert!(unknown.is_empty(), "in the README, but no values: {unknown:?}");
}

/// The schema of a member; `None` if any member is allowed.
fn member<'a>(root: &'a Value, schema: &'a Value, name: &str) -> Result<Option<&'a Value>, ()> {
    let schema =
        schema["$ref"].as_str().map_or(schema, |path| &root["definitions"][path.trim_start_matches("#/definitions/")]);
    match schema.get("properties") {
        Some(properties) => properties.get(name).map(Some).ok_or(()),
        None => Ok(None),
    }
}

#[test]
fn the_schema_describes_every_value() {
    let schema: Value = serde_json::from_str(&chart_file("values.schema.json")).expect("JSON");
    let is_described = |path: &&String| {
        let mut current = &schema;
        for name in path.split('.') {
            match member(&schema, current, name) {
                Ok(Some(next)) => current = next,
                Ok(None) => return true,
                Err(()) => return false,
            }
        }
        true
    };
    let values = values();
    let missing: Vec<_> = values.iter().filter(|path| !is_described(path)).collect();
    assert!(missing.is_empty(), "not in the schema: {missing:?}");
    // Helm sets `enabled` in charts that have this one as a dependency.
    let unknown: Vec<_> = schema["properties"]
        .as_object()
        .expect("an object")
        .keys()
        .filter(|name| *name != "enabled" && !values.iter().any(|path| is_within(path, name)))
        .collect();
    assert!(unknown.is_empty(), "in the schema, but no values: {unknown:?}");
}

/// Sets of values that users combine, by purpose.
fn value_sets() -> Vec<(&'static str, Value)> {
    vec![
        ("defaults", json!({})),
        ("one pod", json!({"replicaCount": 1})),
        ("no pods", json!({"replicaCount": 0})),
        ("without leader election", json!({"replicaCount": 1, "leaderElection": {"enabled": false}})),
        ("some namespaces", json!({"watchNamespaces": ["default", "kube-system"]})),
        (
            "some namespaces with cluster-scoped providers",
            json!({
                "watchNamespaces": ["default"], "clusterProviders": {"enabled": true}, "serviceAccountTokens": {"enabled": true},
            }),
        ),
        ("without cluster-scoped providers", json!({"clusterProviders": {"enabled": false}})),
        (
            "no cluster-wide permissions",
            json!({
                "watchNamespaces": ["default"], "crds": {"enabled": false}, "rbac": {"aggregateRoles": false},
                "metrics": {"auth": {"enabled": false}}, "admissionPolicy": {"enabled": false},
            }),
        ),
        (
            "permissions and ServiceAccount managed elsewhere",
            json!({"rbac": {"create": false, "aggregateRoles": false}, "serviceAccount": {"create": false, "name": "other"}}),
        ),
        (
            "an image of a private registry, by digest",
            json!({
                "global": {"imageRegistry": "registry.example.com", "imagePullSecrets": ["global"]},
                "image": {"repository": "platform/oauth-operator", "digest": format!("sha256:{}", "a".repeat(64))},
                "imagePullSecrets": [{"name": "own"}, {"name": "global"}],
            }),
        ),
        ("names", json!({"nameOverride": "oauth", "fullnameOverride": "tokens", "namespaceOverride": "default"})),
        (
            "labels and annotations",
            json!({
                "commonLabels": {"team": "platform", "app.kubernetes.io/name": "not this one"},
                "deploymentAnnotations": {"a": "1"}, "podAnnotations": {"b": "true"}, "podLabels": {"c": "2"},
                "serviceAccount": {"annotations": {"d": "3"}}, "metrics": {"service": {"annotations": {"e": "4"}}},
            }),
        ),
        ("a budget by percentage", json!({"replicaCount": 3, "podDisruptionBudget": {"minAvailable": "50%"}})),
        (
            "scheduling",
            json!({
                "priorityClassName": "system-cluster-critical", "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
                }]}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"},
                    {"maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                     "labelSelector": {"matchLabels": {"x": "y"}}},
                ],
            }),
        ),
        (
            "names and DNS of the pod",
            json!({
                "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["login.example.com"]}],
                "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "2"}]},
            }),
        ),
        (
            "probes and shutdown",
            json!({
                "livenessProbe": {"initialDelaySeconds": 5, "periodSeconds": 20, "failureThreshold": 5},
                "readinessProbe": {"periodSeconds": 5, "successThreshold": 2}, "terminationGracePeriodSeconds": 60,
                "revisionHistoryLimit": 2, "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
            }),
        ),
        (
            "a proxy and a private CA",
            json!({
                "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
                "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
                "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": true}],
                "extraArgs": ["--identity=here"],
            }),
        ),
        (
            "metrics with a ServiceMonitor and a certificate",
            json!({"metrics": {
                "readers": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "default"}],
                "tls": {"secretName": "metrics-tls"},
                "serviceMonitor": {
                    "enabled": true, "labels": {"release": "prometheus"}, "interval": "30s", "scrapeTimeout": "10s",
                    "metricRelabelings": [{"action": "drop", "sourceLabels": ["name"], "regex": "x"}],
                    "tlsConfig": {"serverName": "oauth-operator-metrics"},
                },
            }}),
        ),
        (
            "metrics with a PodMonitor",
            json!({"metrics": {"podMonitor": {"enabled": true, "bearerTokenSecret": {"name": "token", "key": "token"}}}}),
        ),
        (
            "plain metrics with a PodMonitor",
            json!({"metrics": {"auth": {"enabled": false}, "podMonitor": {"enabled": true, "interval": "1m"}}}),
        ),
        (
            "alerts and a dashboard",
            json!({"metrics": {
                "serviceMonitor": {"enabled": true},
                "prometheusRule": {
                    "enabled": true, "labels": {"release": "prometheus"}, "annotations": {"a": "1"}, "interval": "30s",
                    "runbookUrl": "https://runbooks.example.com/oauth/", "alertLabels": {"team": "platform"},
                    "thresholds": {"refreshTokenDays": 3, "credentialsDays": 30, "pendingWriteSeconds": 60},
                    "alerts": {"OAuthTokenMissing": {"enabled": false}, "OAuthTokenExpired": {"for": "5m", "severity": "page"}},
                    "additionalRules": [{"record": "oauth:ready", "expr": "sum(oauth_operator_integrations{ready=\"True\"})"}],
                },
                "dashboard": {"enabled": true, "annotations": {"grafana_folder": "Platform"}, "namespace": "default"},
            }}),
        ),
        (
            "alerts without series for each integration",
            json!({"metrics": {"perObject": false, "prometheusRule": {"enabled": true, "job": "oauth"}}}),
        ),
        (
            "egress and targets",
            json!({
                "egress": {
                    "allowHttp": true, "allowCidrs": ["10.0.0.0/8"], "denyCidrs": ["10.1.0.0/16"], "denyPrivate": true,
                    "allowHosts": ["*.example.com"], "requireAllowedEndpoints": true, "allowAnonymousHosts": ["a.example"],
                },
                "targets": {"allowTypes": ["example.com/token"], "allowMetadata": ["team", "example.com/*"]},
                "networkPolicy": {"enabled": true, "metricsFrom": [{"namespaceSelector": {}}]},
                "serviceAccountTokens": {"enabled": true}, "restarts": {"enabled": true, "atOnce": 2},
            }),
        ),
        (
            "limits",
            json!({
                "concurrency": 8, "selector": "team=billing,tier!=test", "log": {"format": "text", "filter": "debug"},
                "tokenRequests": {"maxInFlight": 8, "maxInFlightPerHost": 2, "maxResponseSize": "128KiB"},
                "renewals": {"minInterval": "30s"},
                "apiBudget": {"writesPerNamespace": 0, "writes": 0, "eventsPerNamespace": 0}, "crds": {"keep": false},
            }),
        ),
        (
            "further objects",
            json!({"extraObjects": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a"}},
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"oauth-operator.fullname\" . }}-b",
            ]}),
        ),
    ]
}

/// The chart with these values, as if they were given in a file.
fn rendered(values: &Value) -> String {
    let file = temporary_file(&values.to_string());
    helm_template(&["--values", &file.path().display().to_string()])
}

#[test]
fn the_api_server_accepts_the_chart_with_every_set_of_values() {
    let control_plane = ControlPlane::start();
    control_plane.kubectl(&["create", "namespace", OPERATOR]);
    control_plane.kubectl(&["create", "serviceaccount", OPERATOR, "-n", OPERATOR]);
    control_plane.kubectl(&["label", "namespace", OPERATOR, "pod-security.kubernetes.io/enforce=restricted"]);
    let crds = tools::install("prometheus-operator").display().to_string();
    control_plane.kubectl(&["create", "-f", &crds]);
    for name in ["servicemonitors", "podmonitors", "prometheusrules"] {
        wait_until_established(&control_plane, &format!("{name}.monitoring.coreos.com"));
    }
    for (name, values) in value_sets() {
        let rendered = rendered(&values);
        let path = temporary_file(&rendered).into_temp_path();
        let dry_run = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
        let applied = control_plane.try_kubectl(&[&dry_run[..], &["-f", &path.display().to_string()]].concat());
        assert!(applied.status.success(), "{name}: {}", String::from_utf8_lossy(&applied.stderr));
        let mut deployment = document(&rendered, "Deployment");
        // The other ServiceAccounts do not exist, as this is a dry run.
        deployment["spec"]["template"]["spec"]["serviceAccountName"] = json!(OPERATOR);
        admitted(&control_plane, &deployment);
    }
}

fn template(values: &Value) -> Output {
    let file = temporary_file(&values.to_string());
    Command::new(tools::install("helm").join("helm"))
        .args(["template", "it"])
        .arg(tools::root().join("charts/oauth-operator"))
        .arg("--values")
        .arg(file.path())
        .output()
        .expect("helm")
}

#[test]
fn values_that_cannot_work_are_rejected_with_what_to_change() {
    let cases = [
        (json!({"leaderElection": {"enabled": false}}), "replicaCount"),
        (json!({"replicas": 1}), "replicas"),
        (json!({"crds": {"install": false}}), "install"),
        (json!({"log": {"format": "xml"}}), "format"),
        (json!({"extraArgs": ["allow-http"]}), "extraArgs"),
        (json!({"livenessProbe": {"httpGet": {"path": "/"}}}), "httpGet"),
        (json!({"podDisruptionBudget": {"maxUnavailable": "half"}}), "maxUnavailable"),
        (json!({"image": {"digest": "sha256:short"}}), "digest"),
        (json!({"namespaceOverride": "A B"}), "namespaceOverride"),
        (json!({"terminationGracePeriodSeconds": 5}), "terminationGracePeriodSeconds"),
        (json!({"metrics": {"podMonitor": {"enabled": true}}}), "metrics.podMonitor.bearerTokenSecret"),
        (
            json!({"metrics": {"prometheusRule": {"alerts": {"OAuthTokenExpires": {"enabled": false}}}}}),
            "OAuthTokenExpires",
        ),
        (json!({"metrics": {"prometheusRule": {"thresholds": {"credentialsDays": 0}}}}), "credentialsDays"),
        (
            json!({"metrics": {"podMonitor": {"enabled": true}, "serviceMonitor": {"enabled": true}}}),
            "either metrics.serviceMonitor or metrics.podMonitor",
        ),
    ];
    for (values, part) in cases {
        let output = template(&values);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(part), "{values}: {errors}");
    }
}

#[test]
fn the_rendered_chart_contains_what_the_values_say() {
    let by_default = rendered(&json!({}));
    let deployment = document(&by_default, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["strategy"]["type"], "RollingUpdate");
    let budget = document(&by_default, "PodDisruptionBudget");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0];
    let labels = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!((&spread["labelSelector"]["matchLabels"], &budget["spec"]["selector"]["matchLabels"]), (labels, labels));

    let one = rendered(&json!({"replicaCount": 1}));
    assert!(!one.contains("kind: PodDisruptionBudget"), "a budget of one pod would only block drains");
    let alone = rendered(&json!({"replicaCount": 1, "leaderElection": {"enabled": false}}));
    assert_eq!(document(&alone, "Deployment")["spec"]["strategy"]["type"], "Recreate");

    let image = |values: Value| {
        let pod = document(&rendered(&values), "Deployment")["spec"]["template"]["spec"].clone();
        (pod["containers"][0]["image"].as_str().unwrap_or_default().to_owned(), pod["imagePullSecrets"].clone())
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    let (version, owner) = (env!("CARGO_PKG_VERSION"), tools::owner());
    assert_eq!(image(json!({})), (format!("ghcr.io/{owner}/oauth-operator:{version}"), Value::Null));
    assert_eq!(
        image(json!({"image": {"registry": "r.example", "tag": "1", "digest": digest}})).0,
        format!("r.example/{owner}/oauth-operator:1@{digest}")
    );
    assert_eq!(
        image(json!({"global": {"imageRegistry": "g.example", "imagePullSecrets": ["a", {"name": "b"}]},
                     "image": {"registry": "r.example", "digest": digest}, "imagePullSecrets": [{"name": "a"}]})),
        (format!("g.example/{owner}/oauth-operator@{digest}"), json!([{"name": "a"}, {"name": "b"}]))
    );

    for scope in [json!([]), json!(["erp"])] {
        let with =
            |enabled: bool| rendered(&json!({"watchNamespaces": scope, "restarts": {"enabled": enabled, "atOnce": 7}}));
        for part in ["resources: [deployments, statefulsets, daemonsets]", "--restarts\n", "--restarts-at-once=7\n"] {
            assert!(with(true).contains(part) && !with(false).contains(part), "{scope} {part}");
        }
    }

    let elsewhere = rendered(
        &json!({"namespaceOverride": "elsewhere", "commonLabels": {"team": "x", "app.kubernetes.io/name": "y"}}),
    );
    for document in documents(&elsewhere).iter().filter(|document| !document["kind"].is_null()) {
        let metadata = &document["metadata"];
        assert!(metadata["namespace"].is_null() || metadata["namespace"] == "elsewhere", "{metadata}");
        let labels = &metadata["labels"];
        assert_eq!(
            (&labels["team"], &labels["app.kubernetes.io/name"]),
            (&json!("x"), &json!("oauth-operator")),
            "{metadata}"
        );
    }
    let lease = "--lease-namespace=elsewhere";
    assert!(elsewhere.contains(lease), "the lease is in the namespace of the pods");
}

#[test]
fn the_alerts_are_those_that_the_values_say() {
    let values = value_sets().into_iter().find(|(name, _)| *name == "alerts and a dashboard").expect("the values").1;
    let rendered = rendered(&values);
    let group = &document(&rendered, "PrometheusRule")["spec"]["groups"][0];
    assert_eq!(group["interval"], "30s");
    let rules = group["rules"].as_array().expect("rules");
    let alert = |name: &str| rules.iter().find(|rule| rule["alert"] == name);
    assert!(alert("OAuthTokenMissing").is_none());
    let expired = alert("OAuthTokenExpired").expect("an alert");
    assert_eq!((&expired["for"], &expired["labels"]), (&json!("5m"), &json!({"severity": "page", "team": "platform"})));
    let absent = alert("OAuthOperatorAbsent").expect("an alert");
    assert_eq!(
        absent["expr"],
        format!("absent(oauth_operator_build_info{{job=\"{OPERATOR}-metrics\",namespace=\"{OPERATOR}\"}})")
    );
    let link = "https://runbooks.example.com/oauth/monitoring.html#oauthoperatorabsent";
    assert_eq!(absent["annotations"]["runbook_url"], link);
    let credentials = alert("OAuthCredentialsExpiring").expect("an alert")["expr"].to_string();
    assert!(credentials.contains("< 30 * 86400"), "{credentials}");
    for rule in rules {
        let text = rule.to_string();
        let is_name = |rest: &str| rest.starts_with(|letter: char| letter.is_ascii_alphabetic());
        assert!(!text.split('<').skip(1).any(is_name), "a placeholder is left: {text}");
        let expression = rule["expr"].as_str().expect("an expression");
        let of_release = format!("{{job=\"{OPERATOR}-metrics\"");
        let is_selected = expression.matches("oauth_operator_").count() == expression.matches(&of_release).count();
        assert!(is_selected || rule["record"].is_string(), "series of other releases: {expression}");
    }
    assert_eq!(rules.last().map(|rule| &rule["record"]), Some(&json!("oauth:ready")));

    let dashboard = document(&rendered, "ConfigMap");
    let metadata = &dashboard["metadata"];
    assert_eq!((&metadata["namespace"], &metadata["labels"]["grafana_dashboard"]), (&json!("default"), &json!("1")));
    assert_eq!(metadata["annotations"], json!({"grafana_folder": "Platform"}));
    let written = dashboard["data"]["oauth-operator.json"].as_str().expect("a dashboard");
    assert_eq!(written.trim(), chart_file("files/dashboard.json").trim());
}
