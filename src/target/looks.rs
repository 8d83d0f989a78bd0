//! Hashes of labels and annotations, which are compared instead of being stored in full.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::target::annotations::{MANAGED_BY, OWN_PREFIX};

/// The maximum number of labels and annotations that are stored; a spec may have 32 of each.
const MAX_LOOKS: usize = 256;

pub(crate) const LABEL: u8 = 0;
pub(crate) const ANNOTATION: u8 = 1;

/// Hashes of labels and annotations with their values, sorted: anyone who may write a Secret can add a megabyte of
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks(pub(crate) Vec<u64>);

impl Looks {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        let foreign = |(name, _): &(&String, &String)| !name.starts_with(OWN_PREFIX) && *name != MANAGED_BY;
        let labels = meta.labels.iter().flatten().filter(foreign).map(|label| look(LABEL, label));
        let annotations = meta.annotations.iter().flatten().filter(foreign).map(|it| look(ANNOTATION, it));
        let mut seen: Vec<u64> = labels.take(MAX_LOOKS).chain(annotations.take(MAX_LOOKS)).collect();
        seen.sort_unstable();
        seen.shrink_to_fit();
        Self(seen)
    }
}

pub(crate) fn look(kind: u8, pair: (&String, &String)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, pair).hash(&mut hasher);
    hasher.finish()
}
