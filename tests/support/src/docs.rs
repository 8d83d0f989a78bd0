//! The documentation as the tests read it.

use std::fs;

use crate::tools;

/// The fenced blocks of a language in a Markdown file of the project, without their indentation.
pub fn blocks(file: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(tools::root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut found = Vec::new();
    let mut current: Option<(usize, bool, String)> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        match (&mut current, trimmed.strip_prefix("```")) {
            (None, Some(info)) => current = Some((line.len() - trimmed.len(), info == language, String::new())),
            (Some(_), Some(_)) => {
                let (_, is_wanted, block) = current.take().expect("an open block");
                found.extend(is_wanted.then_some(block));
            }
            (Some((indentation, _, block)), None) => {
                block.push_str(line.get(*indentation..).unwrap_or_default());
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(current.is_none(), "{file}: a block is not closed");
    found
}
