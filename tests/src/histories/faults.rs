//! What goes wrong between a service and its Redis while histories are recorded.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use rustix::process::Signal;
use tokio::time::sleep;

use crate::{Dice, TestRedis};

/// What may go wrong with a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// All of it: connections are cut, scripts forgotten, commands held up, the process stands still.
    All,
    /// Only what a client without a pool survives: commands are held up, the process stands still.
    Slowness,
}

/// How long a Redis is mostly held up, in milliseconds: less than a store's budget, so that most calls are answered.
const SHORT: usize = 25;

/// How long at times: more than the budget of a service with [`DEADLINE`](super::DEADLINE).
const LONG: Duration = Duration::from_millis(450);

/// Lets things go wrong, one after the other, and counts them; for as long as it is asked to.
pub(super) async fn trouble(
    redis: &TestRedis,
    faults: Faults,
    mut dice: Dice,
    counts: &mut BTreeMap<&'static str, usize>,
) -> Infallible {
    let mut connection = redis.connection().await;
    loop {
        sleep(Duration::from_millis(20 + dice.below(60) as u64)).await;
        let mostly = Duration::from_millis(1 + dice.below(SHORT) as u64);
        let held_up = if dice.once_in(24) { LONG } else { mostly };
        let kinds = if faults == Faults::All { 4 } else { 2 };
        let (what, command) = match dice.below(kinds) {
            0 => {
                redis.signal(Signal::STOP);
                sleep(held_up).await;
                redis.signal(Signal::CONT);
                *counts.entry("freezes").or_default() += 1;
                continue;
            }
            1 => ("pauses", vec!["CLIENT".to_owned(), "PAUSE".to_owned(), held_up.as_millis().to_string()]),
            2 => ("cuts", ["CLIENT", "KILL", "TYPE", "normal"].map(str::to_owned).to_vec()),
            _ => ("flushes", ["SCRIPT", "FLUSH"].map(str::to_owned).to_vec()),
        };
        let (name, arguments) = command.split_first().expect("a command has a name");
        match redis::cmd(name).arg(arguments).exec_async(&mut connection).await {
            Ok(()) => *counts.entry(what).or_default() += 1,
            // Too slow for its own client, too.
            Err(_) => connection = redis.connection().await,
        }
        if what == "pauses" {
            sleep(held_up).await;
        }
    }
}
