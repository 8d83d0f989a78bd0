//! A streaming JSON filter between the API server's responses and their parsers.
//!
//! It processes the text as it arrives, without building a document, and passes on the parts that the [`Rules`]
//! allow, within bounds on size, number and depth. If a required part of an object exceeds them, this is recorded in
//! the object itself, under [`LEFT_OUT`], so that unusual content makes a single object invalid, but never a list
//! unreadable. The output can always be parsed.

pub(crate) mod decisions;
pub(crate) mod tokens;
pub mod types;
pub(crate) mod units;

use crate::kube_api::filter::types::{
    Decision, Frame, Framing, Inside, LEFT_OUT, Lexing, Location, NotJson, OWN, Unit, Why,
};
use crate::kube_api::rules::{MAX_DEPTH, NODE_COST, Rules};

/// The filter; its state is bounded by the maximum cost of one object.
#[derive(Debug)]
pub struct Filter {
    rules: Rules,
    framing: Framing,
    lexing: Lexing,
    frames: Vec<Frame>,
    units: Vec<Unit>,
    out: Vec<u8>,
    nodes: usize,
    /// The key of the next value, with its quotes.
    key: Vec<u8>,
    key_is_bad: bool,
    /// The current member of the object, for messages.
    member: Vec<u8>,
    token: usize,
    suspicious: bool,
    own_annotations: usize,
    other_annotations: usize,
    managers: usize,
    is_own_entry: bool,
    left_out: Vec<u8>,
    /// The number of objects with a part that was left out.
    partial_objects: usize,
}

impl Filter {
    /// A filter for one response.
    #[must_use]
    pub fn new(rules: Rules, framing: Framing) -> Self {
        Self {
            rules,
            framing,
            lexing: Lexing::Value,
            frames: Vec::new(),
            units: Vec::new(),
            out: Vec::new(),
            nodes: 0,
            key: Vec::new(),
            key_is_bad: false,
            member: Vec::new(),
            token: 0,
            suspicious: false,
            own_annotations: 0,
            other_annotations: 0,
            managers: 0,
            is_own_entry: false,
            left_out: Vec::new(),
            partial_objects: 0,
        }
    }

