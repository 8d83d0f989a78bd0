//! The answer of a token endpoint, as a text: the status, headers, an empty line, the body.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::SignedDuration;
use oauth_operator::error::Failure;
use oauth_operator::oauth::life::{self, Known, Spread};
use oauth_operator::oauth::response::{self, Evaluated, Raw};
use oauth_operator::oauth::{Answer, Ask};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{NOW, check_message, head_and_body, sent, usual, validated};

/// Who asks: by paths only, by expressions, and for a refresh.
static ASKS: LazyLock<[Ask; 3]> = LazyLock::new(|| {
    let mut expressions = usual();
    expressions["response"] = json!({
        "accessToken": "data.token ? data.token : $headers.\"x-token\"",
        "expiresAt": "data.until",
        "success": "ok",
        "extra": {"url": "instance_url", "all": "data"},
    });
    let mut refresh = usual();
    refresh["grantType"] = json!("refresh_token");
    refresh["request"] = json!({"format": "form"});
    [usual(), expressions, refresh].map(|spec| validated(spec).ask)
});

/// Reads an answer.
pub fn response(data: &[u8]) {
    let Some(raw) = raw(data) else { return };
    for ask in ASKS.iter() {
        match response::read(&raw, ask, &sent(), *NOW, &Evaluated::default()) {
            Ok(answer) => check_answer(&answer, &raw),
            Err(failure) => check_failure(&failure),
        }
    }
    if let Err(failure) = response::revoked(&raw, &sent()) {
        check_failure(&failure);
    }
    assert!(!response::wants_nonce(&raw) || matches!(raw.status, 400 | 401));
}

fn raw(data: &[u8]) -> Option<Raw> {
    let (head, body) = head_and_body(data)?;
    let mut lines = head.lines();
    let status = lines.next()?.trim().parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some(Raw { status, headers: lines.filter_map(header).collect(), body: body.to_vec().into() })
}

fn check_answer(answer: &Answer, raw: &Raw) {
    assert!((200..300).contains(&raw.status), "tokens of an answer with {}", raw.status);
    check_token(&answer.access_token);
    answer.refresh_token.iter().for_each(check_token);
    let lives = [answer.expires_in, answer.expires_at.map(|end| end.duration_since(*NOW))];
    assert!(lives[0].is_none_or(|life| life.is_positive()));
    let known = Known {
        issued_at: answer.date.unwrap_or(*NOW),
        token_life: None,
        expires_in: answer.expires_in,
        expires_at: answer.expires_at,
        access_token: answer.access_token.expose_secret(),
    };
    let life = life::of(&known).length;
    assert!(life.is_positive() && life <= SignedDuration::from_hours(8_760), "a life of {life}");
    let times = life::times("uid", *NOW, life, None, Spread::Wide);
    assert!(*NOW <= times.renew_at && times.renew_at <= times.expires_at, "{times:?}");
}

/// RFC 6749, appendix A.12.
fn check_token(token: &SecretString) {
    let token = token.expose_secret();
    assert!(!token.is_empty() && token.bytes().all(|byte| (0x20..=0x7e).contains(&byte)), "a token {token:?}");
}

fn check_failure(failure: &Failure) {
    check_message(&failure.message);
    assert!(failure.retry_after.is_none_or(|wait| wait <= Duration::from_hours(24)));
    if let Some(kept) = &failure.refresh_token {
        check_token(&kept.0);
    }
}
