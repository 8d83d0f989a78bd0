//! Guarantee: docs/fields.md describes every field of the CRDs. Those that users write have an example: of their description, or
//! else of another page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use test_support::docs::blocks;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All manifests of the documentation and the examples, those with the most general topics first.
fn manifests() -> Vec<Value> {
    let list = |directory: &str, extension: &str| {
        let entries = fs::read_dir(root().join(directory)).expect("a directory");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|found| found == extension));
        paths.sort();
        paths
    };
    let examples = list("examples", "yaml").into_iter().map(read);
    let pages = ["docs", "docs/providers"].into_iter().flat_map(|directory| list(directory, "md"));
    let blocks = pages.flat_map(|page| blocks(&page.display().to_string(), "yaml"));
    let texts: Vec<String> = examples.chain(blocks).collect();
    let documents = texts.iter().flat_map(|text| text.split("\n---"));
    documents
        .filter_map(|document| serde_saphyr::from_str::<Value>(document).ok())
        .filter(|document| document["kind"] == "OAuthIntegration")
        .collect()
}

/// The first value of each field. `[]` stands for the items of a list, `*` for the values of a map.
fn examples(schema: &Value, value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            if let Some(member) = value.get(name) {
                examples(schema, member, &format!("{path}.{name}"), found);
            }
        }
    } else if let (Some(items), "object") = (value.as_array(), schema["items"]["type"].as_str().unwrap_or_default()) {
        items.iter().for_each(|item| examples(&schema["items"], item, &format!("{path}[]"), found));
    } else {
        found.entry(path.to_owned()).or_insert_with(|| shortened(value));
    }
}

/// A value in one line of a table.
fn shortened(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(70).collect();
    let rest = if shown == text { "" } else { "…" };
    format!("`{}{rest}`", shown.replace('|', "\\|").replace('`', "'"))
}

fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn kind(schema: &Value) -> String {
    let name = schema["type"].as_str().unwrap_or("any");
    match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", kind(&schema["additionalProperties"]))
        }
        _ if schema["x-kubernetes-int-or-string"] == true => "integer or string".to_owned(),
        _ => name.to_owned(),
    }
}

/// The allowed values, as far as the schema has them.
fn values(schema: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(all) = schema["enum"].as_array() {
        let all: Vec<String> = all.iter().filter(|one| !one.is_null()).map(shortened).collect();
        parts.push(all.join(", "));
    }
    let bounds = [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "at least this many characters:"),
        ("maxLength", "at most this many characters:"),
        ("minItems", "at least this many items:"),
        ("maxItems", "at most this many items:"),
        ("maxProperties", "at most this many entries:"),
    ];
    for (name, words) in bounds {
        if !schema[name].is_null() && schema[name] != 0 {
            parts.push(format!("{words} {}", schema[name]));
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        parts.push(format!("`{}`", pattern.replace('|', "\\|")));
    }
    parts.join("; ")
}

/// The example in the description of a field: "Example: `value`".
fn own_example(description: &str) -> Option<String> {
    let (_, rest) = description.split_once("Example: `")?;
    Some(format!("`{}`", cell(rest.split('`').next()?)))
}

/// The default in the description of a field: "Default: value. "
fn own_default(description: &str) -> String {
    let rest = description.split_once("Default: ").map_or("", |(_, rest)| rest);
    let end = rest.find(". ").unwrap_or(rest.trim_end_matches('.').len());
    cell(&rest[..end])
}

/// The description of a field, with what it does not say about its default and its values.
fn meaning(field: &Value) -> String {
    let mut text = cell(field["description"].as_str().unwrap_or_default());
    if !field["default"].is_null() && own_default(&text).is_empty() {
        let _ = write!(text, " Default: {}.", shortened(&field["default"]));
    }
    let values = values(field);
    if !values.is_empty() {
        let _ = write!(text, " Values: {values}.");
    }
    text
}

/// The table of an object, and then those of the objects in it.
fn describe(schema: &Value, path: &str, found: &BTreeMap<String, String>, page: &mut String) {
    let _ = write!(page, "\n## {}\n\n", path.trim_start_matches('.'));
    if let Some(description) = schema["description"].as_str() {
        let _ = write!(page, "{}\n\n", cell(description));
    }
    page.push_str("| field | meaning | example |\n|---|---|---|\n");
    let empty = serde_json::Map::new();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut nested = Vec::new();
    for (name, field) in schema["properties"].as_object().unwrap_or(&empty) {
        let inner = if field["items"]["properties"].is_object() { &field["items"] } else { field };
        let inner_path = format!("{path}.{name}{}", if inner == field { "" } else { "[]" });
        let description = field["description"].as_str().unwrap_or_default().to_owned();
        let example = match inner["properties"].is_object() {
            true => {
                let anchor = inner_path.trim_start_matches('.').to_lowercase().replace(['.', '[', ']'], "");
                nested.push((inner, inner_path));
                format!("[its fields](#{anchor})")
            }
            false => own_example(&description).or_else(|| found.get(&inner_path).cloned()).unwrap_or_default(),
        };
        let is_required = if required.contains(&name.as_str()) { ", required" } else { "" };
        let _ = writeln!(page, "| `{name}`<br>{}{is_required} | {} | {example} |", kind(field), meaning(field));
    }
    for (schema, path) in nested {
        describe(schema, &path, found, page);
    }
}

