//! The messages of the operator that only occur with a real cluster. End-to-end tests record them in
//! `tests/messages.json`, from which docs/reasons is generated.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::tools;

/// A message, and what causes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// The reason of the condition.
    pub reason: String,
    /// What is wrong.
    pub mistake: String,
    /// What users read.
    pub message: String,
}

/// All recorded messages.
pub fn recorded() -> Vec<Message> {
    let text = std::fs::read_to_string(tools::root().join("tests/messages.json")).expect("tests/messages.json");
    let all: Vec<Value> = serde_json::from_str(&text).expect("tests/messages.json is JSON");
    let of = |value: &Value| {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Message { reason: text("reason"), mistake: text("mistake"), message: text("message") }
    };
    all.iter().map(of).collect()
}

/// Asserts that this message is recorded. With `UPDATE_DOCS`, it is recorded instead.
pub fn assert_recorded(reason: &str, mistake: &str, message: &str) {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let own = Message { reason: reason.to_owned(), mistake: mistake.to_owned(), message: message.to_owned() };
    let mut all = recorded();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        all.retain(|other| (&other.reason, &other.mistake) != (&own.reason, &own.mistake));
        all.push(own.clone());
        all.sort();
        let to = |one: &Message| json!({"reason": one.reason, "mistake": one.mistake, "message": one.message});
        let text = serde_json::to_string_pretty(&all.iter().map(to).collect::<Vec<_>>()).expect("JSON") + "\n";
        std::fs::write(tools::root().join("tests/messages.json"), text).expect("tests/messages.json");
    }
    assert!(all.contains(&own), "{own:?} is not recorded: UPDATE_DOCS=1 cargo test --test it, then make crds");
}

/// The message of a condition without the address of the page about its reason.
pub fn without_page(message: &str) -> &str {
    let Some((text, page)) = message.rsplit_once("; see https://") else { return message };
    let is_page = |page: &str| page.chars().all(|c| c.is_ascii_alphabetic());
    assert!(page.rsplit_once("/reasons/").is_some_and(|(_, page)| is_page(page)), "not a page: {message}");
    text
}
