//! The keys that the API server requires in a Secret of a certain type. Pure.

#![deny(clippy::disallowed_methods)]

/// The keys whose values must be JSON, by type.
const JSON_KEYS: [(&str, &str); 2] =
    [("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")];
/// The type of which one key is enough.
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";

/// The required keys of a type, and the values that the API server accepts while there are no others: a Secret must be
/// written even if it only has a refresh token.
pub(crate) fn required_keys(type_: &str) -> &'static [(&'static str, &'static str)] {
    match type_ {
        "kubernetes.io/dockerconfigjson" => &[(".dockerconfigjson", "{}")],
        "kubernetes.io/dockercfg" => &[(".dockercfg", "{}")],
        "kubernetes.io/tls" => &[("tls.crt", ""), ("tls.key", "")],
        BASIC_AUTH => &[("password", ""), ("username", "")],
        // An empty value is rejected.
        "kubernetes.io/ssh-auth" => &[("ssh-privatekey", "\n")],
        _ => &[],
    }
}

/// The keys of a type that must have a value. For `kubernetes.io/basic-auth`, one of two is enough.
pub(crate) fn keys_with_a_value(type_: &str) -> impl Iterator<Item = &'static str> {
    let required = if type_ == BASIC_AUTH { &[] } else { required_keys(type_) };
    required.iter().map(|(key, _)| *key)
}

/// The key whose value must be JSON, if the type has one.
pub(crate) fn json_key(type_: &str) -> Option<&'static str> {
    JSON_KEYS.iter().find(|(known, _)| *known == type_).map(|(_, key)| *key)
}

/// Checks that a spec has a value for each required key.
///
/// # Errors
///
/// A message that names the missing key.
pub(crate) fn check_required_keys(type_: &str, has: impl Fn(&str) -> bool) -> Result<(), String> {
    let required = required_keys(type_);
    let missing = required.iter().find(|(key, _)| !has(key));
    match missing {
        Some(_) if type_ == BASIC_AUTH && required.iter().any(|(key, _)| has(key)) => Ok(()),
        Some((key, _)) => Err(format!(
            "spec.target.type {type_} requires the key {key}: add it to spec.target.data, or use it in spec.target.keys"
        )),
        None => Ok(()),
    }
}
