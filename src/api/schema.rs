//! JSON schemas of fields whose Rust type is less strict than the CRD.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A key of a Secret, as the API server validates it.
pub(crate) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"})
}

pub(crate) fn query(_: &mut SchemaGenerator) -> Schema {
    string_map(16, 512)
}

pub(crate) fn parameters_from(generator: &mut SchemaGenerator) -> Schema {
    secret_keys(generator, 16)
}

pub(crate) fn headers_from(generator: &mut SchemaGenerator) -> Schema {
    secret_keys(generator, 8)
}

/// References to keys of the credentials Secret, by name.
fn secret_keys(generator: &mut SchemaGenerator, entries: u32) -> Schema {
    let mut key = secret_key(generator);
    key.insert("description".to_owned(), "Its key in the credentials Secret. Required.".into());
    json_schema!({
        "type": "object",
        "maxProperties": entries,
        "additionalProperties": {"type": "object", "required": ["key"], "properties": {"key": key}},
    })
}

pub(crate) fn parameter_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 15,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 128},
    })
}

pub(crate) fn data(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 4096},
    })
}

/// The selector of the Kubernetes API, with bounds.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    let text = json_schema!({"type": "string", "maxLength": 317});
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {"type": "object", "maxProperties": 32, "additionalProperties": text, "description": "Labels with their values. All must be present. Example: `{erp: \"true\"}`."},
            "matchExpressions": {
                "type": "array",
                "maxItems": 32,
                "description": "Requirements. All must be met. Example: `[{key: erp, operator: Exists}]`.",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "maxLength": 317, "description": "The label. Required. Example: `erp`."},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"], "description": "The relation of the label to `values`. Required. Example: `In`."},
                        "values": {"type": "array", "maxItems": 256, "items": {"type": "string", "maxLength": 63}, "description": "The values, for `In` and `NotIn`. Example: `[billing]`."},
                    },
                },
            },
        },
    })
}

/// An object with members of any type.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

pub(crate) fn headers(_: &mut SchemaGenerator) -> Schema {
    string_map(32, 2048)
}

pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    string_map(32, 63)
}

pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    string_map(32, 4096)
}

/// The bounds keep the estimated cost of the CEL rules below the limit of the API server.
fn string_map(entries: u32, length: u32) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": entries,
        "additionalProperties": {"type": "string", "maxLength": length},
    })
}