/// The fields of a provider: those of an integration, of which the sections above have the members.
fn describe_provider(spec: &Value, namespaced: &Value, page: &mut String) {
    page.push_str("\n| field | meaning | members |\n|---|---|---|\n");
    for (name, field) in spec["properties"].as_object().into_iter().flatten() {
        let kinds = if namespaced["properties"][name].is_null() { ", only `ClusterOAuthProvider`" } else { "" };
        let members = match (field["properties"].is_object(), name.as_str()) {
            (_, "allow") => "[its fields](#specallow)".to_owned(),
            (true, _) => format!("[as above](#spec{})", name.to_lowercase()),
            (false, _) => String::new(),
        };
        let _ = writeln!(page, "| `{name}`<br>{}{kinds} | {} | {members} |", kind(field), meaning(field));
    }
}

/// All fields of a status, with those of its objects.
fn describe_status(schema: &Value, path: &str, page: &mut String) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let description = cell(field["description"].as_str().unwrap_or_default());
        let _ = writeln!(page, "| `{path}{name}`<br>{} | {description} |", kind(field));
        describe_status(&field["items"], &format!("{path}{name}[]."), page);
        describe_status(field, &format!("{path}{name}."), page);
    }
}

/// The schema of a kind.
fn schema(plural: &str) -> Value {
    let crd: Value = serde_saphyr::from_str(&read(format!("crds/{plural}.yaml"))).expect("YAML");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].clone()
}

fn generate() -> (String, Vec<String>) {
    let integration = schema("oauthintegrations");
    let spec = &integration["spec"];
    let mut found = BTreeMap::new();
    for manifest in manifests() {
        examples(spec, &manifest["spec"], ".spec", &mut found);
    }
    let mut page = "# Fields\n\nEvery field of the three kinds. Generated from the CRDs by `make crds`; `kubectl explain` shows the same. \
                    [grants.md](grants.md)\nexplains which fields belong together.\n\n\
                    - [OAuthIntegration: spec](#spec), [status](#status)\n\
                    - [OAuthProvider and ClusterOAuthProvider: spec](#providers), [status](#status-of-a-provider)\n"
        .to_owned();
    describe(spec, ".spec", &found, &mut page);
    page.push_str("\n## status\n\n| field | meaning |\n|---|---|\n");
    describe_status(&integration["status"], "status.", &mut page);
    let (cluster, namespaced) = (schema("clusteroauthproviders"), schema("oauthproviders"));
    page.push_str(
        "\n# Providers\n\nThe fields of `OAuthProvider` and `ClusterOAuthProvider` are those of an integration with the same names and \
         meaning. [oauth-providers.md](oauth-providers.md#what-belongs-to-whom) says which of them an integration with \
         `providerRef` can have besides.\n",
    );
    describe_provider(&cluster["spec"], &namespaced["spec"], &mut page);
    let mut rules = String::new();
    describe(&cluster["spec"]["properties"]["allow"]["items"], ".spec.allow[]", &found, &mut rules);
    page.push_str(&rules);
    page.push_str("\n## status of a provider\n\n| field | meaning |\n|---|---|\n");
    describe_status(&cluster["status"], "status.", &mut page);
    // Those with a column for an example.
    let mut of_specs = String::new();
    describe(spec, ".spec", &found, &mut of_specs);
    let rows = of_specs.lines().chain(rules.lines());
    let missing =
        rows.filter(|line| line.starts_with("| `") && line.ends_with("|  |")).map(ToOwned::to_owned).collect();
    (page, missing)
}

#[test]
fn the_field_reference_is_up_to_date_and_each_field_has_an_example() {
    let (page, missing) = generate();
    let file = root().join("docs/fields.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &page).expect("docs/fields.md");
    }
    assert_eq!(read("docs/fields.md"), page, "docs/fields.md is not up to date: run make crds");
    assert_eq!(missing, Vec::<String>::new(), "no page and no example uses these fields");
}