    /// Whether a part of an object was left out and recorded.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial_objects > 0
    }

    /// The cost of the output so far.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.out.len() + self.nodes * NODE_COST
    }

    /// Processes the next chunk of the response.
    ///
    /// # Errors
    ///
    /// If the response is not JSON.
    pub fn push(&mut self, mut text: &[u8]) -> Result<(), NotJson> {
        while !text.is_empty() {
            let read = match self.lexing {
                Lexing::InString { key, escaped } => self.string(text, key, escaped),
                Lexing::InLiteral => self.literal(text)?,
                Lexing::Skipping { depth, inside } => self.skip(text, depth, inside),
                _ => {
                    self.structure(text[0])?;
                    1
                }
            };
            text = &text[read..];
        }
        Ok(())
    }

    /// Takes the complete output: whole events, or the whole response after [`finish`](Self::finish).
    pub fn take(&mut self) -> Vec<u8> {
        if !self.frames.is_empty() || !matches!(self.lexing, Lexing::Value | Lexing::End) {
            return Vec::new();
        }
        self.nodes = 0;
        std::mem::take(&mut self.out)
    }

    /// Ends the response.
    ///
    /// # Errors
    ///
    /// If the response is truncated.
    pub fn finish(&mut self) -> Result<(), NotJson> {
        match self.lexing {
            Lexing::InLiteral if self.frames.is_empty() => self.end_literal(),
            Lexing::Skipping { depth: 0, inside: Inside::Literal } if self.frames.is_empty() => {
                self.lexing = Lexing::AfterValue;
                self.end_document();
                Ok(())
            }
            // An empty response is valid.
            Lexing::Value if self.frames.is_empty() => Ok(()),
            Lexing::End => Ok(()),
            _ => Err(NotJson),
        }
    }

    fn structure(&mut self, byte: u8) -> Result<(), NotJson> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return Ok(());
        }
        let frame = self.frames.last().copied();
        match (self.lexing, byte) {
            (Lexing::Value, b']') if frame.is_some_and(|frame| frame.is_array && frame.fresh) => self.close(),
            (Lexing::Key, b'}') if frame.is_some_and(|frame| frame.fresh) => self.close(),
            (Lexing::Value, b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.begin_value(byte),
            (Lexing::Key, b'"') => {
                self.key.clear();
                self.key.push(b'"');
                self.key_is_bad = false;
                self.suspicious = false;
                self.lexing = Lexing::InString { key: true, escaped: false };
            }
            (Lexing::Colon, b':') => self.lexing = Lexing::Value,
            (Lexing::AfterValue, b',') => {
                let Some(frame) = self.frames.last_mut() else { return Err(NotJson) };
                frame.fresh = false;
                self.lexing = if frame.is_array { Lexing::Value } else { Lexing::Key };
            }
            (Lexing::AfterValue, b']') if frame.is_some_and(|frame| frame.is_array) => self.close(),
            (Lexing::AfterValue, b'}') if frame.is_some_and(|frame| !frame.is_array) => self.close(),
            _ => return Err(NotJson),
        }
        Ok(())
    }

    /// Decides whether a value is kept, when its first character is read.
    fn begin_value(&mut self, first: u8) {
        let decision = self.decide(first);
        if self.key_is_bad {
            self.key_is_bad = false;
            return self.drop_bad_key(first);
        }
        let (location, unit) = match decision {
            Decision::Keep(location, unit) => (location, unit),
            Decision::LeaveOut => {
                self.note(Why::TooLarge);
                return self.begin_skipping(0, first);
            }
            Decision::Drop => return self.begin_skipping(0, first),
        };
        let start = self.mark();
        let parent_empty = self.frames.last().is_some_and(|frame| frame.empty);
        if let Some((max_cost, needed)) = unit {
            let depth = self.frames.len();
            self.units.push(Unit { start, depth, parent_empty, max_cost, needed });
        }
        if let Some(parent) = self.frames.last_mut() {
            if !parent.empty {
                self.out.push(b',');
            }
            parent.empty = false;
            if !parent.is_array {
                self.out.extend_from_slice(&self.key);
                self.out.push(b':');
            }
        }
        self.nodes += 1;
        self.token = self.out.len();
        match first {
            b'{' | b'[' => self.open(location, first),
            b'"' => {
                self.out.push(first);
                self.suspicious = false;
                self.lexing = Lexing::InString { key: false, escaped: false };
            }
            _ => {
                self.out.push(first);
                self.lexing = Lexing::InLiteral;
            }
        }
        self.check_cost();
    }

    fn open(&mut self, location: Location, first: u8) {
        if self.frames.len() >= MAX_DEPTH {
            // A value at this depth always belongs to a unit.
            self.leave_out(self.units.len().saturating_sub(1), Why::TooDeep, 1, Inside::Structure);
            return;
        }
        let start = self.mark();
        self.out.push(first);
        let is_array = first == b'[';
        self.frames.push(Frame { location, is_array, fresh: true, empty: true, start });
        match location {
            Location::Object => {
                self.left_out.clear();
                (self.own_annotations, self.other_annotations, self.managers) = (0, 0, 0);
            }
            Location::ManagerEntry => self.is_own_entry = false,
            _ => {}
        }
        self.lexing = if is_array { Lexing::Value } else { Lexing::Key };
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        match frame.location {
            Location::Object if !self.left_out.is_empty() => {
                if !frame.empty {
                    self.out.push(b',');
                }
                self.partial_objects += 1;
                self.out.extend_from_slice(format!("\"{LEFT_OUT}\":\"").as_bytes());
                self.out.append(&mut self.left_out);
                self.out.push(b'"');
                self.nodes += 1;
            }
            // An empty entry is kept, because entries are identified by their position.
            Location::ManagerEntry if !self.is_own_entry => {
                self.out.truncate(frame.start.bytes + 1);
                self.nodes = frame.start.nodes;
            }
            _ => {}
        }
        self.out.push(if frame.is_array { b']' } else { b'}' });
        self.end_value();
    }

    fn end_value(&mut self) {
        self.lexing = Lexing::AfterValue;
        if let Some(unit) = self.units.pop_if(|unit| unit.depth == self.frames.len()) {
            let cost = self.cost_since(unit.start);
            let location = self.frames.last().map(|frame| frame.location);
            if location == Some(Location::Annotations) {
                let own = self.key.starts_with(OWN);
                *(if own { &mut self.own_annotations } else { &mut self.other_annotations }) += cost;
            }
        }
        self.end_document();
    }

    fn end_document(&mut self) {
        if self.frames.is_empty() {
            self.units.clear();
            self.lexing = match self.framing {
                Framing::One => Lexing::End,
                Framing::Events => {
                    self.out.push(b'\n');
                    Lexing::Value
                }
            };
        }
    }
}
