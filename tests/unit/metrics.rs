//! Guarantee: every metric is documented as it is served.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use oauth_operator::controller::metrics::reference::{ALL, Metric, PREFIX, Scope};

fn table(page: &mut String, title: &str, intro: &str, scope: Scope) {
    let _ = write!(page, "\n## {title}\n\n{intro}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in ALL.iter().filter(|metric| metric.scope == scope) {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (metric.sample_name(), metric.kind.as_str());
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), metric.help);
    }
}

fn generate() -> String {
    let mut page = "# Metrics\n\nGenerated from `src/controller/metrics/reference.rs` by `make crds`.\n\n\
        The operator serves `/metrics` on `--metrics-listen`, by default over HTTPS and only to clients that are allowed to `get` the \
        non-resource URL `/metrics`. The format is OpenMetrics for clients that accept it, otherwise the text format of Prometheus. \
        A histogram has the samples `_bucket`, `_sum` and `_count`.\n"
        .to_owned();
    let intro = "The number of these series does not grow with the integrations. Every replica serves them: aggregate \
                 those that describe integrations with `max`, and not with `sum`. Those that exist only on the leader are missing \
                 for some seconds when another replica takes over.";
    table(&mut page, "The operator and all integrations together", intro, Scope::Always);
    let intro = "Not served with `--object-metrics=false` (chart: `metrics.perObject`). Every replica serves those of \
                 integrations: aggregate them with `max by (namespace, name)`. A deleted object leaves no series.";
    table(&mut page, "Each integration and provider", intro, Scope::Object);
    table(&mut page, "The process", "As from every client of Prometheus.", Scope::Process);
    page
}

#[test]
fn the_metrics_are_documented() {
    let page = generate();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &page).expect("docs/metrics.md");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written, page, "docs/metrics.md is not up to date: run make crds");
}

/// The rules of <https://prometheus.io/docs/practices/naming/>.
#[test]
fn the_names_follow_the_rules_of_prometheus() {
    let names: BTreeSet<String> = ALL.iter().map(Metric::sample_name).collect();
    assert_eq!(names.len(), ALL.len(), "each name is used once");
    for metric in ALL {
        let name = metric.name;
        assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{name}");
        assert!(!name.starts_with(PREFIX) && !name.ends_with("_total"), "{name}: added to the sample");
        let is_duration =
            ["duration", "lateness", "lifetime", "age", "timestamp"].iter().any(|word| name.contains(word));
        assert!(!is_duration || name.ends_with("_seconds"), "{name}: durations and times are in seconds");
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.') && metric.help.is_ascii(), "{name}");
        for label in metric.labels {
            assert!(label.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'), "{name}: {label}");
        }
    }
}
