//! Finds fragments of secrets in a text, even if case, punctuation or spaces were changed. Linear in the length of
//! the secrets, because the index is built from the text, which is short.

#![deny(clippy::disallowed_methods)]

use std::borrow::Cow;
use std::collections::HashSet;

/// Characters of a fragment, after folding.
const FRAGMENT_LEN: usize = 8;
/// The minimum length of a secret that is searched for, in bytes: decoded texts contain shorter ones by chance.
pub const LEAST: usize = 6;
/// The minimum number of characters of a secret next to a mask.
const BESIDE_MASK: usize = 3;
/// The filter has 2 to the power of this number of bits.
const FILTER: u32 = 16;

pub(crate) fn is_printable(c: char) -> bool {
    !c.is_control() && !is_invisible(c)
}

/// Characters that hide text or change its direction.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text as is, and without its non-ASCII characters: some servers drop these from their messages or from the values
/// that they quote.
pub fn readings(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let ascii = (!text.is_ascii()).then(|| Cow::Owned(text.chars().filter(char::is_ascii).collect()));
    [Cow::Borrowed(text)].into_iter().chain(ascii)
}

/// The letters and digits of a text in lower case, one byte each. Different non-ASCII characters may map to the same
/// byte: a false match is better than a missed one.
fn folded(text: &str) -> Vec<u8> {
    text.chars().filter(|c| c.is_alphanumeric()).map(byte).collect()
}

/// The same including punctuation and symbols, because a secret may consist of them.
fn visible(text: &str) -> Vec<u8> {
    text.chars().filter(|c| !c.is_whitespace() && is_printable(*c)).map(byte).collect()
}

fn byte(c: char) -> u8 {
    // Full-width letters look the same to a reader.
    let c = match u32::from(c) {
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xfee0).unwrap_or(c),
        _ => c,
    };
    if c.is_ascii() {
        return u8::try_from(c.to_ascii_lowercase()).unwrap_or_default();
    }
    let lower = c.to_lowercase().next().unwrap_or(c);
    u8::try_from(u32::from(lower) % 127).unwrap_or_default() | 0x80
}

/// The fragments of texts.
#[derive(Debug, Default)]
pub struct Pieces {
    folded: Windows,
    visible: Windows,
    texts: Vec<Vec<u8>>,
}

impl Pieces {
    /// The fragments of these texts.
    #[must_use]
    pub fn of(texts: &[String]) -> Self {
        let mut pieces = Self::default();
        for text in texts.iter().flat_map(|text| readings(text)) {
            let folded = folded(&text);
            pieces.folded.add_all_of(&folded);
            pieces.visible.add_all_of(&visible(&text));
            pieces.texts.push(folded);
        }
        pieces
    }

    /// Whether a fragment of a secret is among them, forwards or backwards.
    #[must_use]
    pub fn has_piece_of(&self, secret: &str) -> bool {
        readings(secret)
            .any(|secret| self.has_letters_of(&folded(&secret)) || self.visible.has_one_of(&visible(&secret)))
    }

    fn has_letters_of(&self, secret: &[u8]) -> bool {
        if secret.len() >= FRAGMENT_LEN {
            return self.folded.has_one_of(secret);
        }
        let is_there = |piece: &[u8]| self.texts.iter().any(|text| text.windows(piece.len()).any(|part| part == piece));
        let backwards: Vec<u8> = secret.iter().rev().copied().collect();
        secret.len() >= LEAST && (is_there(secret) || is_there(&backwards))
    }
}

/// All windows of eight bytes, each in both directions.
#[derive(Debug)]
struct Windows {
    all: HashSet<u64>,
    /// Rejects nearly all windows that are not in `all`, faster than the set.
    filter: Vec<u64>,
}

impl Default for Windows {
    fn default() -> Self {
        Self { all: HashSet::new(), filter: vec![0; (1 << FILTER) / 64] }
    }
}

impl Windows {
    fn add_all_of(&mut self, text: &[u8]) {
        for window in of_bytes(text) {
            self.add(window);
            self.add(window.swap_bytes());
        }
    }

    fn add(&mut self, window: u64) {
        let (word, bit) = place(window);
        if let Some(word) = self.filter.get_mut(word) {
            *word |= bit;
        }
        self.all.insert(window);
    }

    fn has_one_of(&self, secret: &[u8]) -> bool {
        of_bytes(secret).any(|window| {
            let (word, bit) = place(window);
            self.filter.get(word).is_some_and(|word| word & bit != 0) && self.all.contains(&window)
        })
    }
}

fn of_bytes(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let mut window = 0_u64;
    bytes.iter().enumerate().filter_map(move |(index, byte)| {
        window = window << 8 | u64::from(*byte);
        (index + 1 >= FRAGMENT_LEN).then_some(window)
    })
}

/// The position of a window in the filter: the word and the bit in it.
fn place(window: u64) -> (usize, u64) {
    let hash = window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER);
    (usize::try_from(hash / 64).unwrap_or_default(), 1 << (hash % 64))
}

/// Whether one of the texts contains a mask with the beginning or the end of a secret: `abc***xyz`, `abc...`,
/// `****wxyz`.
#[must_use]
pub fn is_masked(texts: &[&str], secret: &str) -> bool {
    readings(secret)
        .map(|secret| folded(&secret))
        .any(|secret| secret.len() >= LEAST && texts.iter().any(|text| hides(text, &secret)))
}

fn hides(text: &str, secret: &[u8]) -> bool {
    let characters: Vec<char> = text.chars().collect();
    let mut index = 0;
    while index < characters.len() {
        let run = characters[index..].iter().take_while(|c| is_mask(**c)).count();
        if run == 0 {
            index += 1;
            continue;
        }
        let hidden = run >= 2 || characters[index] == '…';
        if hidden && (begins(&characters[..index], secret) || ends(&characters[index + run..], secret)) {
            return true;
        }
        index += run;
    }
    false
}

fn is_mask(c: char) -> bool {
    "*•●·…█▪■#.-_?xX".contains(c)
}

/// Whether the word before a mask ends with the beginning of a secret.
fn begins(before: &[char], secret: &[u8]) -> bool {
    let word: String = before.rsplit(|c| c.is_whitespace()).next().into_iter().flatten().collect();
    let word = folded(&word);
    (BESIDE_MASK..=FRAGMENT_LEN.min(word.len())).any(|length| secret.starts_with(&word[word.len() - length..]))
}

/// Whether the word after a mask begins with the end of a secret.
fn ends(after: &[char], secret: &[u8]) -> bool {
    let word: String = after.split(|c| c.is_whitespace()).next().into_iter().flatten().collect();
    let word = folded(&word);
    (BESIDE_MASK..=FRAGMENT_LEN.min(word.len())).any(|length| secret.ends_with(&word[..length]))
}
