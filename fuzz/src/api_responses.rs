//! A response of the API server with an untrusted object. The input: `list`, `watch` or `get`, the size of the chunks
//! in which it arrives, and the text, each on its own line.

use oauth_operator::kube_api::filter::Filter;
use oauth_operator::kube_api::filter::types::Framing;
use oauth_operator::kube_api::rules::{MAX_DEPTH, Rules};
use serde_json::Value;

/// Filters a response.
pub fn api_responses(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (Some(kind), Some(size), Some(text)) = (lines.next(), lines.next(), lines.next()) else { return };
    let framing = if kind == b"watch" { Framing::Events } else { Framing::One };
    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok()).unwrap_or(1_usize).max(1);
    let whole = filtered(text, framing, text.len().max(1));
    assert_eq!(whole, filtered(text, framing, size), "the result depends on the chunk size");
    let Some(out) = whole else {
        return assert!(
            framing == Framing::Events || serde_json::from_slice::<Value>(text).is_err(),
            "JSON is rejected"
        );
    };
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let value: Value = serde_json::from_slice(line).expect("the output can be parsed");
        assert!(depth(&value) <= MAX_DEPTH, "nested {} deep", depth(&value));
    }
}

/// The output of the filter; `None` if the input is not JSON.
fn filtered(text: &[u8], framing: Framing, size: usize) -> Option<Vec<u8>> {
    let mut filter = Filter::new(Rules::GENERAL, framing);
    let mut out = Vec::new();
    for piece in text.chunks(size) {
        filter.push(piece).ok()?;
        // Events are passed on as they arrive.
        if framing == Framing::Events {
            out.extend(filter.take());
        }
    }
    filter.finish().ok()?;
    out.extend(filter.take());
    Some(out)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
