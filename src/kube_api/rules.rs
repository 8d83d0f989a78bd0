//! Defines for each request which parts of the response are read; everything else is dropped before it is parsed.
//!
//! Bounds are in units of *cost*: a byte of JSON costs 1, and each value costs an additional [`NODE_COST`], which is
//! approximately the memory of the parsed value.

use http::{Method, Request};

use crate::api::names::CREDENTIALS_EXPIRE_AT;

/// The cost of a value in addition to its text.
pub const NODE_COST: usize = 100;
/// The maximum nesting depth, from the root of the response; well below the 128 levels of serde_json.
pub const MAX_DEPTH: usize = 40;

/// Maximum cost of a spec or a status; the bounds of the CRD are of the same order.
const MEMBER: usize = 256 << 10;
/// Maximum cost of one value of a Secret or ConfigMap in a response with a single object: a CA bundle of the maximum
/// size, in base64 in a Secret, or with escaped line breaks in a ConfigMap. A larger value makes the object
/// unreadable.
const DATA_VALUE: usize = 528 << 10;
const DATA: usize = 528 << 10;
/// The same in a list; a target Secret with more data is then read individually.
const LISTED_DATA: usize = 64 << 10;
/// Maximum cost of the finalizers, and of the owner references, of one object.
const REFERENCES: usize = 16 << 10;
/// Maximum cost of the finalizers if they are written back, because none of them may be lost.
const ALL_FINALIZERS: usize = 1 << 20;

/// Which annotations are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotations {
    /// None.
    None,
    /// Those of the operator's own API group.
    Own,
    /// A single one.
    Only(&'static str),
    /// All, within bounds.
    All,
}

/// Which parts of an object are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Annotations.
    pub annotations: Annotations,
    /// Labels.
    pub labels: bool,
    /// Owner references.
    pub owners: bool,
    /// Whether manager and operation of the operator's own managed fields are read; all other managed fields are
    /// dropped.
    pub managers: bool,
    /// Maximum cost of the finalizers.
    pub finalizers: usize,
    /// Maximum cost of any other member of the object, such as its spec.
    pub member: usize,
    /// The members of the object that are read; all of them if this is empty.
    pub members: &'static [&'static str],
    /// Maximum cost of one value of `data`.
    pub data_value: usize,
    /// Maximum cost of `data` in total.
    pub data: usize,
}

impl Rules {
    /// The default for other objects.
    pub const GENERAL: Self = Self {
        annotations: Annotations::All,
        labels: true,
        owners: true,
        managers: false,
        finalizers: REFERENCES,
        member: MEMBER,
        members: &[],
        data_value: DATA_VALUE,
        data: DATA,
    };
    const INTEGRATION: Self = Self { annotations: Annotations::Own, labels: false, owners: false, ..Self::GENERAL };
    const SECRET: Self = Self {
        managers: true,
        members: &["apiVersion", "kind", "metadata", "data", "type", "immutable"],
        ..Self::GENERAL
    };
    const LISTED_SECRET: Self = Self { data_value: LISTED_DATA, data: LISTED_DATA, ..Self::SECRET };
    const CONFIG_MAP: Self = Self { annotations: Annotations::None, labels: false, ..Self::SECRET };
    /// What says whether the pods of a workload are up to date.
    const WORKLOAD: Self = Self {
        annotations: Annotations::None,
        labels: false,
        owners: false,
        finalizers: 0,
        members: &["apiVersion", "kind", "metadata", "spec", "status"],
        ..Self::GENERAL
    };
    /// Names, versions, and the annotations of the operator.
    const WORKLOAD_IDENTITY: Self = Self { annotations: Annotations::Own, ..Self::IDENTITY };
    /// Names, versions and labels.
    const NAMESPACE: Self = Self { annotations: Annotations::None, labels: true, ..Self::IDENTITY };
    /// Names, versions, and the annotation that is used without reading the Secret.
    const IDENTITY: Self = Self {
        annotations: Annotations::Only(CREDENTIALS_EXPIRE_AT),
        labels: false,
        owners: false,
        managers: false,
        finalizers: 0,
        members: &["apiVersion", "kind", "metadata"],
        ..Self::GENERAL
    };
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A single object, or none.
    Single,
    /// A page of objects.
    List,
    /// Changes, one document after another.
    Watch,
}

/// The kind of a request, and which parts of its response are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The kind of the request.
    pub call: Call,
    /// Which parts of each object are read.
    pub rules: Rules,
    /// Whether a partial object is an error: a missing key would otherwise be mistaken for a change of the Secret.
    pub whole: bool,
    /// Whether the request is changed to request only metadata: watch events of Secrets contain no data, see
    /// `watches`.
    pub metadata_only: bool,
}

