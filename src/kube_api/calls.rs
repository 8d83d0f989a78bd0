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

/// A call that has not been counted yet.
pub(crate) struct PendingCall {
    verb: &'static str,
    resource: String,
}

impl ApiCalls {
    /// The counters.
    #[must_use]
    pub const fn family(&self) -> &Family<ApiCallLabels, Counter> {
        &self.calls
    }

    /// Counts a call; without a `code`, there was no response.
    pub(crate) fn count(&self, PendingCall { verb, resource }: PendingCall, code: Option<u16>) {
        let code = code.map_or_else(|| NO_RESPONSE.to_owned(), |code| code.to_string());
        self.calls.get_or_create(&ApiCallLabels { verb, resource, code }).inc();
    }
}

impl PendingCall {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
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
        Self { verb, resource: rules::resource_label(request.uri().path()) }
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
            ("GET", "/version", "get other"),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
            let PendingCall { verb, resource } = PendingCall::of(&request);
            assert_eq!(format!("{verb} {resource}"), expected);
        }
    }
}
