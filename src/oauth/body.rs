//! The body of a token request, as data.

#![deny(clippy::disallowed_methods)]

use secrecy::{ExposeSecret, SecretString};

use super::{Ask, Credentials};
use crate::api::{Format, GrantType};

/// One member of the body: its name and its value.
pub type Member = (String, SecretString);

/// The members that are sent, in the order of the design: those of the grant, resource, scope, then what
/// `request.parameters` adds. A member is there only when it has a value.
#[must_use]
pub fn members(ask: &Ask, credentials: &Credentials) -> Vec<Member> {
    let Credentials { client_id, client_secret, username, password, refresh_token } = credentials;
    let grant_type = SecretString::from(ask.grant.as_str());
    let own: Vec<(&str, Option<&SecretString>)> = match ask.grant {
        GrantType::ClientCredentials => vec![
            ("grant_type", Some(&grant_type)),
            ("client_id", client_id.as_ref()),
            ("client_secret", client_secret.as_ref()),
        ],
        GrantType::UserPassword => {
            vec![("username", username.as_ref()), ("password", password.as_ref())]
        }
        GrantType::RefreshToken => vec![
            ("grant_type", Some(&grant_type)),
            ("client_id", client_id.as_ref()),
            ("client_secret", client_secret.as_ref()),
            ("refresh_token", refresh_token.as_ref()),
        ],
    };
    let mut members: Vec<Member> =
        own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone()))).collect();
    if let Some((key, value)) = &ask.resource {
        members.push((key.clone(), value.as_str().into()));
    }
    if let Some(scope) = &ask.scope {
        members.push(("scope".to_owned(), scope.as_str().into()));
    }
    for (name, value) in &ask.parameters {
        members.retain(|(known, _)| known != name);
        members.push((name.clone(), value.as_str().into()));
    }
    members.retain(|(_, value)| !value.expose_secret().is_empty());
    members
}

/// The bytes that are sent.
#[must_use]
pub fn encode(format: Format, members: &[Member]) -> String {
    match format {
        Format::Json => {
            let object: serde_json::Map<String, serde_json::Value> =
                members.iter().map(|(name, value)| (name.clone(), value.expose_secret().into())).collect();
            serde_json::Value::Object(object).to_string()
        }
        Format::Form => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in members {
                form.append_pair(name, value.expose_secret());
            }
            form.finish()
        }
    }
}

/// The media type of the body.
#[must_use]
pub const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Form => "application/x-www-form-urlencoded",
    }
}
