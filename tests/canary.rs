//! The promise: nothing secret is shown anywhere. All that a whole test run has shown (logs with their panics, events, statuses,
//! leases, metrics, the output of `fetch`) is searched for every value of every Secret and every token that there was.
//!
//! `make test` keeps both in the folder that `CANARY_RECORD` names; this is what comes after all other tests.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// Keys of Secrets whose values are no secrets: they stand in specs, name somebody, or tell of a token what everybody
/// may know.
const PUBLIC: [&str; 13] = [
    "client_id",
    "clientId",
    "username",
    "quota",
    "tenant",
    "tls.crt",
    "ca.crt",
    "token_type",
    "expires_at",
    "scope",
    "instance_url",
    "namespace",
    "not-secret",
];
/// A shorter value is found by chance.
const SHORTEST: usize = 6;

fn main() -> ExitCode {
    let Some(folder) = std::env::var_os("CANARY_RECORD") else {
        eprintln!("canary: there is no record of a test run; it is what `make test` searches in the end");
        return ExitCode::from(2);
    };
    let record = Record::read(Path::new(&folder));
    let secrets = record.secrets();
    let search = Search::new(&secrets.long);
    search.finds_what_is_there(&secrets.long);
    let mut found = 0;
    println!("searched for {} secret values in {} ways", secrets.long.len(), WAYS.len());
    for (kind, text) in record.shown() {
        assert!(!text.is_empty(), "there is no record of {kind}: nothing was searched");
        let hits = search.hits(&text);
        println!("{kind:<10} {:>10} bytes, secrets found: {}", text.len(), hits.len());
        // One line for each value: where it was first.
        let firsts: BTreeMap<_, _> = hits.iter().rev().cloned().collect();
        firsts.iter().for_each(|(secret, line)| println!("  {secret:?} in: {line}"));
        found += hits.len();
    }
    println!("not searched for, since they are shorter than {SHORTEST} characters: {:?}", secrets.short);
    println!("canary result: {}. {found} found", if found == 0 { "ok" } else { "FAILED" });
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was kept.
struct Record {
    audit: Vec<Value>,
    texts: BTreeMap<String, String>,
}

#[derive(Default)]
struct Secrets {
    long: BTreeSet<String>,
    short: BTreeSet<String>,
}

impl Record {
    fn read(folder: &Path) -> Self {
        let text = |kind: &str| -> String {
            let files = std::fs::read_dir(folder.join(kind)).into_iter().flatten().flatten();
            files
                .filter_map(|file| std::fs::read(file.path()).ok())
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned() + "\n")
                .collect()
        };
        let audit = text("audit").lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let texts = ["logs", "metrics", "fetch", "given"].map(|kind| (kind.to_owned(), text(kind)));
        Self { audit, texts: texts.into() }
    }

    fn of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Value> {
        self.audit.iter().filter(move |event| event["objectRef"]["resource"] == resource)
    }

    /// Every value of every Secret that was written, the tokens of ServiceAccounts, and what was given to `fetch`.
    fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for event in self.of("secrets") {
            for body in [&event["requestObject"], &event["responseObject"]] {
                for (key, value) in body["data"].as_object().into_iter().flatten() {
                    let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
                    secrets.add(key, &String::from_utf8_lossy(&bytes));
                }
                for (key, value) in body["stringData"].as_object().into_iter().flatten() {
                    secrets.add(key, value.as_str().unwrap_or_default());
                }
            }
        }
        for event in self.of("serviceaccounts") {
            secrets.add("token", event["responseObject"]["status"]["token"].as_str().unwrap_or_default());
        }
        self.texts["given"].lines().for_each(|value| secrets.add("given", value));
        secrets
    }

    /// What others may read.
    fn shown(&self) -> Vec<(&str, String)> {
        let objects = |resource: &str| -> String {
            let by_operator = |event: &&Value| {
                event["user"]["username"].as_str().is_some_and(|name| name.starts_with("system:serviceaccount:"))
            };
            self.of(resource).filter(by_operator).map(|event| event["requestObject"].to_string() + "\n").collect()
        };
        vec![
            ("logs", self.texts["logs"].clone()),
            ("metrics", self.texts["metrics"].clone()),
            ("fetch", self.texts["fetch"].clone()),
            ("statuses", objects("oauthintegrations")),
            ("events", objects("events")),
            ("leases", objects("leases")),
        ]
    }
}

impl Secrets {
    fn add(&mut self, key: &str, value: &str) {
        let value = value.trim();
        if PUBLIC.contains(&key) || value.is_empty() {
            return;
        }
        if value.len() < SHORTEST { &mut self.short } else { &mut self.long }.insert(value.to_owned());
    }
}

type Way = fn(&str) -> String;

/// The ways in which a value may stand in a text.
const WAYS: [(&str, Way); 7] = [
    ("as it is", |value| value.to_owned()),
    ("as JSON", |value| Value::from(value).to_string().trim_matches('"').to_owned()),
    ("as a form", |value| url::form_urlencoded::byte_serialize(value.as_bytes()).collect()),
    ("percent-encoded", |value| {
        percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
    }),
    ("base64", |value| STANDARD_NO_PAD.encode(value)),
    ("base64 for URLs", |value| URL_SAFE_NO_PAD.encode(value)),
    ("hexadecimal", |value| hex::encode(value)),
];

struct Search {
    automaton: AhoCorasick,
    patterns: Vec<String>,
}

impl Search {
    fn new(secrets: &BTreeSet<String>) -> Self {
        let all: BTreeSet<String> = secrets.iter().flat_map(|secret| WAYS.map(|(_, write)| write(secret))).collect();
        let patterns: Vec<String> = all.into_iter().collect();
        Self { automaton: AhoCorasick::new(&patterns).expect("patterns"), patterns }
    }

    /// What is found, and the lines in which it is.
    fn hits(&self, text: &str) -> Vec<(String, String)> {
        let hit = |line: &str| {
            let found = self.automaton.find(line)?;
            Some((self.patterns[found.pattern().as_usize()].clone(), line.chars().take(400).collect()))
        };
        text.lines().filter_map(hit).collect()
    }

    /// A search that finds nothing where something is would be worth nothing.
    fn finds_what_is_there(&self, secrets: &BTreeSet<String>) {
        assert!(secrets.len() > 100, "{} secrets: the record is not one of a whole run", secrets.len());
        for secret in secrets {
            for (way, write) in WAYS {
                let line = format!("{{\"message\":\"it is {} indeed\"}}", write(secret));
                assert!(
                    !self.hits(&line.replace('\n', " ")).is_empty() || secret.contains('\n'),
                    "a secret that is written {way} is not found"
                );
            }
        }
    }
}
