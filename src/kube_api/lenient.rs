//! Objects in lists and watches, parsed so that an invalid one does not affect the others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::kube_api::filter::types::LEFT_OUT;

/// An object, or the metadata of an invalid one. Unlike [`DeserializeGuard`], it accepts any JSON value.
#[derive(Clone, Debug)]
pub struct Lenient<K>(pub DeserializeGuard<K>);

impl<'de, K: DeserializeOwned + Resource> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = members(deserializer)?;
        let metadata = metadata(object.get("metadata"));
        let read = match object.remove(LEFT_OUT) {
            Some(why) => Err(why.as_str().unwrap_or_default().to_owned()),
            None => serde_json::from_value(Value::Object(object)).map_err(|error| without_values(&error.to_string())),
        };
        Ok(Self(DeserializeGuard(read.map_err(|error| InvalidObject { error, metadata }))))
    }
}

/// A Secret, as lists and watches return it.
#[derive(Clone, Debug, Default)]
pub struct WatchedSecret {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its data; `None` if the response does not contain it.
    pub data: Option<BTreeMap<String, ByteString>>,
}

impl<'de> Deserialize<'de> for WatchedSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = members(deserializer)?;
        let metadata = metadata(object.get("metadata"));
        let has_data =
            object.get("kind").is_none_or(|kind| kind != "PartialObjectMetadata") && !object.contains_key(LEFT_OUT);
        let data = has_data.then(|| object.remove("data").map_or(Ok(BTreeMap::new()), serde_json::from_value));
        Ok(Self { metadata, data: data.and_then(Result::ok) })
    }
}

/// A value that is not an object is treated as one without members.
fn members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Object(members) => members,
        _ => Map::new(),
    })
}

/// Parses each field separately, so that an invalid field is treated as absent.
fn metadata(value: Option<&Value>) -> ObjectMeta {
    fn part<T: DeserializeOwned>(value: Option<&Value>, name: &str) -> Option<T> {
        serde_json::from_value(value?.get(name)?.clone()).ok()
    }
    ObjectMeta {
        name: part(value, "name"),
        namespace: part(value, "namespace"),
        uid: part(value, "uid"),
        resource_version: part(value, "resourceVersion"),
        generation: part(value, "generation"),
        creation_timestamp: part(value, "creationTimestamp"),
        deletion_timestamp: part(value, "deletionTimestamp"),
        labels: part(value, "labels"),
        annotations: part(value, "annotations"),
        owner_references: part(value, "ownerReferences"),
        finalizers: part(value, "finalizers"),
        managed_fields: part(value, "managedFields"),
        ..ObjectMeta::default()
    }
}

/// Removes the unexpected values that serde quotes in its messages.
fn without_values(message: &str) -> String {
    let mut text = String::new();
    for (index, part) in message.split('"').enumerate() {
        text.push_str(if index % 2 == 0 { part } else { "…" });
    }
    for begin in ["unknown variant `", "unknown field `"] {
        if let Some((before, rest)) = text.split_once(begin) {
            let after = rest.split_once("`, ").map_or("", |(_, after)| after);
            text = format!("{before}{begin}…`, {after}");
        }
    }
    text.truncate(text.floor_char_boundary(512));
    text
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

impl Resource for WatchedSecret {
    type DynamicType = ();
    type Scope = <Secret as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Secret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Secret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Secret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Secret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
