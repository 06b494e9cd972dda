//! The harness: real Redis servers and real `sessiond` processes on free ports, stopped when they go out of scope, and
//! the few words in which the tests in `it/` speak of sessions. Nothing here touches a server that it did not start.

pub mod faults;
pub mod histories;
mod log;
pub mod naive;
mod processes;
mod shop;
pub mod store_suite;
pub mod web;
mod words;

use std::{
    env,
    time::{Duration, Instant},
};

pub use log::Log;
pub use processes::{Authority, Build, Server, Stub, TestRedis, World, built, command, reserved_port};
pub use shop::{Chromium, Shop};
pub use words::*;

/// The longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How many rounds a race runs: all of them with `scripts/test --long`, a few per cent of them otherwise.
pub fn rounds(long: usize) -> usize {
    if env::var_os("SESSIOND_TESTS_LONG").is_some() { long } else { (long / 25).max(1) }
}

/// Waits until the condition holds, and fails with what was waited for if it does not within [`PATIENCE`].
pub async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    eventually_within(PATIENCE, what, condition).await;
}

/// Waits until the condition holds, and fails with what was waited for if it does not within this time.
pub async fn eventually_within(patience: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + patience;
    while !condition().await {
        assert!(Instant::now() < until, "waited {patience:?} in vain: {what}");
        poll_pause().await;
    }
}

/// A breath between two looks at a condition.
pub async fn poll_pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Runs each test on both stores: `on_both_stores!(name, …)` makes `memory::name` and `redis::name` of every
/// `async fn name(world: World)`. With `with [arguments]` in front, the service gets these.
#[macro_export]
macro_rules! on_both_stores {
    (with $arguments:expr, $($name:ident),* $(,)?) => {
        $crate::in_worlds!(memory, $arguments, $($name),*);
        $crate::in_worlds!(redis, $arguments, $($name),*);
    };
    ($($name:ident),* $(,)?) => { $crate::on_both_stores!(with [], $($name),*); };
}

/// The same on both stores, as `three::name` through three services on one Redis, and as `mixed::name` through a service of
/// this build and one of the previous build.
#[macro_export]
macro_rules! on_both_stores_and_through_several {
    ($($name:ident),* $(,)?) => {
        $crate::on_both_stores!($($name),*);
        $crate::in_worlds!(three, [], $($name),*);
        mod mixed {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(world) = $crate::World::mixed(&[]).await else { return };
                super::$name(world).await;
            })*
        }
    };
}

/// Makes a test of each name in the worlds of one kind.
#[doc(hidden)]
#[macro_export]
macro_rules! in_worlds {
    ($kind:ident, $arguments:expr, $($name:ident),*) => {
        mod $kind {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::World::$kind(&$arguments).await).await })*
        }
    };
}
