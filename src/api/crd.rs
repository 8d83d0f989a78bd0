//! The CustomResourceDefinition, generated from the Rust types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, SelectableField,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::api::spec::OAuthIntegration;

/// The CRD that `make crds` writes and the chart installs.
///
/// The default status (as in the Gateway API) lets `kubectl get` and kstatus distinguish an integration that no
/// operator has reconciled yet from a finished one, without an additional write.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = OAuthIntegration::crd();
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        join_wrapped_lines(schema);
        let selectable = [".status.ready", ".status.reason"];
        version.selectable_fields =
            Some(selectable.map(|path| SelectableField { json_path: path.to_owned() }).to_vec());
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(json!({"ready": "Unknown", "reason": "Pending", "conditions": [{
                "type": "Ready",
                "status": "Unknown",
                "reason": "Pending",
                "message": "not reconciled yet. If this does not change within seconds: is the operator running, does it watch this namespace, and does its selector match the labels of this integration?",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }]})));
        }
    }
    crd
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
