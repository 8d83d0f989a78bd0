//! The CustomResourceDefinitions, generated from the Rust types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, SelectableField,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::api::provider::{ClusterOAuthProvider, OAuthProvider};
use crate::api::spec::OAuthIntegration;

/// The CRDs that `make crds` writes and the chart installs.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 3] {
    let namespaced = pending(
        "not checked yet. If this does not change within seconds: is the operator running, and does it watch this namespace?",
    );
    let cluster = pending(
        "not checked yet. If this does not change within seconds: is the operator running, with --cluster-providers?",
    );
    [crd(), with_status(OAuthProvider::crd(), &namespaced), with_status(ClusterOAuthProvider::crd(), &cluster)]
}

/// The CRD of `OAuthIntegration`.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut status = pending(
        "not reconciled yet. If this does not change within seconds: is the operator running, does it watch this namespace, and does its selector match the labels of this integration?",
    );
    status["ready"] = json!("Unknown");
    status["reason"] = json!("Pending");
    let mut crd = with_status(OAuthIntegration::crd(), &status);
    for version in &mut crd.spec.versions {
        let selectable = [".status.ready", ".status.reason"];
        version.selectable_fields =
            Some(selectable.map(|path| SelectableField { json_path: path.to_owned() }).to_vec());
    }
    crd
}

/// The default status (as in the Gateway API) lets `kubectl get` and kstatus distinguish an object that no operator has
/// seen yet from a finished one, without an additional write.
fn with_status(mut crd: CustomResourceDefinition, default: &Value) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        join_wrapped_lines(schema);
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(default.clone()));
        }
    }
    crd
}

fn pending(message: &str) -> Value {
    json!({"conditions": [{
        "type": "Ready",
        "status": "Unknown",
        "reason": "Pending",
        "message": message,
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]})
}

/// Removes the line breaks of the source, because `kubectl explain` wraps lines itself.
fn join_wrapped_lines(schema: &mut JSONSchemaProps) {
    if let Some(text) = &mut schema.description {
        *text = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(join_wrapped_lines);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        join_wrapped_lines(items);
    }
}
