//! Two neighboring builds share a Redis, in an upgrade and in a rollback.
//!
//! - `fields`: what a later build adds to a record stays there.
//! - `rolling`: instances are replaced one by one, under load.
//!
//! The races and the histories also run through both builds (`mixed` in their names). `scripts/test` makes the previous
//! build, from the commit in `tests/previous-build`.

mod fields;
#[cfg(target_os = "linux")]
mod rolling;
