//! Decides who may read metrics: clients whose bearer token the API server accepts (TokenReview), and which may `get`
//! the non-resource URL `/metrics` (SubjectAccessReview), as in controller-runtime and in Kubernetes itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::error_report::chain;
use crate::kube_api::call::{ApiError, with_timeout};

/// How long an allowed token is not reviewed again: after a permission is revoked, the client may still read metrics
/// for this time.
const ALLOWED_FOR: Duration = Duration::from_mins(1);
/// How long a denied token is denied without another review.
const DENIED_FOR: Duration = Duration::from_secs(10);
/// The maximum number of cached decisions of each kind; denied tokens never displace allowed ones.
const MAX_CACHED: usize = 64;
/// The maximum number of reviews in flight; each requires two calls to the API server.
const MAX_REVIEWS: usize = 4;
/// How long a request waits for its review to begin.
const MAX_WAIT: Duration = Duration::from_secs(5);

type Fingerprint = [u8; 32];

/// Authenticates and authorizes clients that read metrics, through the API server.
pub struct Authentication {
    client: Client,
    reviews: Semaphore,
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authentication").finish_non_exhaustive()
    }
}

/// Decisions by the fingerprint of the token, with their expiry.
#[derive(Debug, Default)]
struct Cache {
    allowed: HashMap<Fingerprint, Instant>,
    denied: HashMap<Fingerprint, (StatusCode, Instant)>,
}

impl Cache {
    fn decision(&self, token: &Fingerprint, now: Instant) -> Option<StatusCode> {
        if self.allowed.get(token).is_some_and(|until| *until > now) {
            return Some(StatusCode::OK);
        }
        self.denied.get(token).filter(|(_, until)| *until > now).map(|(status, _)| *status)
    }

    fn remember(&mut self, token: Fingerprint, status: StatusCode, now: Instant) {
        self.allowed.retain(|_, until| *until > now);
        self.denied.retain(|_, (_, until)| *until > now);
        // A token that is not cached is reviewed again; the number of reviews is bounded.
        if status == StatusCode::OK && self.allowed.len() < MAX_CACHED {
            self.allowed.insert(token, now + ALLOWED_FOR);
        } else if status != StatusCode::OK && self.denied.len() < MAX_CACHED {
            self.denied.insert(token, (status, now + DENIED_FOR));
        }
    }
}

impl Authentication {
    /// Uses this client, which must belong to the runtime that serves the metrics.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, reviews: Semaphore::new(MAX_REVIEWS), cache: Mutex::default() }
    }

    /// `200 OK` if the client may read metrics; otherwise the status of the response.
    pub async fn check(&self, headers: &HeaderMap) -> StatusCode {
        let Some(token) = bearer_token(headers) else { return StatusCode::UNAUTHORIZED };
        let fingerprint: Fingerprint = Sha256::digest(token).into();
        if let Some(known) = self.cache().decision(&fingerprint, Instant::now()) {
            return known;
        }
        let Ok(Ok(_permit)) = tokio::time::timeout(MAX_WAIT, self.reviews.acquire()).await else {
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        // Another request with the same token may have been reviewed in the meantime.
        if let Some(known) = self.cache().decision(&fingerprint, Instant::now()) {
            return known;
        }
        match self.review(token).await {
            Ok(status) => {
                self.cache().remember(fingerprint, status, Instant::now());
                status
            }
            Err(error) => {
                warn!(error = chain(&error), "failed to authorize a client that reads metrics");
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    async fn review(&self, token: &str) -> Result<StatusCode, ApiError> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let status = with_timeout(reviews.create(&PostParams::default(), &review)).await?.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(StatusCode::UNAUTHORIZED);
        };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = SubjectAccessReview { spec: may_read_metrics(user), ..SubjectAccessReview::default() };
        let reviewed = with_timeout(reviews.create(&PostParams::default(), &review)).await?;
        let allowed = reviewed.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        Ok(if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN })
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_read_metrics(user: UserInfo) -> SubjectAccessReviewSpec {
    let UserInfo { extra, groups, uid, username } = user;
    let url = NonResourceAttributes { path: Some("/metrics".to_owned()), verb: Some("get".to_owned()) };
    SubjectAccessReviewSpec {
        extra,
        groups,
        uid,
        user: username,
        non_resource_attributes: Some(url),
        resource_attributes: None,
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_tokens_are_accepted() {
        let of = |value: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().expect("a header"))]);
            bearer_token(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(bearer_token(&HeaderMap::new()), None);
        assert_eq!(of("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(of("bearer  abc "), Some("abc".to_owned()));
        for other in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn decisions_expire_and_denied_tokens_do_not_displace_others() {
        let mut cache = Cache::default();
        let now = Instant::now();
        cache.remember([0; 32], StatusCode::OK, now);
        for number in 1..=255 {
            cache.remember([number; 32], StatusCode::UNAUTHORIZED, now);
        }
        assert_eq!(cache.denied.len(), MAX_CACHED);
        assert_eq!(cache.decision(&[0; 32], now), Some(StatusCode::OK));
        assert_eq!(cache.decision(&[1; 32], now), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(cache.decision(&[255; 32], now), None, "not cached");
        assert_eq!(cache.decision(&[1; 32], now + DENIED_FOR), None);
        assert_eq!(cache.decision(&[0; 32], now + ALLOWED_FOR), None);
    }
}
