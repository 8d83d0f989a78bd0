//! Guarantee: no link of the documentation leads nowhere, each table is one on GitHub, and what pages count is counted
//! correctly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files of the project, each without its fenced blocks.
fn pages() -> Vec<(PathBuf, String)> {
    let listed = Command::new("git").args(["ls-files", "*.md"]).current_dir(root()).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("names");
    names.lines().map(|name| (PathBuf::from(name), without_blocks(&read(name)))).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn without_blocks(text: &str) -> String {
    let mut is_block = false;
    let mut kept = String::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_block ^= is_fence;
        if !is_block && !is_fence {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// The anchors of the headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let kept = |c: char| c.is_alphanumeric() || "-_ ".contains(c);
        line.trim_start_matches('#').trim().to_lowercase().replace(|c| !kept(c), "").replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The targets of the links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut count = 0;
    for (page, text) in &pages {
        for link in links(text).filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(page),
                path => root().join(page).parent().expect("a directory").join(path),
            };
            assert!(target.exists(), "{}: {link} does not exist", page.display());
            if !anchor.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let found = anchors(&without_blocks(&read(&target)));
                assert!(found.contains(anchor), "{}: {link} has no such heading", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 100, "only {count} links were found");
}

#[test]
fn every_table_has_a_header() {
    for (page, text) in pages() {
        let mut previous = "";
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.starts_with('|') && !previous.starts_with('|') {
                let next = lines.peek().copied().unwrap_or_default();
                let is_separator = next.starts_with("|-") && next.chars().all(|c| "|-: ".contains(c));
                assert!(is_separator, "{}: rows without a header: {line}", page.display());
            }
            previous = line;
        }
    }
}

/// The numbers above the table of providers are those of its rows.
#[test]
fn the_coverage_of_providers_is_counted_correctly() {
    let page = read("docs/providers-coverage.md");
    let mut providers: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| provider ")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [name, verdict, _] = cells[..] else { panic!("not three cells: {line}") };
        let number = name.trim_start_matches("| ").split_once(". ").and_then(|(number, _)| number.parse().ok());
        providers.entry(number.unwrap_or_else(|| panic!("no number: {line}"))).or_default().push(verdict);
    }
    let count = |verdict: &str| providers.values().flatten().filter(|found| **found == verdict).count();
    let (yes, partly, no) = (count("yes"), count("partly"), count("no"));
    let rows: usize = providers.values().map(Vec::len).sum();
    assert_eq!(yes + partly + no, rows, "another verdict");
    let that = |is: fn(&[&str]) -> bool| providers.values().filter(|verdicts| is(verdicts)).count();
    let expressible = that(|verdicts| verdicts.contains(&"yes"));
    let entirely = that(|verdicts| verdicts.iter().all(|verdict| *verdict == "yes"));
    let none = that(|verdicts| verdicts.iter().all(|verdict| *verdict == "no"));
    let total = providers.len();
    assert_eq!(providers.keys().copied().collect::<Vec<_>>(), (1..=total).collect::<Vec<_>>(), "the numbers");
    let doubtful = total - expressible - none;
    for expected in [
        format!("{rows} rows: {yes} `yes`, {partly} `partly`, {no} `no`."),
        format!(
            "{total} providers: {expressible} expressible, {entirely} of them in every way that is listed; \
             {doubtful} only in part or with a doubt; {none} not."
        ),
        format!("{total} providers and groups of providers"),
    ] {
        assert!(page.contains(&expected), "the page does not say: {expected}");
    }
    assert!(expressible >= 68, "only {expressible} providers are expressible");
}

/// The threat model names the tests that cover it; a long name may end with an ellipsis.
#[test]
fn every_test_that_the_threat_model_names_exists() {
    let listed =
        Command::new("git").args(["ls-files", "tests/*.rs", "src/*.rs"]).current_dir(root()).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("names");
    let sources: String = names.lines().map(read).collect();
    let model = read("docs/threat-model.md");
    let quoted = model.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c);
        name.matches('_').count() >= 3 && name.chars().all(is_name) && !name.starts_with("oauth_operator_")
    };
    let named: Vec<&str> = quoted.filter(is_test).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let begins = format!("fn {}", name.trim_end_matches('…'));
        assert!(sources.contains(&begins), "docs/threat-model.md names the test {name}, which does not exist");
    }
}
