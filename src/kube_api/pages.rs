//! Chooses the number of objects in one page of a list: as many as fit into a memory bound.
//!
//! The limit starts small, grows while pages are small, and shrinks if a page is too large. That page is then
//! requested again, down to a single object, which always fits because the filter bounds each object.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::Uri;

/// Maximum cost of a page, as counted by the filter.
pub const MAX_PAGE_COST: usize = 2 << 20;
/// The target maximum size of a page before it is filtered, so that the API server does not return hundreds of
/// megabytes.
const MAX_TEXT: usize = 16 << 20;
/// The limit of the first page.
const FIRST: u32 = 32;
/// The maximum limit, which is the default of `kube`.
const MAX_LIMIT: u32 = 500;

/// The limit of pages, for each list.
#[derive(Debug, Default)]
pub struct Pages {
    /// By path and selector; one entry per watch.
    limits: Mutex<HashMap<String, u32>>,
}

impl Pages {
    /// The number of objects to request.
    #[must_use]
    pub fn limit(&self, list: &str) -> u32 {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).get(list).copied().unwrap_or(FIRST)
    }

    /// Records the cost and the size of a page that was read.
    pub fn read(&self, list: &str, cost: usize, text: usize) {
        let limit = self.limit(list);
        let next = if text > MAX_TEXT {
            limit / 2
        } else if cost < MAX_PAGE_COST / 4 && text < MAX_TEXT / 4 {
            limit * 2
        } else {
            limit
        };
        self.set(list, next);
    }

    /// Records that a page was too large. Returns whether a smaller one can be requested.
    pub fn too_heavy(&self, list: &str) -> bool {
        let limit = self.limit(list);
        self.set(list, limit / 4);
        limit > 1
    }

    fn set(&self, list: &str, limit: u32) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.insert(list.to_owned(), limit.clamp(1, MAX_LIMIT));
    }
}

/// The key of a list: its path and its selector.
#[must_use]
pub fn list_of(uri: &Uri) -> String {
    let selector = pairs(uri).find(|pair| pair.starts_with("labelSelector=")).unwrap_or_default();
    format!("{}?{selector}", uri.path())
}

/// The URI of the same page with another limit; `None` if the request has no limit, or the URI cannot be changed.
#[must_use]
pub fn with_limit(uri: &Uri, limit: u32) -> Option<Uri> {
    let pairs: Vec<String> = pairs(uri)
        .map(|pair| if pair.starts_with("limit=") { format!("limit={limit}") } else { pair.to_owned() })
        .collect();
    pairs.iter().any(|pair| pair.starts_with("limit=")).then_some(())?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{}", uri.path(), pairs.join("&")).parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn pages_grow_while_they_are_small_and_shrink_down_to_one_object() {
        let pages = Pages::default();
        for expected in [FIRST, 64, 128, 256, MAX_LIMIT, MAX_LIMIT] {
            assert_eq!(pages.limit("it"), expected);
            pages.read("it", 1_000, 1_000);
        }
        pages.read("it", 1_000, MAX_TEXT + 1);
        assert_eq!(pages.limit("it"), 250);
        let mut attempts = 0;
        while pages.too_heavy("it") {
            attempts += 1;
        }
        assert_eq!((pages.limit("it"), attempts), (1, 4));
        assert_eq!(pages.limit("another"), FIRST);
    }

    #[test]
    fn a_page_is_requested_again_with_another_limit() {
        let uri: Uri = "/api/v1/secrets?&limit=500&continue=abc&labelSelector=a%3Db".parse().expect("a URI");
        assert_eq!(list_of(&uri), "/api/v1/secrets?labelSelector=a%3Db");
        let changed = with_limit(&uri, 7).expect("a URI");
        assert_eq!(changed.to_string(), "/api/v1/secrets?limit=7&continue=abc&labelSelector=a%3Db");
        assert_eq!(with_limit(&"/api".parse().expect("a URI"), 7), None);
    }
}
