//! Guarantee: the documentation site contains every page, once. `make lint` builds it, and checks the links and anchors of what
//! was built (`hack/site-links`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use oauth_operator::api::reason::Reason;
use test_support::tools;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_summary_lists_every_page_once() {
    let listed = Command::new("git").args(["ls-files", "docs/*.md"]).current_dir(root()).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("names");
    let pages: BTreeSet<&str> = names.lines().filter(|name| *name != "docs/SUMMARY.md").collect();
    let summary = read("docs/SUMMARY.md");
    let links = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links: Vec<String> = links.map(|link| format!("docs/{link}")).collect();
    let unique: BTreeSet<&str> = links.iter().map(String::as_str).collect();
    assert_eq!(unique.len(), links.len(), "a page is listed twice");
    assert_eq!(unique, pages);
    // Those of reasons in the order of their definition.
    let reasons: Vec<&str> =
        links.iter().filter_map(|link| link.strip_prefix("docs/reasons/")?.strip_suffix(".md")).collect();
    assert_eq!(reasons, Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>());
}

/// Pages link to other files of the repository by their address, because the site does not contain them.
#[test]
fn links_into_the_repository_lead_somewhere() {
    let listed = Command::new("git").args(["ls-files", "*.md"]).current_dir(root()).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("names");
    let mut count = 0;
    for name in names.lines() {
        let text = read(name);
        for kind in ["blob", "tree"] {
            let start = format!("https://github.com/{}/oauth-operator/{kind}/main/", tools::owner());
            for rest in text.split(&start).skip(1) {
                let path = rest.split([')', '#', '>', ' ', '\n']).next().unwrap_or_default();
                assert!(root().join(path).exists(), "{name}: {path} does not exist");
                count += 1;
            }
        }
    }
    assert!(count > 5, "only {count} links were found");
}
