//! The documentation as the tests read it.

use std::fs;

use crate::tools;

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The last line of text before it.
    pub title: String,
    /// Its language.
    pub language: String,
    /// Its content, without its indentation.
    pub text: String,
}

/// The fenced blocks of a language in a Markdown file of the project.
pub fn blocks(file: &str, language: &str) -> Vec<String> {
    let of_language = all_blocks(file).into_iter().filter(|block| block.language == language);
    of_language.map(|block| block.text).collect()
}

/// All fenced blocks of a Markdown file of the project, in order.
pub fn all_blocks(file: &str) -> Vec<Block> {
    let text = fs::read_to_string(tools::root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut found = Vec::new();
    let mut title = String::new();
    let mut current: Option<(usize, Block)> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        match (&mut current, trimmed.strip_prefix("```")) {
            (None, Some(info)) => {
                let block = Block { title: title.clone(), language: info.to_owned(), text: String::new() };
                current = Some((line.len() - trimmed.len(), block));
            }
            (Some(_), Some(_)) => found.extend(current.take().map(|(_, block)| block)),
            (Some((indentation, block)), None) => {
                block.text.push_str(line.get(*indentation..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) if trimmed.is_empty() => {}
            (None, None) => trimmed.clone_into(&mut title),
        }
    }
    assert!(current.is_none(), "{file}: a block is not closed");
    found
}
