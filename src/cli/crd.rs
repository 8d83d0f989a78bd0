//! `oauth-operator crd`: prints the CustomResourceDefinition.

use crate::api::crd::crd;
use crate::controller::error::Error;

/// Prints the CRD: `oauth-operator crd`.
///
/// # Errors
///
/// If it cannot be serialized as YAML.
pub fn print_crd() -> Result<(), Error> {
    let yaml = serde_saphyr::to_string(&crd()).map_err(|error| Error::Manifest(error.to_string()))?;
    print!("{yaml}");
    Ok(())
}
