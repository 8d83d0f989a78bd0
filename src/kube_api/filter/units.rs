//! Values that are either passed on completely or left out.

use crate::kube_api::filter::Filter;
use crate::kube_api::filter::types::{Inside, Lexing, Mark, Why};
use crate::kube_api::rules::NODE_COST;

impl Filter {
    pub(crate) fn mark(&self) -> Mark {
        Mark { bytes: self.out.len(), nodes: self.nodes }
    }

    pub(crate) fn cost_since(&self, mark: Mark) -> usize {
        self.out.len() - mark.bytes + (self.nodes - mark.nodes) * NODE_COST
    }

    pub(crate) fn check_cost(&mut self) {
        if matches!(self.lexing, Lexing::Skipping { .. }) {
            return;
        }
        let over = self.units.iter().position(|unit| self.cost_since(unit.start) > unit.max_cost);
        let Some(over) = over else { return };
        let inside = match self.lexing {
            Lexing::InString { key: false, escaped } => Inside::String { escaped },
            Lexing::InLiteral => Inside::Literal,
            _ => Inside::Structure,
        };
        self.leave_out(over, Why::TooLarge, 0, inside);
    }

    pub(crate) fn leave_out_innermost(&mut self, inside: Inside) {
        if self.units.is_empty() {
            // The whole response is a single invalid string or number.
            self.out.truncate(self.token);
            self.lexing = Lexing::Skipping { depth: 0, inside };
            if inside == Inside::Structure {
                self.end_skipping();
            }
        } else {
            self.leave_out(self.units.len() - 1, Why::Unreadable, 0, inside);
        }
    }

    /// Removes a unit from the output and skips the rest of it.
    pub(crate) fn leave_out(&mut self, index: usize, why: Why, deeper: usize, inside: Inside) {
        let Some(unit) = self.units.get(index).copied() else { return };
        self.units.truncate(index);
        let depth = self.frames.len() - unit.depth + deeper;
        self.frames.truncate(unit.depth);
        self.out.truncate(unit.start.bytes);
        self.nodes = unit.start.nodes;
        if let Some(parent) = self.frames.last_mut() {
            parent.empty = unit.parent_empty;
        }
        if unit.needed {
            self.note(why);
        }
        if depth == 0 && inside == Inside::Structure {
            self.end_skipping();
        } else {
            self.lexing = Lexing::Skipping { depth, inside };
        }
    }

    /// Leaves out the value of a key that is too long or not a valid string.
    pub(crate) fn drop_bad_key(&mut self, first: u8) {
        let inside = match first {
            b'"' => Inside::String { escaped: false },
            b'{' | b'[' => Inside::Structure,
            _ => Inside::Literal,
        };
        if self.units.is_empty() {
            return self.begin_skipping(0, first);
        }
        let deeper = usize::from(inside == Inside::Structure);
        self.leave_out(self.units.len() - 1, Why::Unreadable, deeper, inside);
    }

    pub(crate) fn note(&mut self, why: Why) {
        let why = match why {
            Why::TooLarge => "too large",
            Why::TooDeep => "nested too deep",
            Why::Unreadable => "not readable",
        };
        let is_name = self.member.iter().all(u8::is_ascii_alphanumeric) && self.member.len() <= 32;
        let name = if is_name { self.member.as_slice() } else { b"a member" };
        if self.left_out.is_empty() {
            self.left_out.extend_from_slice(name);
            self.left_out.extend_from_slice(format!(" is {why}").as_bytes());
        }
    }
}
