//! The faults of the world that sessiond lives in, made on purpose, under a load that keeps account (`sessiond_tests::faults`).
//! Each run prints one line of figures, and the seed that repeats it. `scripts/test --long` runs each in full.
//!
//! - `kills`: Redis is killed, or loses its power.
//! - `freezes`: it stands still, and goes on.
//! - `holes`: the way to it swallows everything; it moves house.
//! - `full`: it has no memory left.
//! - `flushes`: it forgets the scripts, or hangs up.
//! - `answers`: its answers are lost, late, or another's.
//! - `slow`: it is busy, loading, read-only, or out of disk.
//! - `topologies`: Sentinels and a cluster, by themselves.
//! - `sentinels`: the master fails over, is killed, is cut off.
//! - `cluster`: a node fails over, is killed; every slot moves.
//! - `demotions`: the endpoint moves to a promoted replica, and the old primary lives on as a replica.
//! - `causes`: why a connection failed is logged with the address.

#![cfg(target_os = "linux")]

mod answers;
mod causes;
mod cluster;
mod demotions;
mod flushes;
mod freezes;
mod full;
mod holes;
mod kills;
mod sentinels;
mod slow;
mod topologies;

use std::time::Duration;

use sessiond_tests::{
    Dice, eventually,
    faults::load::{Audit, Figures, Running},
};
use tokio::sync::{Mutex, MutexGuard};

/// One at a time: these tests measure times under load, and would disturb each other on a machine with two cores.
static QUIET: Mutex<()> = Mutex::const_new(());

/// What callers may be told in an outage. (DEADLINE, where the machine is slower than the store.)
const OUTAGE: [&str; 3] = ["UNAVAILABLE STORE_UNAVAILABLE", "DEADLINE_EXCEEDED DEADLINE", "ABORTED OUTCOME_UNKNOWN"];

/// The machine for oneself, as far as these tests go, and dice.
async fn begin(what: &str) -> (MutexGuard<'static, ()>, Dice) {
    let quiet = QUIET.lock().await;
    (quiet, Dice::new(what))
}

/// What a run must be told with: a line of figures.
fn tell(what: &str, figures: &Figures, audit: &Audit) {
    println!("{what}: {figures}; {audit}");
}

/// Whether these tests run in full.
fn is_long() -> bool {
    sessiond_tests::rounds(25) == 25
}

/// Lets the load run for a while. (Nothing is waited for: this is how long it lasts.)
async fn for_a_while(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits until a write is acknowledged that was so after this moment.
async fn writes_flow(load: &Running, since: Duration) {
    eventually("writes flow again", async || load.writes_since(since)).await;
}