impl Reading {
    /// Determines the reading of a request.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let (resource, named) = resource(request.uri().path());
        let has = |part: &str| request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == part));
        let call = match (request.method(), named) {
            (&Method::GET, false) if has("watch=true") || has("watch=1") => Call::Watch,
            (&Method::GET, false) => Call::List,
            _ => Call::Single,
        };
        let accept = request.headers().get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let metadata = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        let rules = match (resource, call) {
            ("secrets" | "configmaps" | "serviceaccounts", Call::List | Call::Watch) if metadata => Rules::IDENTITY,
            ("secrets", Call::List | Call::Watch) => Rules::LISTED_SECRET,
            ("secrets", Call::Single) => Rules::SECRET,
            ("configmaps", _) => Rules::CONFIG_MAP,
            ("oauthintegrations", Call::Single) => Rules { finalizers: ALL_FINALIZERS, ..Rules::INTEGRATION },
            ("oauthintegrations" | "oauthproviders" | "clusteroauthproviders", _) => Rules::INTEGRATION,
            ("namespaces", _) if metadata => Rules::NAMESPACE,
            ("deployments" | "statefulsets" | "daemonsets", _) if metadata => Rules::WORKLOAD_IDENTITY,
            ("deployments" | "statefulsets" | "daemonsets", _) => Rules::WORKLOAD,
            _ => Rules::GENERAL,
        };
        let whole = request.method() == Method::GET
            && call == Call::Single
            && !metadata
            && matches!(resource, "secrets" | "configmaps");
        Self { call, rules, whole, metadata_only: resource == "secrets" && call == Call::Watch && !metadata }
    }
}

/// The resource in a path of the API with its subresource, in the words of RBAC.
pub(crate) fn resource_label(path: &str) -> String {
    match segments(path).as_slice() {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => "other".to_owned(),
    }
}

/// The resource in a path of the API, and whether the path names one object.
fn resource(path: &str) -> (&str, bool) {
    match segments(path).as_slice() {
        [] => ("", true),
        [resource] => (resource, false),
        [resource, ..] => (resource, true),
    }
}

/// The parts of a path of the API from the resource on; none for other paths.
fn segments(path: &str) -> Vec<&str> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let version = match segments.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => return Vec::new(),
    };
    let segments: Vec<&str> = segments.skip(version).collect();
    match segments.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        _ => segments,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    fn reading(uri: &str, accept: &str) -> Reading {
        Reading::of(&Request::get(uri).header("accept", accept).body(()).expect("a request"))
    }

    #[test]
    fn the_request_determines_the_parts_that_are_read() {
        const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        const JSON: &str = "application/json";
        let integrations = "/apis/oauth.evolutionx.io/v1alpha1/namespaces/ns/oauthintegrations";
        for (uri, accept, call, rules, metadata_only) in [
            ("/api/v1/secrets?limit=50", METADATA_LIST, Call::List, Rules::IDENTITY, false),
            ("/api/v1/secrets?watch=true", METADATA, Call::Watch, Rules::IDENTITY, false),
            ("/api/v1/secrets?labelSelector=a&watch=true", JSON, Call::Watch, Rules::LISTED_SECRET, true),
            ("/api/v1/namespaces/ns/secrets?limit=50", JSON, Call::List, Rules::LISTED_SECRET, false),
            ("/api/v1/namespaces/ns/secrets/it", JSON, Call::Single, Rules::SECRET, false),
            ("/api/v1/namespaces/ns/configmaps/it", JSON, Call::Single, Rules::CONFIG_MAP, false),
            ("/api/v1/configmaps?watch=true", METADATA, Call::Watch, Rules::IDENTITY, false),
            ("/api/v1/namespaces/ns/serviceaccounts?limit=50", METADATA_LIST, Call::List, Rules::IDENTITY, false),
            (&format!("{integrations}?watch=true"), JSON, Call::Watch, Rules::INTEGRATION, false),
            ("/apis/apps/v1/deployments?watch=true", METADATA, Call::Watch, Rules::WORKLOAD_IDENTITY, false),
            ("/apis/apps/v1/namespaces/ns/daemonsets/it", METADATA, Call::Single, Rules::WORKLOAD_IDENTITY, false),
            ("/apis/apps/v1/namespaces/ns/statefulsets/it", JSON, Call::Single, Rules::WORKLOAD, false),
            ("/api/v1/namespaces?watch=true", METADATA, Call::Watch, Rules::NAMESPACE, false),
            ("/apis/oauth.evolutionx.io/v1alpha1/clusteroauthproviders", JSON, Call::List, Rules::INTEGRATION, false),
            ("/api", JSON, Call::Single, Rules::GENERAL, false),
            ("/api/v1/namespaces/secrets", JSON, Call::Single, Rules::GENERAL, false),
        ] {
            let whole = uri.ends_with("secrets/it") || uri.ends_with("configmaps/it");
            assert_eq!(reading(uri, accept), Reading { call, rules, whole, metadata_only }, "{uri}");
        }
        let single = reading(&format!("{integrations}/it"), JSON);
        assert_eq!((single.call, single.rules.finalizers), (Call::Single, ALL_FINALIZERS));
    }
}
