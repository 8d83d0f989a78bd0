//! Hashes the fields of a spec that determine which token is issued.

use serde_json::{Map, Value, json};

use crate::api::request::Request;
use crate::api::spec::OAuthIntegrationSpec;
use crate::api::target::Target;
use crate::fingerprint;
use crate::spec::requests;

/// Hashes the fields that the token depends on. Times and metadata are excluded. The keys of the target are included,
/// since no value is stored under a new key yet. Optional fields that are not set are not hashed, so that a new API
/// field does not change existing hashes.
///
/// Every field is listed here, so that the code does not compile after a field is added until someone decides whether
/// it changes the token.
pub(crate) fn spec_hash(spec: &OAuthIntegrationSpec) -> String {
    let OAuthIntegrationSpec {
        token_endpoint,
        issuer,
        protected_resource,
        grant_type,
        client_id,
        client_authentication,
        assertion,
        token_exchange,
        service_account_token,
        dpop,
        token_lifetime,
        resource,
        scope,
        request:
            Request {
                format: _,
                content_type,
                query,
                parameters,
                parameters_from,
                parameter_names,
                scope_format,
                headers,
                headers_from,
                timeout: _,
            },
        response,
        target: Target { keys, secret_name: _, type_: _, deletion_policy: _, labels: _, annotations: _ },
        // Of the connection, only the client certificate: a token may be bound to it.
        connection,
        // These fields change when and how a token is requested and what is done with it, but not which one is issued.
        renew_before: _,
        credentials: _,
        renewal: _,
        revocation: _,
        suspend: _,
    } = spec;
    let mut parts = json!({
        "tokenEndpoint": token_endpoint,
        "grantType": grant_type,
        "tokenLife": token_lifetime,
        "resource": resource,
        "scope": scope,
        // An explicit default is no change.
        "format": requests::format(spec),
        "parameters": parameters,
        "headers": headers,
        "response": response,
        "targetKeys": keys,
    });
    let given = json!({
        "issuer": issuer,
        "protectedResource": protected_resource,
        "clientId": client_id,
        "clientAuthentication": client_authentication,
        "assertion": assertion,
        "tokenExchange": token_exchange,
        "serviceAccountToken": service_account_token,
        "dpop": dpop,
        "parameterNames": (!parameter_names.is_empty()).then_some(parameter_names),
        "scopeFormat": scope_format,
        "contentType": content_type,
        "query": (!query.is_empty()).then_some(query),
        "parametersFrom": (!parameters_from.is_empty()).then_some(parameters_from),
        "clientCertificate": connection.as_ref().is_some_and(|one| one.client_certificate).then_some(true),
        "headersFrom": (!headers_from.is_empty()).then_some(headers_from),
    });
    let (Value::Object(all), Value::Object(given)) = (&mut parts, given) else { return fingerprint::unsalted(&parts) };
    all.extend(given.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>());
    fingerprint::unsalted(&parts)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn hash(change: &Value) -> String {
        let mut spec = json!({
            "tokenEndpoint": "https://login.example.com/token",
            "grantType": "client_credentials",
            "credentials": {"secretName": "credentials"},
        });
        merge(&mut spec, change);
        spec_hash(&serde_json::from_value(spec).expect("a spec"))
    }

    fn merge(into: &mut Value, change: &Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (key, value) in change {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (into, change) => into.clone_from(change),
        }
    }

    #[test]
    fn only_fields_that_affect_the_token_are_hashed() {
        let plain = hash(&json!({}));
        let hashed = [
            json!({"tokenEndpoint": "https://login.example.com/other"}),
            json!({"issuer": "https://login.example.com"}),
            json!({"protectedResource": "https://mcp.example.com/mcp"}),
            json!({"grantType": "user_password"}),
            json!({"clientId": "client"}),
            json!({"clientAuthentication": {"method": "client_secret_basic"}}),
            json!({"assertion": {"issuer": "me"}}),
            json!({"dpop": {}}),
            json!({"tokenLife": "90s"}),
            json!({"resource": {"key": "resource", "value": "orders"}}),
            json!({"scope": "orders"}),
            json!({"request": {"format": "form"}}),
            json!({"request": {"parameters": {"tenant": "one"}}}),
            json!({"request": {"parameterNames": {"client_id": "id"}}}),
            json!({"request": {"scopeFormat": "list"}}),
            json!({"request": {"headers": {"X-Tenant": "one"}}}),
            json!({"request": {"headersFrom": {"X-Api-Key": {"key": "api_key"}}}}),
            json!({"request": {"parametersFrom": {"account": {"key": "account"}}}}),
            json!({"connection": {"clientCertificate": true}}),
            json!({"request": {"contentType": "application/json; charset=UTF-8"}}),
            json!({"request": {"query": {"api-version": "2"}}}),
            json!({"response": {"accessToken": "token"}}),
            json!({"target": {"keys": {"accessToken": "token"}}}),
        ];
        let not_hashed = [
            json!({"renewBefore": "30s"}),
            json!({"credentials": {"secretName": "others"}}),
            json!({"connection": {"proxy": "http://proxy.example.com:3128"}}),
            json!({"renewal": {"strategy": "grant"}}),
            json!({"revocation": {"onDeletion": true}}),
            json!({"suspend": true}),
            json!({"request": {"timeout": "20s"}}),
            json!({"request": {"format": "json"}}),
            json!({"resource": null}),
            json!({"target": {"secretName": "tokens", "labels": {"team": "one"}, "annotations": {"team": "one"}}}),
        ];
        for change in &hashed {
            assert_ne!(hash(change), plain, "{change}");
        }
        for change in &not_hashed {
            assert_eq!(hash(change), plain, "{change}");
        }
    }

    #[test]
    fn a_protected_resource_changes_the_default_format() {
        let of = |format: &Value| hash(&json!({"protectedResource": "https://mcp.example.com", "request": format}));
        assert_eq!(of(&json!({})), of(&json!({"format": "form"})));
        assert_ne!(of(&json!({})), of(&json!({"format": "json"})));
    }

    #[test]
    fn defaults_have_the_same_hash_as_the_values_they_stand_for() {
        let with = |change: Value| {
            let mut spec = json!({"issuer": "https://login.example.com", "resource": {"value": "orders"}});
            merge(&mut spec, &change);
            hash(&spec)
        };
        let plain = with(json!({}));
        assert_eq!(with(json!({"request": {"format": "form"}})), plain, "the default with an issuer");
        assert_eq!(with(json!({"resource": {"key": "resource"}})), plain);
        assert_ne!(with(json!({"request": {"format": "json"}})), plain);
        assert_ne!(with(json!({"resource": {"key": "audience"}})), plain);
    }
}
