//! The rules of the chart, in the unit tests of promtool.

use std::fs;

use serde_json::Value;
use test_support::{prometheus, tools};

use super::rules;

/// The unit tests of promtool; each belongs to the rules with series for each object, or without, or to both.
const TESTS: [(&str, &[bool]); 6] = [
    ("objects", &[true]),
    ("objects-days", &[true]),
    ("months", &[true]),
    ("totals", &[false]),
    ("totals-days", &[false]),
    ("operator", &[true, false]),
];

fn test_file(name: &str) -> String {
    fs::read_to_string(tools::root().join(format!("tests/it/monitoring/{name}.yaml"))).expect("a file of tests")
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    for per_object in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let rendered = rules("j", per_object, &Value::Null);
        fs::write(dir.path().join("rules.yaml"), &rendered).expect("a file of rules");
        let tests = TESTS.iter().filter(|(_, applies)| applies.contains(&per_object)).map(|(name, _)| *name);
        let mut text = String::new();
        for name in tests {
            let file = format!("{name}.yaml");
            fs::write(dir.path().join(&file), test_file(name)).expect("a file of tests");
            prometheus::test_rules(dir.path(), &file);
            text += &test_file(name);
        }
        let rendered: Value = serde_json::from_str(&rendered).expect("JSON");
        for rule in rendered["groups"][0]["rules"].as_array().expect("rules") {
            let alert = rule["alert"].as_str().expect("a name");
            let fires = format!("- labels: ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"");
            assert!(text.contains(&fires), "no test in which {alert} fires, per object: {per_object}");
        }
    }
}
