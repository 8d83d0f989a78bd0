//! Hashes of labels, annotations and expressions, which are compared instead of being stored in full.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::target::annotations::{MANAGED_BY, OWN_PREFIX, WrittenKeys};

/// The maximum number of labels and annotations that are stored; a spec may have 32 of each.
const MAX_LOOKS: usize = 256;

pub(crate) const LABEL: u8 = 0;
pub(crate) const ANNOTATION: u8 = 1;
pub(crate) const DATA: u8 = 2;

/// Hashes of names with their values, sorted: anyone who may write a Secret can add a megabyte of
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks(pub(crate) Box<[u64]>);

impl Looks {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        let foreign = |(name, _): &(&String, &String)| !name.starts_with(OWN_PREFIX) && *name != MANAGED_BY;
        let labels = meta.labels.iter().flatten().filter(foreign).map(|label| look(LABEL, label));
        let annotations = meta.annotations.iter().flatten().filter(foreign).map(|it| look(ANNOTATION, it));
        Self::sorted(labels.take(MAX_LOOKS).chain(annotations.take(MAX_LOOKS)))
    }

    pub(crate) fn of_data(meta: &ObjectMeta) -> Self {
        let written = WrittenKeys::of(meta);
        let data = written.iter().flat_map(|written| &written.data).map(|entry| look(DATA, entry));
        Self::sorted(data.take(MAX_LOOKS))
    }

    fn sorted(looks: impl Iterator<Item = u64>) -> Self {
        let mut seen: Vec<u64> = looks.collect();
        seen.sort_unstable();
        Self(seen.into_boxed_slice())
    }

    pub(crate) fn contains(&self, kind: u8, pair: (&String, &String)) -> bool {
        self.0.binary_search(&look(kind, pair)).is_ok()
    }
}

fn look(kind: u8, pair: (&String, &String)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, pair).hash(&mut hasher);
    hasher.finish()
}
