//! Whether the rollout of a workload is over, like `kubectl rollout status`. Pure.

#![deny(clippy::disallowed_methods)]

use kube::api::DynamicObject;
use serde_json::Value;

use crate::controller::restarts::workload::WorkloadKind;

/// Whether nothing is rolled out: all pods are up to date and available, the rollout has failed, or it begins only when
/// someone else wants it (a paused Deployment, `updateStrategy: OnDelete`).
#[must_use]
pub(crate) fn is_over(kind: WorkloadKind, object: &DynamicObject) -> bool {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let is_paused = spec["paused"] == true || spec["updateStrategy"]["type"] == "OnDelete";
    let is_observed = number(&status["observedGeneration"]) >= object.metadata.generation.unwrap_or_default();
    let is_complete = match kind {
        WorkloadKind::Deployment => {
            let (replicas, updated) = (spec["replicas"].as_i64().unwrap_or(1), number(&status["updatedReplicas"]));
            updated >= replicas
                && number(&status["replicas"]) <= updated
                && number(&status["availableReplicas"]) >= updated
                || has_failed(status)
        }
        WorkloadKind::StatefulSet => {
            let replicas = spec["replicas"].as_i64().unwrap_or(1);
            let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
            let is_updated = status["updateRevision"] == status["currentRevision"]
                || number(&status["updatedReplicas"]) >= (replicas - partition).max(0);
            is_updated && number(&status["readyReplicas"]) >= replicas
        }
        WorkloadKind::DaemonSet => {
            let wanted = number(&status["desiredNumberScheduled"]);
            number(&status["updatedNumberScheduled"]) >= wanted && number(&status["numberAvailable"]) >= wanted
        }
    };
    is_paused || (is_observed && is_complete)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// Whether a Deployment has exceeded its deadline.
fn has_failed(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut reasons = conditions.filter(|one| one["type"] == "Progressing").map(|one| &one["reason"]);
    reasons.any(|reason| reason == "ProgressDeadlineExceeded")
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn over(kind: WorkloadKind, spec: &Value, status: &Value) -> bool {
        let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
        is_over(kind, &serde_json::from_value(object).expect("an object"))
    }

    #[test]
    fn a_rollout_is_over_when_all_pods_are_up_to_date() {
        use WorkloadKind::{DaemonSet, Deployment, StatefulSet};
        let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
        let with = |status: &Value, key: &str, value: i64| {
            let mut status = status.clone();
            status[key] = json!(value);
            status
        };
        let two = json!({"replicas": 2});
        assert!(over(Deployment, &two, &done));
        assert!(!over(Deployment, &two, &with(&done, "observedGeneration", 1)), "not seen by its controller");
        assert!(!over(Deployment, &two, &with(&done, "updatedReplicas", 1)));
        assert!(!over(Deployment, &two, &with(&done, "replicas", 3)), "an old pod is left");
        assert!(!over(Deployment, &two, &with(&done, "availableReplicas", 1)));
        assert!(over(Deployment, &json!({"replicas": 2, "paused": true}), &json!({})), "it begins later");
        let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
        let failed = json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "conditions": [late]});
        assert!(over(Deployment, &two, &failed));
        assert!(!over(Deployment, &json!({}), &json!({})), "no status yet");

        let set = json!({
            "observedGeneration": 2, "updatedReplicas": 1, "readyReplicas": 3, "updateRevision": "b",
            "currentRevision": "a",
        });
        assert!(!over(StatefulSet, &json!({"replicas": 3}), &set));
        let partition = |number| json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}});
        assert!(over(StatefulSet, &partition(2), &set));
        assert!(!over(StatefulSet, &partition(1), &set));
        assert!(!over(StatefulSet, &partition(2), &with(&set, "readyReplicas", 2)));
        assert!(over(StatefulSet, &json!({"updateStrategy": {"type": "OnDelete"}}), &json!({})), "never begins");

        let daemons = json!({
            "observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3,
        });
        assert!(over(DaemonSet, &json!({}), &daemons));
        assert!(!over(DaemonSet, &json!({}), &with(&daemons, "updatedNumberScheduled", 2)));
        assert!(!over(DaemonSet, &json!({}), &with(&daemons, "numberAvailable", 2)));
    }
}
