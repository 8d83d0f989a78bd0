//! Decides whether a value is kept, by its location and its key.

use crate::kube_api::filter::Filter;
use crate::kube_api::filter::types::{Decision, Frame, Framing, Location, OWN};
use crate::kube_api::rules::{Annotations, Rules};

/// Maximum cost of a name, a version, a time or a continue token.
const SCALAR: usize = 8 << 10;
/// Maximum cost of an annotation; the CRD allows values of 4,096 characters, which may be escaped.
const ANNOTATION: usize = 26 << 10;
/// Maximum cost of the operator's own annotations of an object.
const OWN_ANNOTATIONS: usize = 32 << 10;
/// Maximum cost of all other annotations; the CRD allows 32.
const OTHER_ANNOTATIONS: usize = 160 << 10;
/// Maximum cost of the labels of an object; the CRD allows 32.
const LABELS: usize = 32 << 10;
/// Maximum cost of a label.
const LABEL: usize = 1 << 10;
/// Maximum cost of an entry of the managed fields, without its fields.
const MANAGER_ENTRY: usize = 2 << 10;
/// Maximum number of managed fields entries that are read; the API server itself keeps ten for updates.
const MANAGER_ENTRIES: usize = 32;
/// Maximum cost of all members of one object.
const OBJECT: usize = 1 << 20;

impl Filter {
    pub(crate) fn decide(&mut self, first: u8) -> Decision {
        let Some(frame) = self.frames.last().copied() else {
            return match (self.framing, first) {
                (Framing::Events, b'{') => Decision::Keep(Location::Event, None),
                (Framing::One, b'{') => Decision::Keep(Location::Object, None),
                _ => Decision::Keep(Location::Other, Some((OBJECT, false))),
            };
        };
        let name = self.key.get(1..self.key.len().saturating_sub(1)).unwrap_or_default();
        match (frame.location, name, first) {
            (Location::Event, b"object", b'{') | (Location::Items, _, b'{') => Decision::Keep(Location::Object, None),
            (Location::Event, _, _) => Decision::Keep(Location::Other, Some((SCALAR, false))),
            (Location::Items, _, _) => Decision::Keep(Location::Other, Some((self.rules.member, false))),
            (Location::Object, _, _) => {
                self.member.clear();
                self.member.extend_from_slice(self.key.get(1..self.key.len().saturating_sub(1)).unwrap_or_default());
                self.decide_member(frame, first)
            }
            (Location::Metadata, name, first) => decide_metadata(&self.rules, name, first),
            (Location::Labels, _, b'"') if self.cost_since(frame.start) < LABELS => {
                Decision::Keep(Location::Other, Some((LABEL, false)))
            }
            (Location::Annotations, _, b'"') => self.decide_annotation(),
            (Location::Managers, _, b'{') if self.managers < MANAGER_ENTRIES => {
                self.managers += 1;
                Decision::Keep(Location::ManagerEntry, Some((MANAGER_ENTRY, false)))
            }
            (Location::Data, _, _) if self.cost_since(frame.start) > self.rules.data => Decision::LeaveOut,
            (Location::Data, _, _) => Decision::Keep(Location::Other, Some((self.rules.data_value, true))),
            (Location::ManagerEntry, b"manager" | b"operation", b'"') | (Location::Other, _, _) => {
                Decision::Keep(Location::Other, None)
            }
            (Location::Labels | Location::Annotations | Location::Managers | Location::ManagerEntry, _, _) => {
                Decision::Drop
            }
        }
    }

    pub(crate) fn decide_member(&self, frame: Frame, first: u8) -> Decision {
        let is_root = self.frames.len() == 1 && self.framing == Framing::One;
        match (self.member.as_slice(), first) {
            (b"metadata", b'{') => Decision::Keep(Location::Metadata, None),
            (b"items", b'[') if is_root => Decision::Keep(Location::Items, None),
            // Go encodes an empty list as `null`.
            (b"items", b'n') if is_root => Decision::Keep(Location::Other, Some((SCALAR, false))),
            // An event of type ERROR contains a `Status`. The watcher needs its code: after a 410 it lists again.
            (b"code" | b"reason" | b"message" | b"status", b'"' | b'0'..=b'9') if self.framing == Framing::Events => {
                Decision::Keep(Location::Other, Some((SCALAR, false)))
            }
            (name, _)
                if !self.rules.members.is_empty() && !self.rules.members.iter().any(|it| it.as_bytes() == name) =>
            {
                Decision::Drop
            }
            _ if self.cost_since(frame.start) > OBJECT => Decision::LeaveOut,
            (b"data", b'{') => Decision::Keep(Location::Data, None),
            _ => Decision::Keep(Location::Other, Some((self.rules.member, true))),
        }
    }

    pub(crate) fn decide_annotation(&self) -> Decision {
        let is_own = self.key.starts_with(OWN);
        let (wanted, max_cost) = match self.rules.annotations {
            Annotations::None => (false, 0),
            Annotations::Own => (is_own, ANNOTATION),
            Annotations::Only(name) => {
                (self.key.get(1..self.key.len().saturating_sub(1)) == Some(name.as_bytes()), SCALAR)
            }
            Annotations::All => (true, ANNOTATION),
        };
        let (spent, max) =
            if is_own { (self.own_annotations, OWN_ANNOTATIONS) } else { (self.other_annotations, OTHER_ANNOTATIONS) };
        if wanted && spent < max { Decision::Keep(Location::Other, Some((max_cost, false))) } else { Decision::Drop }
    }
}

fn decide_metadata(rules: &Rules, name: &[u8], first: u8) -> Decision {
    match (name, first) {
        (
            b"name"
            | b"namespace"
            | b"uid"
            | b"resourceVersion"
            | b"generation"
            | b"creationTimestamp"
            | b"deletionTimestamp"
            | b"deletionGracePeriodSeconds"
            | b"continue"
            | b"remainingItemCount",
            _,
        ) => Decision::Keep(Location::Other, Some((SCALAR, true))),
        (b"labels", b'{') if rules.labels => Decision::Keep(Location::Labels, None),
        (b"annotations", b'{') if rules.annotations != Annotations::None => Decision::Keep(Location::Annotations, None),
        (b"managedFields", b'[') if rules.managers => Decision::Keep(Location::Managers, None),
        (b"ownerReferences", b'[') if rules.owners => Decision::Keep(Location::Other, Some((rules.finalizers, true))),
        (b"finalizers", b'[') if rules.finalizers > 0 => {
            Decision::Keep(Location::Other, Some((rules.finalizers, true)))
        }
        _ => Decision::Drop,
    }
}
