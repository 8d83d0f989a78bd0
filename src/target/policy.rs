//! Restrictions on target Secrets: type, labels and annotations, and name. Pure.
//!
//! These are allow-lists, because many controllers act on Secrets of a certain type or with a certain label, and it
//! is impossible to know all of them. A user who may write an integration is not necessarily allowed to create such a
//! Secret. The chart's admission policy checks this in the API server; the check here also applies if the policy is
//! not installed, or if an actor with full permissions (such as a GitOps controller) writes the integrations of
//! others.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::target::annotations::{MANAGED_BY, OWN_PREFIX};
use crate::target::template::SecretTemplate;

/// Types that are always allowed: they contain credentials for workloads, and controllers do not act on them because
/// of their type alone.
pub const TYPES: [&str; 5] = [
    "Opaque",
    "kubernetes.io/basic-auth",
    "kubernetes.io/tls",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/ssh-auth",
];
/// Keys of labels and annotations that are always allowed: they are only descriptive. `app.kubernetes.io/instance`
/// and `app.kubernetes.io/part-of` are not among them: Argo CD identifies its resources by them.
pub const METADATA: [&str; 3] = ["app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/version"];
/// Types that even an administrator cannot allow: they grant permissions in the cluster, or contain Helm releases.
const FORBIDDEN_TYPES: [&str; 3] =
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"];
/// Prefixes of the names by which Helm and the bootstrap token authenticator find their Secrets.
const RESERVED_NAMES: [&str; 2] = ["sh.helm.release.v1.", "bootstrap-token-"];

/// The allowed target Secrets, including what the administrator has added (`--allow-target-type`,
/// `--allow-target-metadata`).
#[derive(Clone, Debug)]
pub struct TargetPolicy {
    types: BTreeSet<String>,
    metadata: Vec<MetadataPattern>,
}

impl Default for TargetPolicy {
    fn default() -> Self {
        Self::new([], [])
    }
}

impl TargetPolicy {
    /// The defaults with additional types and additional keys of labels and annotations.
    #[must_use]
    pub fn new(types: impl IntoIterator<Item = String>, metadata: impl IntoIterator<Item = MetadataPattern>) -> Self {
        let always = METADATA.map(|key| MetadataPattern { text: key.to_owned(), is_prefix: false });
        Self {
            types: TYPES.map(ToOwned::to_owned).into_iter().chain(types).collect(),
            metadata: always.into_iter().chain(metadata).collect(),
        }
    }

    /// Checks the target of a spec.
    ///
    /// # Errors
    ///
    /// A message that names the field to change, and the flag with which an administrator can allow the value.
    pub fn check(&self, template: &SecretTemplate) -> Result<(), String> {
        let SecretTemplate {
            secret_name,
            refresh_token_secret,
            type_,
            labels,
            annotations,
            keys: _,
            data: _,
            retained: _,
            hash: _,
        } = template;
        let names = [(Some(secret_name), "secretName"), (refresh_token_secret.as_ref(), "refreshTokenSecretName")];
        for (name, field) in names.into_iter().filter_map(|(name, field)| Some((name?, field))) {
            if let Some(reserved) = RESERVED_NAMES.iter().find(|reserved| name.starts_with(**reserved)) {
                return Err(format!(
                    "Secret {name} cannot be a target: names that begin with {reserved} are reserved for Helm and Kubernetes: change spec.target.{field}"
                ));
            }
        }
        if !self.types.contains(type_) {
            let allowed = self.types.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "spec.target.type {type_} is not allowed: use one of {allowed}, or ask an administrator to add it with --allow-target-type (chart: targets.allowTypes)"
            ));
        }
        for (field, keys) in [("labels", labels.keys()), ("annotations", annotations.keys())] {
            if let Some(key) = keys.into_iter().find(|key| !self.metadata.iter().any(|pattern| pattern.matches(key))) {
                let allowed = self.metadata.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(format!(
                    "spec.target.{field} must not set {key}: the allowed keys are {allowed}; remove it, or ask an administrator to add it with --allow-target-metadata (chart: targets.allowMetadata)"
                ));
            }
        }
        Ok(())
    }
}

/// An allowed key of labels and annotations, such as `team`, or all keys with a prefix, such as `example.com/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPattern {
    /// The key, or its prefix up to and including the slash.
    text: String,
    is_prefix: bool,
}

impl MetadataPattern {
    /// Whether a key matches.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        let Self { text, is_prefix } = self;
        if *is_prefix { key.strip_prefix(text.as_str()).is_some_and(|name| !name.is_empty()) } else { key == text }
    }
}

impl FromStr for MetadataPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, is_prefix) = match text.strip_suffix("/*") {
            Some(prefix) => (format!("{prefix}/"), true),
            None => (text.to_owned(), false),
        };
        let (prefix, name) = text.rsplit_once('/').map_or(("", text.as_str()), |(prefix, name)| (prefix, name));
        let is_part = |part: &str| {
            part.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(sign))
                && part.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        if !(prefix.is_empty() && !text.starts_with('/') || is_part(prefix)) || !(is_prefix || is_part(name)) {
            return Err("write the key of a label, such as team or example.com/team, or all keys with a prefix, such as example.com/*".to_owned());
        }
        if text.starts_with(OWN_PREFIX) || text == MANAGED_BY {
            return Err(format!("{text} is reserved for the operator"));
        }
        Ok(Self { text, is_prefix })
    }
}

impl std::fmt::Display for MetadataPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

/// Parses a type that an administrator allows.
///
/// # Errors
///
/// If the type can never be allowed.
pub fn parse_type(text: &str) -> Result<String, String> {
    if FORBIDDEN_TYPES.contains(&text) {
        return Err("Secrets of this type grant permissions in the cluster".to_owned());
    }
    let is_type = (1..=253).contains(&text.len()) && text.chars().all(|sign| sign.is_ascii_graphic());
    is_type.then(|| text.to_owned()).ok_or_else(|| "write the type of a Secret, such as example.com/token".to_owned())
}
