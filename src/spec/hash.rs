//! Hashes the fields of a spec that determine which token is issued.

use serde_json::{Map, Value, json};

use crate::api::request::{Method, Request};
use crate::api::shared_spec::SharedSpec;
use crate::api::spec::OAuthIntegrationSpec;
use crate::api::target::Target;
use crate::fingerprint;
use crate::spec::requests;

/// The order in which the fields of a client assertion were hashed before it shared a type with the other assertion. The
/// order of members is part of a hash.
const CLIENT_ASSERTION: [&str; 10] = [
    "audience",
    "algorithm",
    "keyId",
    "type",
    "issuer",
    "subject",
    "claims",
    "certificateThumbprint",
    "lifetime",
    "issuedAtSkew",
];
/// The same for the assertion of a grant.
const ASSERTION: [&str; 10] =
    ["issuer", "subject", "audience", "claims", "place", "algorithm", "keyId", "lifetime", "type", "issuedAtSkew"];

/// Hashes the fields that the token depends on. Times and metadata are excluded. The keys of the target are included,
/// since no value is stored under a new key yet. Optional fields that are not set are not hashed, so that a new API
/// field does not change existing hashes.
///
/// Every field is listed here, so that the code does not compile after a field is added until someone decides whether
/// it changes the token.
pub(crate) fn spec_hash(spec: &OAuthIntegrationSpec) -> String {
    let OAuthIntegrationSpec {
        grant_type,
        token_exchange,
        // Its fields are in `shared`.
        provider_ref: _,
        // What `data` needs of the response is compared with what is stored.
        target:
            Target {
                keys,
                data: _,
                secret_name: _,
                refresh_token_secret_name: _,
                type_: _,
                deletion_policy: _,
                labels: _,
                annotations: _,
            },
        suspend: _,
        shared:
            SharedSpec {
                token_endpoint,
                issuer,
                protected_resource,
                client_id,
                client_authentication,
                assertion,
                service_account_token,
                dpop,
                token_lifetime,
                resource,
                scope,
                request,
                response,
                // Of the connection, only the client certificate: a token may be bound to it.
                connection,
                // These fields change when and how a token is requested and what is done with it, but not which one is
                // issued.
                renew_before: _,
                credentials: _,
                renewal: _,
                revocation: _,
            },
    } = spec;
    let Request {
        method,
        // It only allows what `method` does.
        secrets_in_query: _,
        format: _,
        body,
        content_type,
        query,
        parameters,
        parameters_from,
        parameter_names,
        scope_format,
        headers,
        headers_from,
        timeout: _,
    } = &**request;
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
    let mut given = json!({
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
        "method": method.filter(|method| *method != Method::default()),
        "body": body,
        "contentType": content_type,
        "query": (!query.is_empty()).then_some(query),
        "parametersFrom": (!parameters_from.is_empty()).then_some(parameters_from),
        "clientCertificate": connection.as_ref().is_some_and(|one| one.client_certificate).then_some(true),
        "headersFrom": (!headers_from.is_empty()).then_some(headers_from),
    });
    for (pointer, order) in [("/clientAuthentication/assertion", &CLIENT_ASSERTION), ("/assertion", &ASSERTION)] {
        given.pointer_mut(pointer).into_iter().for_each(|assertion| put_in_order(assertion, order));
    }
    let (Value::Object(all), Value::Object(given)) = (&mut parts, given) else { return fingerprint::unsalted(&parts) };
    all.extend(given.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>());
    fingerprint::unsalted(&parts)
}

/// Puts the members of an object into an order; others follow by name.
fn put_in_order(value: &mut Value, order: &[&str]) {
    let Value::Object(members) = value else { return };
    let position = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
    let mut sorted: Vec<(String, Value)> = std::mem::take(members).into_iter().collect();
    sorted.sort_by(|(one, _), (other, _)| (position(one), one).cmp(&(position(other), other)));
    members.extend(sorted);
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
            json!({"assertion": {"notBefore": true}}),
            json!({"assertion": {"certificateChain": true}}),
            json!({"clientAuthentication": {"assertion": {"certificateThumbprintSha1": true}}}),
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
            json!({"request": {"method": "GET"}}),
            json!({"request": {"body": "$members"}}),
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
            json!({"request": {"method": "POST"}}),
            json!({"request": {"secretsInQuery": true}}),
            json!({"resource": null}),
            json!({"credentials": {"keys": {"privateKeyPassphrase": "password"}}}),
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

    #[test]
    fn assertions_keep_the_hashes_of_earlier_versions() {
        let all = json!({
            "issuer": "https://app.example.com", "subject": "user@example.com", "audience": "https://login.example.com",
            "claims": {"scope": ["a"]}, "algorithm": "PS256", "keyId": "key-2026", "type": "at+jwt", "lifetime": "5m",
            "issuedAtSkew": "60s",
        });
        let mut of_client = all.clone();
        merge(&mut of_client, &json!({"certificateThumbprint": true}));
        let mut of_grant = all;
        merge(&mut of_grant, &json!({"place": "AuthorizationHeader"}));
        let cases = [
            (json!({"clientAuthentication": {"method": "private_key_jwt"}}), "cb2aa4cdbfd614ce1365f5e8766f95b7"),
            (
                json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": {}}}),
                "bea8d0b65986b59f14c533174f47c108",
            ),
            (
                json!({"clientAuthentication": {"method": "private_key_jwt", "assertion": of_client}}),
                "eb76a1b6c25111930229dee978d1d698",
            ),
            (json!({"grantType": "jwt_bearer", "assertion": {}}), "6071a125c71f9ade5c512d4d4b9e9dfd"),
            (
                json!({"grantType": "jwt_bearer", "assertion": {"issuer": "me", "place": "Body"}}),
                "83dd06dd09240b0a24e591192311057c",
            ),
            (json!({"grantType": "jwt_bearer", "assertion": of_grant}), "61921e136426bdd7243b3db325fa2dcb"),
        ];
        for (change, expected) in cases {
            assert_eq!(hash(&change), expected, "{change}");
        }
    }
}
