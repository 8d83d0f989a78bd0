//! The end of a JWT, and the life that follows from it. The input: a token, or the claims of one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use oauth_operator::oauth::life::{self, Known, Spread};
use serde_json::Value;

use crate::NOW;

/// Reads `exp`.
pub fn jwt_exp(data: &[u8]) {
    if let Ok(token) = std::str::from_utf8(data) {
        check_life(token, life::jwt_exp(token));
    }
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(data));
    let end = life::jwt_exp(&token);
    check_life(&token, end);
    let claimed = serde_json::from_slice::<Value>(data).ok().and_then(|claims| claims.get("exp")?.as_f64());
    match (end, claimed) {
        (Some(end), Some(claimed)) => {
            let apart = end.as_second() as f64 - claimed;
            // A float of that size is known to about 10^-5 of a second.
            assert!(apart.abs() < 1.001, "{end} is not {claimed}");
        }
        (Some(end), None) => panic!("{end} where nothing was claimed"),
        // Outside of the time that jiff knows.
        (None, Some(claimed)) => {
            assert!(Timestamp::from_second(claimed as i64).is_err(), "{claimed} is a moment");
        }
        (None, None) => {}
    }
}

fn check_life(token: &str, end: Option<Timestamp>) {
    for token_life in [None, Some(SignedDuration::from_secs(90))] {
        let known = Known { issued_at: *NOW, token_life, expires_in: None, expires_at: None, access_token: token };
        let life = life::of(&known).length;
        assert!(life.is_positive(), "a life of {life}");
        assert!(token_life.is_none_or(|wanted| life <= wanted), "longer than wanted");
        let real = end.map(|end| end.duration_since(*NOW)).filter(SignedDuration::is_positive);
        assert!(real.is_none_or(|real| life <= real), "{life} is longer than it lives");
        let times = life::times(token, *NOW, life, token_life.map(|life| life / 2), Spread::Usual);
        assert!(*NOW <= times.renew_at && times.renew_at <= times.expires_at, "{times:?}");
    }
}
