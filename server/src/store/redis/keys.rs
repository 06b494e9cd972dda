//! What a key looks like. One session is one key; here is all there is of one, seen with redis-cli:
//!
//! ```text
//! > GETRANGE session:default:6f1c2ab0d34e8b5f9a70c1d2e3f40516 0 1
//! "R\x02"                                  a record, format 2
//! > PTTL session:default:6f1c2ab0d34e8b5f9a70c1d2e3f40516
//! (integer) 86399120                       gone by itself when it ends
//! ```
//!
//! | key | type | TTL | written by |
//! |---|---|---|---|
//! | `<prefix><app>:<handle>` | string, a record (`R…`) | min(idle timeout, what is left of the lifetime) | create, save; renew moves the TTL |
//! | the same | string, a tombstone (`T`) | 60 s | destroy |
//!
//! The handle is public and the secret is not in the key, so a rotate stays on one key (and in one slot of a cluster),
//! and a list of keys opens nothing. Prefix and application hold no braces, so the whole key decides the slot.

use crate::session::{App, Handle};

/// The key of a session.
pub fn session(prefix: &str, app: &App, handle: Handle) -> String {
    let mut digits = [0; 32];
    let handle = handle.0.as_simple().encode_lower(&mut digits);
    let mut key = String::with_capacity(prefix.len() + app.as_str().len() + 1 + handle.len());
    for part in [prefix, app.as_str(), ":", handle] {
        key.push_str(part);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_prefix_application_and_handle() {
        let handle = Handle(uuid::Uuid::from_u128(0x6f1c_2ab0_d34e_8b5f_9a70_c1d2_e3f4_0516));
        assert_eq!(session("session:", &App::unnamed(), handle), "session:default:6f1c2ab0d34e8b5f9a70c1d2e3f40516");
    }
}
