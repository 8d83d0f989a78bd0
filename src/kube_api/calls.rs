//! Counts the calls to the API server.

use http::Request;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::kube_api::rules;

/// The code of a call without a response.
const NO_RESPONSE: &str = "none";

/// What is known about a call: its verb in the words of RBAC, its resource, and the status code of the response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiCallLabels {
    verb: &'static str,
    resource: String,
    code: String,
}

/// The number of calls. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct ApiCalls {
    calls: Family<ApiCallLabels, Counter>,
}

/// A call, which is counted when this is dropped, also if the caller does not wait for the response any more.
pub(crate) struct PendingCall {
    calls: ApiCalls,
    verb: &'static str,
    resource: String,
    code: Option<u16>,
}

impl ApiCalls {
    /// The counters.
    #[must_use]
    pub const fn family(&self) -> &Family<ApiCallLabels, Counter> {
        &self.calls
    }
}

impl PendingCall {
    /// A call that has no response yet.
    pub(crate) fn begin<B>(calls: &ApiCalls, request: &Request<B>) -> Self {
        let reading = rules::Reading::of(request);
        let verb = match (request.method().as_str(), reading.call) {
            ("GET", rules::Call::Watch) => "watch",
            ("GET", rules::Call::List) => "list",
            ("GET", rules::Call::Single) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            _ => "other",
        };
        Self { calls: calls.clone(), verb, resource: rules::resource_label(request.uri().path()), code: None }
    }

    /// Records the status code of its response.
    pub(crate) const fn complete(&mut self, code: u16) {
        self.code = Some(code);
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        let resource = std::mem::take(&mut self.resource);
        let code = self.code.map_or_else(|| NO_RESPONSE.to_owned(), |code| code.to_string());
        self.calls.calls.get_or_create(&ApiCallLabels { verb: self.verb, resource, code }).inc();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn calls_have_the_verbs_and_resources_of_rbac() {
        for (method, uri, expected) in [
            ("GET", "/api/v1/secrets?watch=true", "watch secrets"),
            ("GET", "/api/v1/namespaces/ns/secrets?limit=50", "list secrets"),
            ("PATCH", "/api/v1/namespaces/ns/secrets/it", "patch secrets"),
            ("GET", "/apis/oauth.evolutionx.io/v1alpha1/clusteroauthproviders/erp", "get clusteroauthproviders"),
            (
                "PATCH",
                "/apis/oauth.evolutionx.io/v1alpha1/namespaces/ns/oauthintegrations/it/status",
                "patch oauthintegrations/status",
            ),
            ("POST", "/api/v1/namespaces/ns/serviceaccounts/it/token", "create serviceaccounts/token"),
            ("POST", "/api/v1/namespaces/ns/serviceaccounts/serviceaccounts/token", "create serviceaccounts/token"),
            ("GET", "/version", "get other"),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
            let call = PendingCall::begin(&ApiCalls::default(), &request);
            assert_eq!(format!("{} {}", call.verb, call.resource), expected);
        }
    }

    #[test]
    fn a_call_that_is_abandoned_counts_as_one_without_a_response() {
        let (calls, request) = (ApiCalls::default(), Request::get("/api/v1/secrets").body(()).expect("a request"));
        drop(PendingCall::begin(&calls, &request));
        PendingCall::begin(&calls, &request).complete(200);
        for code in ["none", "200"] {
            let labels = ApiCallLabels { verb: "list", resource: "secrets".to_owned(), code: code.to_owned() };
            assert_eq!(calls.family().get_or_create(&labels).get(), 1, "{code}");
        }
    }
}
