//! Guarantee: no output contains a secret. All output of a whole test run (logs including panics, events, statuses,
//! leases, metrics, the output of `fetch`) is searched for every value of every Secret and every token.
//!
//! `make test` records both in the directory `CANARY_RECORD`; this test runs after all others.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// Keys of Secrets whose values are not secret: they are also in specs, are names, or describe a token without
/// revealing it.
const PUBLIC: [&str; 15] = [
    "type",
    "ends",
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
/// The beginning of keys that tests use for other values that are not secret, such as those that describe a token.
const NOT_SECRET: &str = "not-secret-";
/// What a pull secret contains as long as there is only a refresh token.
const EMPTY_OBJECT: &str = "{}";
/// The type of the Secrets in which Helm stores its releases.
const HELM_RELEASE: &str = "helm.sh/release.v1";
/// A shorter value would be found by chance: the tests must not use one.
const MIN_LENGTH: usize = 6;
/// Markers in secret values of the tests that do not occur elsewhere.
const MARKS: [&str; 2] = ["kanarie-", "KANARIENVOGEL"];
/// Each fragment of this length of a long value is searched for.
const PIECE: usize = 32;

fn main() -> ExitCode {
    let Some(dir) = std::env::var_os("CANARY_RECORD") else {
        eprintln!("canary: there is no record of a test run; `make test` creates one and searches it at the end");
        return ExitCode::from(2);
    };
    let record = Record::read(Path::new(&dir));
    let secrets = record.secrets();
    let search = Search::new(&secrets.long);
    Search::works();
    assert!(secrets.long.len() > 1_000, "{} secrets: this is not the record of a whole run", secrets.long.len());
    assert!(secrets.short.is_empty(), "these values of tests are too short to be searched for: {:?}", secrets.short);
    let mut found = 0;
    println!("searched for {} secret values in {} ways", secrets.long.len(), WAYS.len());
    for (kind, text) in record.shown() {
        assert!(!text.is_empty(), "there is no record of {kind}: nothing was searched");
        let hits = search.hits(&text);
        println!("{kind:<10} {:>10} bytes, secrets found: {}", text.len(), hits.len());
        // One line per value: the first occurrence.
        let firsts: BTreeMap<_, _> = hits.iter().rev().cloned().collect();
        firsts.iter().for_each(|(secret, line)| println!("  {secret:?} in: {line}"));
        found += hits.len();
    }
    println!("canary result: {}. {found} found", if found == 0 { "ok" } else { "FAILED" });
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The record of a test run.
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
    fn read(dir: &Path) -> Self {
        let files = |kind: &str| -> Vec<String> {
            let files = std::fs::read_dir(dir.join(kind)).into_iter().flatten();
            let files = files.map(|file| file.expect("a file of the record").path());
            let kept = files.filter(|path| path.extension().is_none());
            kept.map(|path| String::from_utf8_lossy(&std::fs::read(path).expect("a file of the record")).into_owned())
                .collect()
        };
        let audit = files("audit").iter().flat_map(|text| events(text)).collect();
        let texts =
            ["logs", "metrics", "traces", "fetch", "given"].map(|kind| (kind.to_owned(), files(kind).join("\n")));
        Self { audit, texts: texts.into() }
    }

    fn of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Value> {
        self.audit.iter().filter(move |event| event["objectRef"]["resource"] == resource)
    }

    /// Every value of every Secret that was written, the tokens of ServiceAccounts, and the input of `fetch`.
    fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for event in self.of("secrets") {
            // Helm's own, with the rendered chart, which the operator never reads: half a megabyte for each run.
            let by_helm = |body: &&Value| body["metadata"]["labels"]["owner"] == "helm" && body["type"] == HELM_RELEASE;
            for body in [&event["requestObject"], &event["responseObject"]].into_iter().filter(|body| !by_helm(body)) {
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

    /// The output that must not contain secrets.
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
            ("traces", self.texts["traces"].clone()),
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
        let is_public = PUBLIC.contains(&key) || key.starts_with(NOT_SECRET) || value == EMPTY_OBJECT;
        if is_public || value.is_empty() {
            return;
        }
        if value.len() < MIN_LENGTH { &mut self.short } else { &mut self.long }.insert(value.to_owned());
    }
}

type Way = fn(&str) -> Vec<String>;

/// The events in the audit log of an API server. The last line may be incomplete because the server is killed.
fn events(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let event = |line: &str| serde_json::from_str(&shallow(line)).unwrap_or_else(|error| panic!("{error} in {line}"));
    whole.lines().map(event).collect()
}

/// A line of JSON without the values that are nested too deep for parsers: attack tests write them, and they contain no
/// value of a Secret.
fn shallow(line: &str) -> String {
    const MAX_DEPTH: usize = 100;
    let (mut kept, mut depth, mut in_string, mut escaped) = (String::with_capacity(line.len()), 0_usize, false, false);
    for next in line.chars() {
        let opens = !in_string && matches!(next, '[' | '{');
        let closes = !in_string && matches!(next, ']' | '}');
        depth += usize::from(opens);
        if depth == MAX_DEPTH + 1 && opens {
            kept.push_str("null");
        }
        if depth <= MAX_DEPTH {
            kept.push(next);
        }
        depth -= usize::from(closes);
        if in_string {
            (in_string, escaped) = (escaped || next != '"', !escaped && next == '\\');
        } else {
            in_string = next == '"';
        }
    }
    kept
}

/// The encodings of a value in a text.
const WAYS: [(&str, Way); 7] = [
    ("plain", |value| vec![value.to_owned()]),
    ("as JSON", |value| vec![Value::from(value).to_string().trim_matches('"').to_owned()]),
    ("as a form", |value| vec![url::form_urlencoded::byte_serialize(value.as_bytes()).collect()]),
    ("percent-encoded", |value| {
        let all = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string();
        vec![all.clone(), all.to_ascii_lowercase()]
    }),
    ("base64", |value| inside(value, |bytes| STANDARD_NO_PAD.encode(bytes))),
    ("base64 for URLs", |value| inside(value, |bytes| URL_SAFE_NO_PAD.encode(bytes))),
    ("hexadecimal", |value| vec![hex::encode(value), hex::encode_upper(value)]),
];

/// Base64 of data that contain a value, at each of the three offsets, without the characters that depend on adjacent
/// data.
fn inside(value: &str, encode: fn(&[u8]) -> String) -> Vec<String> {
    let at = |before: usize| {
        let bytes = [&[0; 2][..before], value.as_bytes()].concat();
        let text = encode(&bytes);
        let (begin, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        text[begin..end].to_owned()
    };
    (0..3).map(at).collect()
}

/// The search patterns of a value: fragments of a long value, which may be truncated in the text, and each line of a
/// value with several lines.
fn pieces(value: &str) -> Vec<String> {
    let lines = value.lines().filter(|line| line.len() >= PIECE / 2 && !line.starts_with("-----"));
    let characters: Vec<char> = value.chars().collect();
    let cut = characters.chunks_exact(PIECE).map(|piece| piece.iter().collect::<String>());
    let parts: Vec<String> = cut.chain(lines.map(ToOwned::to_owned)).collect();
    if characters.len() > 2 * PIECE || value.contains('\n') { parts } else { vec![value.to_owned()] }
}

struct Search {
    automaton: AhoCorasick,
    patterns: Vec<String>,
}

impl Search {
    fn new(secrets: &BTreeSet<String>) -> Self {
        let marks = MARKS.map(ToOwned::to_owned);
        let pieces = secrets.iter().flat_map(|secret| pieces(secret)).chain(marks);
        let all: BTreeSet<String> = pieces.flat_map(|piece| WAYS.map(|(_, write)| write(&piece))).flatten().collect();
        let patterns: Vec<String> = all.into_iter().collect();
        Self { automaton: AhoCorasick::new(&patterns).expect("patterns"), patterns }
    }

    /// The values that were found, and the lines that contain them.
    fn hits(&self, text: &str) -> Vec<(String, String)> {
        let hit = |line: &str| {
            let found = self.automaton.find(line)?;
            Some((self.patterns[found.pattern().as_usize()].clone(), line.chars().take(400).collect()))
        };
        text.lines().filter_map(hit).collect()
    }

    /// Checks the search itself, with inputs that were encoded by hand and not with the code above.
    fn works() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.".to_owned() + &"abcdefghijklmnopqrstuvwxyz0123456789".repeat(10);
        let pem =
            "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----";
        let secrets = ["made/by+hand=1", &jwt, pem].map(ToOwned::to_owned);
        let search = Self::new(&secrets.into());
        let lines = [
            "it is made/by+hand=1, indeed",
            "made%2fby%2bhand%3d1",
            "made%2Fby%2Bhand%3D1",
            // client:made/by+hand=1, then without its first character, and without its first two.
            "Basic Y2xpZW50Om1hZGUvYnkraGFuZD0x",
            "Basic bGllbnQ6bWFkZS9ieStoYW5kPTE=",
            "Basic aWVudDptYWRlL2J5K2hhbmQ9MQ==",
            "6d6164652f62792b68616e643d31",
            "6D6164652F62792B68616E643D31",
            r#"{"key":"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n"}"#,
            "  MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
            "kanarie-anything",
        ];
        for line in lines.map(ToOwned::to_owned).into_iter().chain([format!("the token {}…", &jwt[5..200])]) {
            assert_eq!(search.hits(&line).len(), 1, "not found: {line}");
        }
        assert_eq!(search.hits("made by hand, which is another thing"), []);
    }
}
