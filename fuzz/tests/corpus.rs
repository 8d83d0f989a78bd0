//! Every input of the corpora keeps its promises: those of fuzz/corpus, and those of the folder that `FUZZ_CORPUS` names, which
//! fuzzing has found.

use std::fs;
use std::path::{Path, PathBuf};

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 9] = [
    ("durations", oauth_operator_fuzz::durations),
    ("endpoint_gate", oauth_operator_fuzz::endpoint_gate),
    ("expression", oauth_operator_fuzz::expression),
    ("jwt_exp", oauth_operator_fuzz::jwt_exp),
    ("keys", oauth_operator_fuzz::keys),
    ("metadata", oauth_operator_fuzz::metadata),
    ("redaction", oauth_operator_fuzz::redaction),
    ("response", oauth_operator_fuzz::response),
    ("spec_to_request", oauth_operator_fuzz::spec_to_request),
];

#[test]
fn every_input_keeps_its_promises() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let found = std::env::var_os("FUZZ_CORPUS").map(PathBuf::from);
    for (name, target) in TARGETS {
        let inputs = [Some(own.join(name)), found.as_ref().map(|found| found.join(name))];
        let files: Vec<_> =
            inputs.iter().flatten().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten().collect();
        assert!(files.len() > 5, "{name} has no corpus");
        for file in &files {
            target(&fs::read(file.path()).expect("an input"));
        }
        println!("{name}: {} inputs", files.len());
    }
}
