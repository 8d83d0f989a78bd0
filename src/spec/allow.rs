//! Who may request what from a cluster-scoped provider: `spec.allow`. Pure.
//!
//! The rules are additive, as in RBAC. What an integration requests is taken apart into its grants, scopes, resources and
//! subjects; each combination must be allowed by one rule. A rule that allows a scope for one resource thus does not
//! allow it for another one.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Selector, SelectorExt};

use crate::api::grant::GrantType;
use crate::api::provider::{AllowRule, ProviderRef};
use crate::api::renewal::RenewalStrategy;
use crate::api::shared_spec::SharedSpec;
use crate::api::spec::OAuthIntegrationSpec;

/// The maximum number of names in the scope of a request: the check compares each of them with each rule.
const MAX_SCOPES: usize = 64;
/// Allows everything.
const ANY: &str = "*";
/// How many allowed names a message contains.
const MAX_SHOWN: usize = 8;

/// Who may use a provider.
#[derive(Clone, Debug)]
pub enum Allow {
    /// Everyone who can refer to it: it is for one namespace.
    All,
    /// What the rules allow.
    Rules(Vec<Rule>),
}

/// A parsed rule.
#[derive(Clone, Debug)]
pub struct Rule {
    names: BTreeSet<String>,
    /// `None` if it selects nothing.
    selector: Option<Selector>,
    is_for_all: bool,
    grants: Option<Vec<GrantType>>,
    scopes: Names,
    resources: Names,
    subjects: Names,
}

/// The names that a rule allows for one part of a request.
#[derive(Clone, Debug)]
enum Names {
    /// What the provider itself says.
    OfProvider,
    /// Everything.
    Any,
    /// These.
    Listed(BTreeSet<String>),
}

impl Names {
    fn new(names: Option<&Vec<String>>) -> Self {
        match names {
            None => Self::OfProvider,
            Some(names) if names.iter().any(|name| name == ANY) => Self::Any,
            Some(names) => Self::Listed(names.iter().cloned().collect()),
        }
    }

    /// Whether a name is allowed; `None`: the request has none, and the server chooses.
    fn allow(&self, name: Option<&str>, of_provider: &BTreeSet<&str>) -> bool {
        match (self, name) {
            (Self::Any, _) => true,
            (Self::OfProvider, Some(name)) => of_provider.contains(name),
            (Self::OfProvider, None) => of_provider.is_empty(),
            (Self::Listed(names), Some(name)) => names.contains(name),
            (Self::Listed(_), None) => false,
        }
    }
}

impl Rule {
    /// Parses a rule.
    ///
    /// # Errors
    ///
    /// If the selector is invalid.
    fn new(rule: &AllowRule) -> Result<Self, String> {
        let AllowRule { namespaces, grant_types, scopes, resources, subjects } = rule;
        let selector = namespaces.selector.clone().map(Selector::try_from).transpose();
        Ok(Self {
            names: namespaces.names.iter().cloned().collect(),
            selector: selector.map_err(|error| format!("namespaces.selector is invalid: {error}"))?,
            is_for_all: namespaces.names.is_empty() && namespaces.selector.is_none(),
            grants: grant_types.clone(),
            scopes: Names::new(scopes.as_ref()),
            resources: Names::new(resources.as_ref()),
            subjects: Names::new(subjects.as_ref()),
        })
    }

    /// Whether the rule is for a namespace. One whose labels are not known is not selected by them.
    fn is_for(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.is_for_all
            || self.names.contains(namespace)
            || self.selector.as_ref().zip(labels).is_some_and(|(selector, labels)| selector.matches(labels))
    }
}

impl Allow {
    /// Parses the rules of a provider.
    ///
    /// # Errors
    ///
    /// A message that names the rule.
    pub fn new(rules: &[AllowRule]) -> Result<Self, String> {
        let parse = |(index, rule)| Rule::new(rule).map_err(|error| format!("spec.allow[{index}].{error}"));
        rules.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self::Rules)
    }

    /// Whether the rules need the labels of namespaces.
    #[must_use]
    pub fn has_selector(&self) -> bool {
        match self {
            Self::All => false,
            Self::Rules(rules) => rules.iter().any(|rule| rule.selector.is_some()),
        }
    }
}

/// What an integration requests, or what a provider says itself.
struct Parts<'a> {
    scopes: BTreeSet<&'a str>,
    resources: BTreeSet<&'a str>,
    subjects: BTreeSet<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(spec: &'a SharedSpec) -> Self {
        let resource = spec.resource.as_ref();
        let named = resource.into_iter().flat_map(|resource| resource.value.iter().chain(&resource.values));
        // It is the default of `resource`.
        let implied = spec.protected_resource.iter().filter(|_| resource.is_none());
        Self {
            scopes: spec.scope.iter().flat_map(|scope| scope.split_whitespace()).collect(),
            resources: named.chain(implied).map(String::as_str).collect(),
            subjects: spec.assertion.iter().filter_map(|assertion| assertion.jwt.subject.as_deref()).collect(),
        }
    }
}

