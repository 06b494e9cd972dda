//! The role of a node: read from the reply to `HELLO`, and trusted for a second. A node that is demoted closes no
//! connection, and a replica answers a GET: so the role is confirmed again and again while a connection is in use. `HELLO`
//! needs no right, and every node replies to it, also one that loads its data or runs a slow script.
//!
//! No task polls the role: the request that needs it carries the `HELLO`. So an idle connection costs nothing, nothing keeps
//! it alive, and the first request after a pause does not rest on an old role.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use redis::Value;

use crate::session::millis;

/// The greatest age of a role that a request may rest on when it is sent.
const TRUSTED: Duration = Duration::from_secs(1);

/// From this age on, one request in each [`SPACING`] carries a `HELLO`, so that [`TRUSTED`] is hardly ever reached.
const RENEWED: Duration = Duration::from_millis(500);

/// The least time between two requests that carry a `HELLO`, as many are in flight at once.
const SPACING: Duration = Duration::from_millis(100);

/// The role that a node reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Replica,
    Sentinel,
}

impl Role {
    /// The role in a reply to `HELLO`; `None` if it names none.
    pub(super) fn of(hello: &Value) -> Option<Self> {
        let Value::Map(fields) = hello else { return None };
        let field =
            |name: &str| fields.iter().find(|(key, _)| text(key) == Some(name)).and_then(|(_, value)| text(value));
        match (field("mode"), field("role")) {
            (Some("sentinel"), _) => Some(Self::Sentinel),
            (_, Some("master" | "primary")) => Some(Self::Primary),
            (_, Some("replica" | "slave")) => Some(Self::Replica),
            _ => None,
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// When a node last reported that it is a primary. All times are in milliseconds from `start`.
#[derive(Debug)]
pub(super) struct Lease {
    start: Instant,
    confirmed: AtomicU64,
    requested: AtomicU64,
}

impl Lease {
    /// A lease that begins now, before the greeting that tells the role.
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), confirmed: AtomicU64::new(0), requested: AtomicU64::new(0) }
    }

    fn at(&self, moment: Instant) -> u64 {
        millis(moment.saturating_duration_since(self.start))
    }

    /// Whether a request that is sent now is to confirm the role.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let now = self.at(now);
        let age = now.saturating_sub(self.confirmed.load(Ordering::Relaxed));
        if age < millis(RENEWED) {
            return false;
        }
        let requested = self.requested.load(Ordering::Relaxed);
        let is_first = now.saturating_sub(requested) >= millis(SPACING)
            && self.requested.compare_exchange(requested, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_first || age >= millis(TRUSTED)
    }

    /// The node was a primary at some time after this moment, when the request was sent.
    pub(super) fn renew(&self, sent: Instant) {
        self.confirmed.fetch_max(self.at(sent), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(fields: &[(&str, &str)]) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        Value::Map(fields.iter().map(|(key, value)| (text(key), text(value))).collect())
    }

    #[test]
    fn a_role_is_read_whatever_the_server_calls_it() {
        for (role, expected) in [
            ("master", Some(Role::Primary)),
            ("primary", Some(Role::Primary)),
            ("replica", Some(Role::Replica)),
            ("slave", Some(Role::Replica)),
            ("other", None),
        ] {
            assert_eq!(Role::of(&hello(&[("server", "redis"), ("mode", "standalone"), ("role", role)])), expected);
        }
        assert_eq!(Role::of(&hello(&[("mode", "sentinel")])), Some(Role::Sentinel));
        assert_eq!(Role::of(&hello(&[("server", "redis")])), None);
        assert_eq!(Role::of(&Value::Okay), None);
    }

    #[test]
    fn a_role_is_confirmed_by_one_request_at_a_time_and_by_all_once_it_is_too_old() {
        let lease = Lease::new();
        let after = |time: u64| lease.start + Duration::from_millis(time);
        assert!(!lease.is_due(after(499)));
        assert!(lease.is_due(after(500)), "one request");
        assert!(!lease.is_due(after(501)) && !lease.is_due(after(599)), "and no other for a while");
        assert!(lease.is_due(after(600)), "the first one was not answered");
        assert!(lease.is_due(after(1000)) && lease.is_due(after(1000)) && lease.is_due(after(1001)), "all of them");
        lease.renew(after(700));
        assert!(!lease.is_due(after(1199)) && lease.is_due(after(1200)));
        lease.renew(after(600));
        assert!(!lease.is_due(after(1201)), "an older reply changes nothing");
    }
}
