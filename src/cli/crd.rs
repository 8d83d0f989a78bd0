//! `oauth-operator crd`: prints the CustomResourceDefinitions.

use crate::api::crd::crds;
use crate::controller::error::Error;

/// Prints the CRDs, or the one with this plural name: `oauth-operator crd`.
///
/// # Errors
///
/// If there is none with this name, or if they cannot be serialized as YAML.
pub fn print_crds(name: Option<&str>) -> Result<(), Error> {
    let wanted: Vec<_> =
        crds().into_iter().filter(|crd| name.is_none_or(|name| crd.spec.names.plural == name)).collect();
    if wanted.is_empty() {
        let name = name.unwrap_or_default();
        return Err(Error::Manifest(format!("there is no CustomResourceDefinition {name}")));
    }
    for (index, crd) in wanted.iter().enumerate() {
        let yaml = serde_saphyr::to_string(crd).map_err(|error| Error::Manifest(error.to_string()))?;
        print!("{}{yaml}", if index == 0 { "" } else { "---\n" });
    }
    Ok(())
}
