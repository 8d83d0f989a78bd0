//! Guarantee: the operator works with five authorization servers of different origin. For each: its grants and client
//! authentication methods, ten renewals with refresh tokens that can be used once, revocation, and messages that say
//! what to change.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::World;

mod grants;
mod messages;
mod revocation;
mod rotation;

/// An integration, with the credentials that it gets in its own Secret.
struct Case {
    name: &'static str,
    credentials: BTreeMap<&'static str, String>,
    spec: Value,
}

/// An integration that requests a token with client credentials, unless `more` overrides fields of its spec.
fn case(name: &'static str, server: &Value, credentials: &[(&'static str, &str)], more: Value) -> Case {
    let mut spec = json!({"grantType": "client_credentials", "credentials": {"secretName": name}});
    for object in [server, &more] {
        let fields = object.as_object().expect("an object").clone();
        spec.as_object_mut().expect("an object").extend(fields);
    }
    let credentials = credentials.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    Case { name, credentials, spec }
}

/// Creates the Secret and the integration.
async fn create(world: &World, case: &Case) {
    let values: Vec<(&str, &str)> = case.credentials.iter().map(|(key, value)| (*key, value.as_str())).collect();
    world.secret(case.name, &values).await;
    let mut spec = case.spec.clone();
    spec["target"] = json!({"secretName": target(case.name)});
    world.integration(case.name, &spec).await;
}

/// The name of the Secret with the tokens of a case.
fn target(case: &str) -> String {
    format!("{case}-token")
}

/// The servers, as parts of a spec.
mod server {
    use serde_json::{Value, json};
    use test_support::World;
    use test_support::django::Django;
    use test_support::hydra::Hydra;
    use test_support::keycloak::Keycloak;
    use test_support::oidc_provider::OidcProvider;
    use test_support::zitadel::Zitadel;

    pub(super) fn keycloak() -> Value {
        json!({"issuer": Keycloak::shared().issuer(), "request": {"format": "form"}})
    }

    /// It has no metadata: its revocation endpoint must be configured.
    pub(super) fn django() -> Value {
        json!({"tokenEndpoint": Django::shared().token_endpoint(), "request": {"format": "json"}})
    }

    /// Its CA is in ConfigMap `ca`.
    pub(super) async fn oidc_provider(world: &World) -> Value {
        let provider = OidcProvider::shared();
        world.config_map("ca", "ca.crt", &provider.ca.pem).await;
        json!({
            "issuer": provider.issuer(), "request": {"format": "form"}, "connection": {"caBundle": {"name": "ca"}},
        })
    }

    pub(super) fn hydra() -> Value {
        json!({"issuer": Hydra::shared().issuer(), "request": {"format": "form"}})
    }

    pub(super) fn zitadel() -> Value {
        json!({"issuer": Zitadel::shared().issuer(), "request": {"format": "form"}})
    }
}
