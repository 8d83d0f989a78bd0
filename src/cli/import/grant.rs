//! Translates parameters into a grant, its credentials and other fields of a spec.

use serde_json::{Map, Value, json};

use crate::cli::import::request::{Member, Members, Request, is_secret};

const USERNAMES: [&str; 6] = ["username", "user", "email", "login", "user_name", "userName"];
const PASSWORDS: [&str; 4] = ["password", "pass", "passwd", "pwd"];

impl Request {
    /// The fields of the spec for parameters.
    pub(crate) fn members(&mut self, mut members: Members) {
        for (name, member) in &mut members {
            if is_secret(name) && is_credential(member) {
                self.note(&format!(
                    "the generator contains {name} in plain text: store it in Secret {} under the key {name}",
                    self.secret
                ));
                *member = Member::Secret(name.clone());
                self.uses_secret = true;
            }
        }
        let grant = match take(&mut members, |name, member| name == "grant_type" && text(member).is_some()) {
            Some((_, member)) => text(&member),
            None => None,
        };
        let is_key = |names: &[&str]| {
            members.iter().any(|(name, member)| names.contains(&name.as_str()) && key_of(member).is_some())
        };
        let (has_username, has_password) = (is_key(&USERNAMES), is_key(&PASSWORDS));
        let has = |name: &str| members.iter().any(|(other, member)| other == name && key_of(member).is_some());
        let mut sends_client = true;
        let grant_type = match grant.as_deref() {
            Some("client_credentials") => "client_credentials",
            Some("password") if has("username") && has("password") => "password",
            Some("refresh_token") if has("refresh_token") => {
                self.note("the server may replace the refresh token with each use, and the generator could not store it: obtain a new one before you change over, unless you know that it does not");
                "refresh_token"
            }
            None if has_username && has_password && self.basic.is_none() => {
                sends_client = false;
                "user_password"
            }
            other => {
                let value = other.unwrap_or_default().to_owned();
                members.push(("grant_type".to_owned(), Member::Literal(json!(value))));
                if self.basic.is_none() && !members.iter().any(|(name, _)| name == "client_id") {
                    members.push(("client_id".to_owned(), Member::Literal(json!(""))));
                }
                sends_client = self.basic.is_some();
                if !sends_client {
                    self.spec.insert("clientAuthentication".to_owned(), json!({"method": "none"}));
                }
                "client_credentials"
            }
        };
        self.spec.insert("grantType".to_owned(), json!(grant_type));
        match grant_type {
            "password" | "user_password" => self.user(&mut members),
            "refresh_token" => self.credential(&mut members, "refresh_token", "refreshToken", &["refresh_token"]),
            _ => {}
        }
        if sends_client {
            self.client(&mut members);
        }
        if sends_client {
            self.scope_and_resource(&mut members);
        }
        self.others(members);
    }

    fn user(&mut self, members: &mut Members) {
        self.credential(members, "username", "username", &USERNAMES);
        self.credential(members, "password", "password", &PASSWORDS);
    }

    /// A credential of the grant, under one of these names.
    fn credential(&mut self, members: &mut Members, standard: &str, field: &str, names: &[&str]) {
        let found = take(members, |name, member| names.contains(&name) && key_of(member).is_some());
        if let Some((name, Member::Secret(key))) = found {
            self.set_key(field, standard, &key);
            if name != standard {
                let renamed = self.fields.entry("parameterNames").or_insert_with(|| json!({}));
                renamed[standard] = json!(name);
            }
        }
    }

    fn client(&mut self, members: &mut Members) {
        if let Some((id, secret)) = self.basic.clone() {
            self.spec.insert(
                "clientAuthentication".to_owned(),
                json!({"method": "client_secret_basic", "basicEncoding": "raw"}),
            );
            self.set_key("clientId", "client_id", &id);
            self.set_key("clientSecret", "client_secret", &secret);
            return;
        }
        let has_secret = members.iter().any(|(name, member)| name == "client_secret" && key_of(member).is_some());
        let is_id =
            |name: &str, member: &Member| name == "client_id" && (key_of(member).is_some() || text(member).is_some());
        let id = take(members, is_id);
        if has_secret && id.is_some() {
            self.credential(members, "client_secret", "clientSecret", &["client_secret"]);
        } else {
            self.spec.insert("clientAuthentication".to_owned(), json!({"method": "none"}));
        }
        match id {
            Some((_, Member::Secret(key))) => self.set_key("clientId", "client_id", &key),
            Some((_, Member::Literal(id))) => drop(self.spec.insert("clientId".to_owned(), id)),
            None => {}
        }
    }

    fn scope_and_resource(&mut self, members: &mut Members) {
        if let Some((_, member)) = take(members, |name, member| name == "scope" && text(member).is_some()) {
            self.spec.insert("scope".to_owned(), json!(text(&member)));
        }
        let is_resource =
            |name: &str, member: &Member| ["resource", "audience"].contains(&name) && text(member).is_some();
        if let Some((name, member)) = take(members, is_resource) {
            self.spec.insert("resource".to_owned(), json!({"key": name, "value": text(&member)}));
        }
    }

    fn others(&mut self, members: Members) {
        let (mut literal, mut secret) = (Map::new(), Map::new());
        for (name, member) in members {
            match member {
                Member::Literal(value) => drop(literal.insert(name, value)),
                Member::Secret(key) => drop(secret.insert(name, json!({"key": key}))),
            }
        }
        for (field, parameters) in [("parameters", literal), ("parametersFrom", secret)] {
            if !parameters.is_empty() {
                self.fields.insert(field.to_owned(), json!(parameters));
            }
        }
    }
}

/// Whether a literal under the name of a credential can be one.
fn is_credential(member: &Member) -> bool {
    matches!(member, Member::Literal(Value::String(text)) if !text.is_empty())
        || matches!(member, Member::Literal(Value::Number(_)))
}

fn take(members: &mut Members, is_wanted: impl Fn(&str, &Member) -> bool) -> Option<(String, Member)> {
    let position = members.iter().position(|(name, member)| is_wanted(name, member))?;
    Some(members.remove(position))
}

fn key_of(member: &Member) -> Option<&str> {
    match member {
        Member::Secret(key) => Some(key),
        Member::Literal(_) => None,
    }
}

fn text(member: &Member) -> Option<String> {
    match member {
        Member::Literal(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}
