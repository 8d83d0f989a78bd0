//! Guarantee: who publishes is set in one place, and the workflows do what a developer can do.

use std::fs;
use std::path::Path;
use std::process::Command;

use test_support::tools;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of the project; those that are not text are left out.
fn files() -> Vec<(String, String)> {
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("names");
    let files = names.lines().filter_map(|name| Some((name.to_owned(), fs::read_to_string(root().join(name)).ok()?)));
    files.collect()
}

#[test]
fn all_references_name_the_owner_of_the_makefile() {
    let owner = tools::owner();
    let mut count = 0;
    for (name, text) in files() {
        for host in ["ghcr.io/", "github.com/", "raw.githubusercontent.com/"] {
            for (at, _) in text.match_indices(host) {
                let path = &text[at + host.len()..];
                let mut parts = path.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
                let (found, project) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                if project == "oauth-operator" {
                    assert_eq!(found, owner, "{name} names another owner; run: make owner OWNER={owner}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 10, "only {count} references were found");
    assert_eq!(
        env!("CARGO_PKG_HOMEPAGE"),
        format!("https://{owner}.github.io/oauth-operator"),
        "the documentation site"
    );
}

#[test]
fn workflows_run_make_targets_only() {
    let makefile = read("Makefile");
    for entry in fs::read_dir(root().join(".github/workflows")).expect("the workflows") {
        let name = format!(".github/workflows/{}", entry.expect("a workflow").file_name().to_string_lossy());
        let text = read(&name);
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("- run: ")) {
            let target = line
                .strip_prefix("sudo --preserve-env=HOME,PATH,RUSTUP_TOOLCHAIN ")
                .unwrap_or(line)
                .strip_prefix("make ");
            let Some(target) = target.and_then(|rest| rest.split(' ').next()) else {
                // Returns the cache to the user of the runner.
                assert!(line.starts_with("sudo chown "), "{name}: {line}");
                continue;
            };
            assert!(makefile.contains(&format!("\n{target}:")), "{name}: there is no target {target}");
        }
        // Tags of actions can be moved to another commit.
        for action in text.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
            let commit = action.split(['@', ' ']).nth(1).unwrap_or_default();
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {action}");
        }
    }
}

#[test]
fn the_changelog_has_the_version() {
    let heading = format!("\n## {}", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading), "CHANGELOG.md has no section {heading}; run make version");
}
