//! The expiry of a JWT, and the lifetime that results from it. The input: a token, or the claims of one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use oauth_operator::oauth::lifetime;
use oauth_operator::oauth::lifetime::{Jitter, Known};
use serde_json::Value;

use crate::NOW;

/// Reads the claim `exp`.
pub fn jwt_exp(data: &[u8]) {
    if let Ok(token) = std::str::from_utf8(data) {
        check_lifetime(token, lifetime::jwt_exp(token));
    }
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(data));
    let expiry = lifetime::jwt_exp(&token);
    check_lifetime(&token, expiry);
    let claimed = serde_json::from_slice::<Value>(data).ok().and_then(|claims| claims.get("exp")?.as_f64());
    match (expiry, claimed) {
        (Some(expiry), Some(claimed)) => {
            let apart = expiry.as_second() as f64 - claimed;
            // A float of that size has a precision of about 10^-5 seconds.
            assert!(apart.abs() < 1.001, "{expiry} is not {claimed}");
        }
        (Some(expiry), None) => panic!("{expiry} without a claim"),
        // Outside the range of jiff.
        (None, Some(claimed)) => {
            assert!(Timestamp::from_second(claimed as i64).is_err(), "{claimed} is a timestamp");
        }
        (None, None) => {}
    }
}

fn check_lifetime(token: &str, expiry: Option<Timestamp>) {
    for token_lifetime in [None, Some(SignedDuration::from_secs(90))] {
        let known = Known {
            problem: None,
            issued_at: *NOW,
            token_lifetime,
            expires_in: None,
            expires_at: None,
            is_computed: false,
            access_token: token,
        };
        let length = lifetime::resolve(&known).length;
        assert!(length.is_positive(), "a lifetime of {length}");
        assert!(token_lifetime.is_none_or(|wanted| length <= wanted), "longer than wanted");
        let real = expiry.map(|expiry| expiry.duration_since(*NOW)).filter(SignedDuration::is_positive);
        assert!(real.is_none_or(|real| length <= real), "{length} is longer than the actual lifetime");
        let times =
            lifetime::schedule(token, *NOW, length, token_lifetime.map(|lifetime| lifetime / 2).into(), Jitter::Narrow);
        assert!(*NOW <= times.renew_at && times.renew_at <= times.expires_at, "{times:?}");
    }
}
