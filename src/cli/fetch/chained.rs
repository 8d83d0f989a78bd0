//! The token of another integration in the files.

use kube::ResourceExt;

use crate::cli::fetch::manifests::Manifests;
use crate::oauth::credentials::Credentials;
use crate::spec::chain::{ChainedToken, MAX_LENGTH};
use crate::spec::validated::ValidatedSpec;
use crate::spec::{chained_token, credentials};

/// Adds the token of another integration to the credentials, with the restrictions of its owners.
///
/// # Errors
///
/// A message that says what to add to the files.
pub(crate) fn add(values: &mut Credentials, token: &ChainedToken, manifests: &Manifests) -> Result<(), String> {
    let ChainedToken { credential, from } = token;
    let spec = spec_of(&from.integration, manifests)?;
    let holder = chained_token::other_secret(from, &spec).unwrap_or(&spec.template.secret_name);
    let secret = manifests.secrets.get(holder).ok_or_else(|| {
        format!(
            "there is no token of OAuthIntegration {}: put its manifest before this one, or pass its Secret",
            from.integration
        )
    })?;
    values.set(*credential, Some(chained_token::read(from, &spec, secret)?));
    values.chained = Some(*credential);
    restrict(values, &from.integration, &spec, manifests)?;
    // The token may come from the token of yet another integration.
    let mut next = spec.credentials.chained;
    for _ in 0..MAX_LENGTH {
        let Some(ChainedToken { from, .. }) = next else { return Ok(()) };
        let spec = spec_of(&from.integration, manifests)?;
        restrict(values, &from.integration, &spec, manifests)?;
        next = spec.credentials.chained;
    }
    Err(format!("the chain has more than {MAX_LENGTH} integrations: shorten it"))
}

fn spec_of(name: &str, manifests: &Manifests) -> Result<ValidatedSpec, String> {
    let other = manifests.integrations.iter().find(|other| other.name_any() == name);
    let other = other.ok_or_else(|| {
        format!("OAuthIntegration {name}, whose token is needed, is not in the given files: pass its manifest too")
    })?;
    let spec = manifests.spec_of(other).map_err(|(_, message)| message)?;
    match spec.not_allowed {
        Some(message) => Err(message),
        None => Ok(spec),
    }
}

fn restrict(
    values: &mut Credentials,
    integration: &str,
    spec: &ValidatedSpec,
    manifests: &Manifests,
) -> Result<(), String> {
    let names = [&spec.credentials.secret_name, &spec.credentials.user_secret_name].into_iter().flatten();
    let found = names.filter_map(|name| Some((name.as_str(), manifests.secrets.get(name)?)));
    let owners: Vec<_> =
        found.map(|(name, secret)| (format!("Secret {name}"), Some(name), secret.metadata.clone())).collect();
    credentials::forward(values, integration, &owners, spec.credentials.chained.is_some())
}