/// An integration that uses a provider.
pub(crate) struct Usage<'a> {
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// The labels of that; `None` if they are not known.
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    /// Its spec with that of the provider.
    pub(crate) spec: &'a OAuthIntegrationSpec,
    /// The provider.
    pub(crate) provider: &'a ProviderRef,
    /// What the provider says itself.
    pub(crate) of_provider: &'a SharedSpec,
}

/// Whether the rules of a provider allow what an integration requests.
///
/// # Errors
///
/// A message that names what is not allowed.
pub(crate) fn check(allow: &Allow, usage: &Usage<'_>) -> Result<(), String> {
    let Allow::Rules(rules) = allow else { return Ok(()) };
    let Usage { namespace, labels, spec, provider: reference, of_provider } = *usage;
    let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.is_for(namespace, labels)).collect();
    if rules.is_empty() {
        return Err(format!(
            "{reference} does not allow namespace {namespace}: have its administrator add a rule for this namespace to its spec.allow"
        ));
    }
    let (wanted, own) = (Parts::of(&spec.shared), Parts::of(of_provider));
    if wanted.scopes.len() > MAX_SCOPES {
        return Err(format!(
            "spec.scope has more than {MAX_SCOPES} names, which {reference} does not allow: shorten it"
        ));
    }
    let renewal = &spec.shared.renewal;
    let fallback = renewal.fallback.as_ref().map(|fallback| fallback.grant_type.into());
    // A refresh token may also have been put into the target.
    let refreshes = renewal.strategy == Some(RenewalStrategy::RefreshToken);
    let refresh = refreshes.then_some(GrantType::RefreshToken);
    for grant in [Some(spec.grant_type), fallback, refresh].into_iter().flatten() {
        let allowing: Vec<&Rule> =
            rules.iter().copied().filter(|rule| rule.grants.as_ref().is_none_or(|all| all.contains(&grant))).collect();
        if allowing.is_empty() {
            return Err(format!(
                "{reference} does not allow the grant {} for namespace {namespace}: use another one, or have its administrator change spec.allow",
                grant.as_str()
            ));
        }
        // Of a token that somebody else has issued, the subject is not known.
        let from = spec.shared.assertion.as_ref().and_then(|assertion| assertion.from.as_ref());
        let subjects: BTreeSet<&str> = match grant {
            GrantType::JwtBearer if from.is_none() => wanted.subjects.clone(),
            _ => BTreeSet::new(),
        };
        let has_subject = matches!(grant, GrantType::JwtBearer | GrantType::TokenExchange);
        for subject in each(&subjects) {
            let allowing: Vec<&Rule> = allowing
                .iter()
                .copied()
                .filter(|rule| !has_subject || rule.subjects.allow(subject, &own.subjects))
                .collect();
            if allowing.is_empty() {
                return Err(refusal(usage, "subject", subject, &rules, |rule| &rule.subjects));
            }
            check_resources(usage, (&allowing, &rules), &wanted, &own)?;
        }
    }
    Ok(())
}

/// Checks resources and scopes, for the rules that allow everything else.
fn check_resources(
    usage: &Usage<'_>,
    (allowing, rules): (&[&Rule], &[&Rule]),
    wanted: &Parts<'_>,
    own: &Parts<'_>,
) -> Result<(), String> {
    for resource in each(&wanted.resources) {
        let allowing: Vec<&Rule> =
            allowing.iter().copied().filter(|rule| rule.resources.allow(resource, &own.resources)).collect();
        if allowing.is_empty() {
            return Err(refusal(usage, "resource", resource, rules, |rule| &rule.resources));
        }
        for scope in each(&wanted.scopes) {
            if !allowing.iter().any(|rule| rule.scopes.allow(scope, &own.scopes)) {
                return Err(refusal(usage, "scope", scope, &allowing, |rule| &rule.scopes));
            }
        }
    }
    Ok(())
}

/// Each name; `None` once if there is none.
fn each<'a>(names: &'a BTreeSet<&str>) -> impl Iterator<Item = Option<&'a str>> {
    let none = names.is_empty().then_some(None);
    names.iter().map(|name| Some(*name)).chain(none)
}

/// The message of a refusal. It shows only what the namespace itself may request.
fn refusal<'a>(
    usage: &Usage<'_>,
    part: &str,
    name: Option<&str>,
    rules: &[&'a Rule],
    names: impl Fn(&'a Rule) -> &'a Names,
) -> String {
    let listed = rules.iter().filter_map(|rule| match names(rule) {
        Names::Listed(names) => Some(names),
        Names::OfProvider | Names::Any => None,
    });
    let allowed: BTreeSet<&str> = listed.flatten().map(String::as_str).collect();
    let mut shown = allowed.iter().take(MAX_SHOWN).copied().collect::<Vec<_>>().join(", ");
    if allowed.len() > MAX_SHOWN {
        shown.push_str(", …");
    }
    let Usage { namespace, provider: reference, .. } = usage;
    let why = match name {
        Some(name) => format!("{reference} does not allow the {part} {name} for namespace {namespace}"),
        None => format!("{reference} does not allow requests without a known {part} for namespace {namespace}"),
    };
    match shown.as_str() {
        "" => format!("{why}: change the request, or have its administrator change spec.allow"),
        shown => format!("{why}; allowed: {shown}. Request one of these, or have its administrator change spec.allow"),
    }
}
