//! Guarantee: docs/reference.md has every flag of `run` with its environment variable, and every annotation.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use oauth_operator::cli::args::Cli;

const REFERENCE: &str = include_str!("../../docs/reference.md");

#[test]
fn every_flag_and_its_environment_variable_is_in_the_reference() {
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("run");
    let mut count = 0;
    for argument in run.get_arguments().filter(|argument| argument.get_id() != "help") {
        let flag = argument.get_long().expect("a long name");
        let is_listed = [" ", "`", "="].iter().any(|end| REFERENCE.contains(&format!("`--{flag}{end}")));
        assert!(is_listed, "--{flag} is not in the reference");
        let variable = argument.get_env().expect("an environment variable").to_string_lossy();
        assert!(REFERENCE.contains(&format!("`{variable}`")), "{variable} is not in the reference");
        count += 1;
    }
    assert!(count > 30, "only {count} flags were found");
}

#[test]
fn every_annotation_is_in_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git").args(["ls-files", "src/*.rs"]).current_dir(root).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("names");
    let sources: Vec<String> = names.lines().map(|name| fs::read_to_string(root.join(name)).expect("a file")).collect();
    let (_, annotations) = REFERENCE.split_once("\n## Annotations\n").expect("the section");
    let mut count = 0;
    for rest in sources.iter().flat_map(|source| source.split("\"oauth.evolutionx.io/").skip(1)) {
        let name = rest.split('"').next().unwrap_or_default();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            continue;
        }
        let is_listed = annotations.contains(&format!("`oauth.evolutionx.io/{name}`"))
            || annotations.contains(&format!(" `{name}`"));
        assert!(is_listed, "{name} is not in the reference");
        count += 1;
    }
    assert!(count > 30, "only {count} annotations were found");
}
