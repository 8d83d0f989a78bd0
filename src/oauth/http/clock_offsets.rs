//! How far the clocks of servers are off, learned from the `Date` of their responses (RFC 9110, section 6.6.1).
//!
//! A server rejects a JWT whose `iat` is in its future or whose `exp` is in its past. JWTs for a server are therefore
//! dated by the server's own clock.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use url::Url;

use crate::oauth::http::cache::{Bounds, NamespacedCache};
use crate::oauth::http::connections::Connection;

/// `Date` has whole seconds, and servers tolerate small differences.
pub(crate) const TOLERATED: SignedDuration = SignedDuration::from_secs(5);
/// A server with a larger offset could obtain a JWT that is valid for much longer than the spec says.
pub(crate) const MAX_OFFSET: SignedDuration = SignedDuration::from_mins(10);
/// Each response of a server whose clock is off renews its entry.
const BOUNDS: Bounds = Bounds { per_namespace: 64, total: 2_048, ttl: Duration::from_hours(24) };

/// The settings of the connection, and the origin: with a tenant's own proxy or CA, the same URL may lead to another
/// server.
type Key = (Option<[u8; 32]>, String);

/// Offsets by namespace, connection and origin. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ClockOffsets(NamespacedCache<Key, SignedDuration>);

impl Default for ClockOffsets {
    fn default() -> Self {
        Self(NamespacedCache::new(BOUNDS))
    }
}

impl ClockOffsets {
    /// How far the server's clock is ahead of this machine's; negative if it is behind, zero if unknown.
    pub(crate) fn get(&self, namespace: &str, connection: &Connection, url: &Url) -> SignedDuration {
        self.0.get(namespace, &key(connection, url), Instant::now()).unwrap_or_default()
    }

    /// Remembers the offset of a server whose response had this `Date`.
    pub(crate) fn learn(
        &self,
        namespace: &str,
        connection: &Connection,
        url: &Url,
        date: Timestamp,
        (sent, received): (Timestamp, Timestamp),
    ) {
        let key = key(connection, url);
        match offset(date, sent, received) {
            SignedDuration::ZERO => self.0.remove(namespace, &key),
            offset => self.0.insert(namespace, key, offset, Instant::now()),
        }
    }
}

fn key(connection: &Connection, url: &Url) -> Key {
    (connection.id, url.origin().ascii_serialization())
}

/// The difference that the time between the request and the response does not explain. Zero if it is tolerated, or too
/// large to be followed.
fn offset(date: Timestamp, sent: Timestamp, received: Timestamp) -> SignedDuration {
    // Of two clocks that agree, `date` may be up to a second before `sent`.
    let difference = date.duration_since(date.clamp(sent, received.max(sent)));
    let is_followed = (TOLERATED..=MAX_OFFSET).contains(&difference.abs());
    if is_followed { difference } else { SignedDuration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_what_the_duration_of_the_request_does_not_explain() {
        let at = |seconds: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds);
        for (date, received, expected) in [
            (0, 0, 0),
            (-1, 0, 0),
            (-4, 0, 0),
            (-5, 0, -5),
            (20, 30, 0),
            (34, 30, 0),
            (36, 30, 6),
            (-600, 30, -600),
            (-601, 30, 0),
            (630, 30, 600),
            (631, 30, 0),
            // The clock of this machine was set back in between.
            (10, -3_600, 10),
        ] {
            let offset = offset(at(date), at(0), at(received));
            assert_eq!(offset, SignedDuration::from_secs(expected), "{date} received at {received}");
        }
    }
}
