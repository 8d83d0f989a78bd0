//! Chains: the token of one integration is the input of another one in the same namespace. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::HashSet;

use crate::api::grant::TokenFrom;
use crate::api::spec::OAuthIntegrationSpec;
use crate::oauth::credentials::Credential;
use crate::oauth::request::{Grant, TokenRequest};
use crate::spec::renewal::Renewal;
use crate::target::snapshot::TargetSnapshot;

/// The maximum number of integrations in a chain.
pub const MAX_LENGTH: usize = 8;

/// A token of another integration that a grant needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedToken {
    /// What it is for this grant.
    pub credential: Credential,
    /// Which token it is.
    pub from: TokenFrom,
}

/// The token that the grant needs; a refresh needs none, but is renewed with it.
pub(crate) fn of_grant(renewal: &Renewal, request: &TokenRequest) -> Option<ChainedToken> {
    let grant = match renewal {
        Renewal::RefreshFirst(grant) => &grant.grant,
        Renewal::Grant | Renewal::WithFallback(_) => &request.grant,
    };
    let (credential, from) = match grant {
        Grant::TokenExchange(exchange) => (Credential::SubjectToken, exchange.subject_token_from.clone()?),
        Grant::JwtBearer(assertion) => (Credential::Assertion, assertion.from.clone()?),
        _ => return None,
    };
    Some(ChainedToken { credential, from })
}

/// The integration whose token a spec needs.
#[must_use]
pub fn dependency(spec: &OAuthIntegrationSpec) -> Option<&str> {
    let exchanged = spec.token_exchange.as_ref().and_then(|exchange| exchange.subject_token_from.as_ref());
    let asserted = spec.shared.assertion.as_ref().and_then(|assertion| assertion.from.as_ref());
    exchanged.or(asserted).map(|from| from.integration.as_str())
}

/// A message if the integrations that `name` needs tokens from lead back to it, or are too many. `dependency_of` returns
/// the name that an integration depends on.
#[must_use]
pub fn cycle(name: &str, first: Option<&str>, dependency_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut names = vec![name.to_owned()];
    let mut seen = HashSet::from([name.to_owned()]);
    let mut next = first.map(ToOwned::to_owned);
    while let Some(dependency) = next {
        if dependency == name {
            names.push(dependency);
            let chain = names.join(" → ");
            return Some(format!("these integrations need tokens from each other: {chain}: change one of them"));
        }
        // A cycle of others, which they report.
        if !seen.insert(dependency.clone()) {
            return None;
        }
        names.push(dependency.clone());
        if names.len() > MAX_LENGTH {
            return Some(format!(
                "the chain {} has more than {MAX_LENGTH} integrations: shorten it",
                names.join(" → ")
            ));
        }
        next = dependency_of(&dependency);
    }
    None
}

/// The version of credentials together with the other integration's token, and with the credentials Secret of that
/// integration, whose annotation restricts where the token may be sent.
#[must_use]
pub fn version(of_secret: &str, token: Option<&TargetSnapshot>, of_owner: Option<u64>) -> String {
    format!("{of_secret}+{}+{}", token_of(token), of_owner.unwrap_or_default())
}

/// What identifies a token. Not its times, which change when the clock is set.
fn token_of(token: Option<&TargetSnapshot>) -> &str {
    token.and_then(|snapshot| snapshot.provenance.access_token_hash.as_deref()).unwrap_or("none")
}

/// The part of a version that identifies the token of the other integration; `None` without one.
#[must_use]
pub fn token_part(version: &str) -> Option<&str> {
    version.split('+').nth(1)
}

/// A version without the token of the other integration, whose renewals must not end a back-off.
#[must_use]
pub fn without_token(version: &str) -> String {
    let mut parts: Vec<&str> = version.split('+').collect();
    if parts.len() > 1 {
        parts.remove(1);
    }
    parts.join("+")
}

/// Whether a token was obtained with the token that another integration has now.
#[must_use]
pub fn is_in_step(dependent: &TargetSnapshot, input: &TargetSnapshot) -> bool {
    token_part(&dependent.provenance.credentials_version) == Some(token_of(Some(input)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, edges: &[(&str, &str)]) -> Option<String> {
        let dependency_of = |name: &str| edges.iter().find(|(from, _)| *from == name).map(|(_, to)| (*to).to_owned());
        cycle(name, dependency_of(name).as_deref(), dependency_of)
    }

    #[test]
    fn only_the_integrations_of_a_cycle_are_part_of_it() {
        let edges = [("a", "b"), ("b", "c"), ("c", "b"), ("d", "e"), ("self", "self")];
        assert_eq!(found("a", &edges), None, "it only depends on a cycle");
        assert!(found("b", &edges).is_some_and(|message| message.contains("b → c → b")));
        assert!(found("c", &edges).is_some_and(|message| message.contains("c → b → c")));
        assert_eq!(found("d", &edges), None, "e depends on nothing, or does not exist");
        assert!(found("self", &edges).is_some_and(|message| message.contains("self → self")));
    }

    #[test]
    fn a_chain_has_a_maximum_length() {
        let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
        let edges: Vec<(&str, &str)> = names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
        assert!(found("n0", &edges).is_some_and(|message| message.contains("has more than 8 integrations")));
        assert_eq!(found("n12", &edges), None, "8 integrations");
    }
}
