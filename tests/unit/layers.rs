//! Guarantee: the directories of `src/` depend on each other in one direction only, and there is no dependency cycle
//! between files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up: a file may use its own directory and the directories listed before it.
const LAYERS: &[&str] = &[
    "clock",
    "fingerprint",
    "failpoints",
    "hardening",
    "error_report",
    "api",
    "limiter",
    "oauth",
    "target",
    "spec",
    "decision",
    "acquisition",
    "kube_api",
    "election",
    "controller",
    "cli",
    "main",
];

/// Paths that the files of a directory must not use: pure directories do not read a clock or make calls, and `oauth`
/// does not depend on Kubernetes.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("api", &["tokio::", "kube::Client", "kube::client"]),
    ("decision", &["tokio::", "kube::Client", "kube::client", "Timestamp::now", "Instant::now", "SystemTime::now"]),
    ("oauth", &["kube::", "k8s_openapi::"]),
    ("spec", &["tokio::", "kube::Client", "kube::client", "Timestamp::now"]),
    ("target", &["tokio::", "kube::Client", "kube::client", "Timestamp::now"]),
];

struct Source {
    module: String,
    /// The code without comments and without the tests at the end.
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn paths(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            paths(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    paths(&root(), &mut all);
    all.sort();
    let source = |path: &PathBuf| {
        let name =
            path.strip_prefix(root()).expect("below src").with_extension("").to_string_lossy().replace('/', "::");
        let text = fs::read_to_string(path).expect("a source");
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        let text = code.split("#[cfg(test)]\n#[expect").next().unwrap_or_default().to_owned();
        Source { module: name.trim_end_matches("::mod").to_owned(), text }
    };
    let sources: Vec<Source> =
        all.iter().filter(|path| !path.ends_with("tests.rs") && !path.ends_with("lib.rs")).map(source).collect();
    assert!(sources.len() > 100, "the sources were found: {}", sources.len());
    sources
}

/// `use crate::a::{b, c::d};` as `a::b` and `a::c::d`.
fn imports(text: &str) -> Vec<String> {
    let flat = text.replace('\n', " ");
    flat.split("use crate::")
        .skip(1)
        .filter_map(|rest| rest.split_once(';'))
        .flat_map(|(tree, _)| expand("", tree))
        .collect()
}

fn expand(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{').filter(|(_, rest)| rest.ends_with('}')) else {
        return if tree.is_empty() { Vec::new() } else { vec![format!("{prefix}{tree}")] };
    };
    let (mut depth, mut part, mut all) = (0, String::new(), Vec::new());
    for c in rest[..rest.len() - 1].chars().chain([',']) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                all.extend(expand(&format!("{prefix}{head}"), &part));
                part.clear();
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    all
}

fn layer(module: &str) -> usize {
    let first = module.split("::").next().unwrap_or_default();
    LAYERS
        .iter()
        .position(|layer| *layer == first)
        .unwrap_or_else(|| panic!("{module} is not in a layer: add it to LAYERS"))
}

/// The files that each file uses.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for Source { module, text } in &sources {
        let uses = graph.entry(module.clone()).or_default();
        for import in imports(text) {
            // An import is a file, or an item in one.
            let prefixes = import.match_indices("::").map(|(end, _)| &import[..end]).chain([import.as_str()]);
            let used = prefixes.filter(|path| modules.contains(path)).last();
            let used = used.unwrap_or_else(|| panic!("{module} uses {import}, which is not in any file"));
            if used != module {
                uses.insert(used.to_owned());
            }
        }
    }
    graph
}

#[test]
fn a_layer_uses_only_the_layers_below_it() {
    let mut wrong = Vec::new();
    for (module, uses) in graph() {
        wrong.extend(
            uses.iter().filter(|used| layer(used) > layer(&module)).map(|used| format!("{module} uses {used}")),
        );
    }
    assert!(wrong.is_empty(), "upward: {wrong:#?}");
}

#[test]
fn files_have_no_dependency_cycle() {
    let graph = graph();
    let mut done = BTreeSet::new();
    for module in graph.keys() {
        visit(module, &graph, &mut Vec::new(), &mut done);
    }
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    println!("{} files, {edges} edges, no cycle", graph.len());
}

fn visit<'a>(
    module: &'a str,
    graph: &'a BTreeMap<String, BTreeSet<String>>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) {
    assert!(!path.contains(&module), "a cycle: {} -> {module}", path.join(" -> "));
    if done.contains(module) {
        return;
    }
    path.push(module);
    for next in graph.get(module).into_iter().flatten() {
        visit(next, graph, path, done);
    }
    path.pop();
    done.insert(module);
}

#[test]
fn crate_paths_are_only_in_use_lines() {
    let mut wrong = Vec::new();
    for Source { module, text } in sources() {
        let mut in_use = false;
        for line in text.lines() {
            let line = line.trim();
            in_use |= line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
            if !in_use && (line.contains("crate::") || line.contains("super::")) {
                wrong.push(format!("{module}: {line}"));
            }
            in_use &= !line.ends_with(';');
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_directories_do_not_read_a_clock_or_make_calls() {
    let mut wrong = Vec::new();
    for Source { module, text } in sources() {
        let dir = module.split("::").next().unwrap_or_default();
        for (_, forbidden) in FORBIDDEN.iter().filter(|(of, _)| *of == dir) {
            let found = text.lines().filter(|line| forbidden.iter().any(|word| names(line, word)));
            wrong.extend(found.map(|line| format!("{module}: {}", line.trim())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Advice about the spec belongs to `spec::advice`: the `oauth` module does not know where its values come from.
#[test]
fn messages_of_oauth_do_not_name_spec_fields() {
    let mut wrong = Vec::new();
    for Source { module, text } in sources().into_iter().filter(|source| source.module.starts_with("oauth")) {
        let in_literals = text.split('"').skip(1).step_by(2).filter(|literal| literal.contains("spec."));
        wrong.extend(in_literals.map(|literal| format!("{module}: {literal}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a line names a path: `kube::` is not in `crate::kube_api::`.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
    })
}
