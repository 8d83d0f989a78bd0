//! Leader election: one of several replicas acts. May use `kube_api` and the layers below it.

pub(crate) mod leadership;
pub(crate) mod lease;
