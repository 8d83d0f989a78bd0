//! Strings, numbers and literals, and the skipping of values.

use crate::api::names::MANAGER;
use crate::kube_api::filter::Filter;
use crate::kube_api::filter::types::{Inside, Lexing, Location, NotJson};

/// Maximum length of a key, in bytes.
const MAX_KEY: usize = 1 << 10;
/// Maximum length of a number.
const MAX_LITERAL: usize = 64;

impl Filter {
    pub(crate) fn string(&mut self, text: &[u8], key: bool, escaped: bool) -> usize {
        if escaped {
            self.copy(&text[..1], key);
            self.lexing = Lexing::InString { key, escaped: false };
            return 1;
        }
        let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        let plain = &text[..end.unwrap_or(text.len())];
        self.suspicious |= plain.iter().any(|byte| !(0x20..0x7f).contains(byte));
        self.copy(plain, key);
        let Some(end) = end else {
            self.check_cost();
            return text.len();
        };
        self.copy(&text[end..=end], key);
        if text[end] == b'\\' {
            self.suspicious = true;
            self.lexing = Lexing::InString { key, escaped: true };
        } else if key {
            self.key_is_bad |= self.suspicious && serde_json::from_slice::<String>(&self.key).is_err();
            self.lexing = Lexing::Colon;
        } else {
            self.end_string();
        }
        self.check_cost();
        end + 1
    }

    pub(crate) fn copy(&mut self, text: &[u8], key: bool) {
        if !key {
            self.out.extend_from_slice(text);
        } else if self.key.len() + text.len() <= MAX_KEY {
            self.key.extend_from_slice(text);
        } else {
            self.key_is_bad = true;
        }
    }

    pub(crate) fn end_string(&mut self) {
        let token = &self.out[self.token..];
        if self.suspicious && serde_json::from_slice::<String>(token).is_err() {
            return self.leave_out_innermost(Inside::Structure);
        }
        if self.frames.last().is_some_and(|frame| frame.location == Location::ManagerEntry)
            && self.key == b"\"manager\""
        {
            self.is_own_entry = &token[1..token.len() - 1] == MANAGER.as_bytes();
        }
        self.end_value();
    }

    pub(crate) fn literal(&mut self, text: &[u8]) -> Result<usize, NotJson> {
        let end = text.iter().position(|byte| ends_literal(*byte));
        let part = &text[..end.unwrap_or(text.len())];
        let room = MAX_LITERAL.saturating_sub(self.out.len() - self.token);
        let kept = &part[..part.len().min(room)];
        if kept.iter().any(|byte| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte)) {
            return Err(NotJson);
        }
        self.out.extend_from_slice(kept);
        if part.len() > room {
            // The rest is skipped byte by byte, regardless of the chunks in which it arrives.
            self.leave_out_innermost(Inside::Literal);
            return Ok(kept.len());
        }
        if end.is_some() {
            self.end_literal()?;
        }
        Ok(part.len())
    }

    pub(crate) fn end_literal(&mut self) -> Result<(), NotJson> {
        // Numbers that do not fit into a machine number are also left out.
        if serde_json::from_slice::<serde_json::Value>(&self.out[self.token..]).is_ok() {
            self.end_value();
        } else if self.units.is_empty() {
            return Err(NotJson);
        } else {
            self.leave_out_innermost(Inside::Structure);
        }
        self.check_cost();
        Ok(())
    }

    pub(crate) fn skip(&mut self, text: &[u8], mut depth: usize, mut inside: Inside) -> usize {
        for (at, byte) in text.iter().enumerate() {
            match (inside, byte) {
                (Inside::String { escaped: true }, _) => inside = Inside::String { escaped: false },
                (Inside::String { .. }, b'\\') => inside = Inside::String { escaped: true },
                (Inside::String { .. }, b'"') => {
                    inside = Inside::Structure;
                    if depth == 0 {
                        self.end_skipping();
                        return at + 1;
                    }
                }
                (Inside::String { .. }, _) => {}
                (Inside::Literal, byte) if depth == 0 && ends_literal(*byte) => {
                    self.end_skipping();
                    return at;
                }
                (_, b'"') => inside = Inside::String { escaped: false },
                (_, b'{' | b'[') => (depth, inside) = (depth + 1, Inside::Structure),
                (_, b'}' | b']') => {
                    (depth, inside) = (depth.saturating_sub(1), Inside::Structure);
                    if depth == 0 {
                        self.end_skipping();
                        return at + 1;
                    }
                }
                _ => {}
            }
        }
        self.lexing = Lexing::Skipping { depth, inside };
        text.len()
    }

    pub(crate) fn begin_skipping(&mut self, depth: usize, first: u8) {
        let (depth, inside) = match first {
            b'{' | b'[' => (depth + 1, Inside::Structure),
            b'"' => (depth, Inside::String { escaped: false }),
            _ => (depth, Inside::Literal),
        };
        self.lexing = Lexing::Skipping { depth, inside };
    }

    pub(crate) fn end_skipping(&mut self) {
        self.lexing = Lexing::AfterValue;
        self.end_document();
    }
}

fn ends_literal(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n')
}
