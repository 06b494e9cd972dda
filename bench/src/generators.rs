//! Generators in processes of their own, for Opens that come from several applications at once: one generator has one core at
//! most, and gathers the calls of all its connections into its own turns.
//!
//! Each is this bench's binary again. A line of its input is a `Load`; it says "ready" when the calls are encoded, and begins
//! with the next line. It says "begun" and "ended" when its measuring does, and then what the calls took, as `Counts`. It
//! ends with its input, so that none outlives the bench, however that ended.

use std::{env, io, net::SocketAddr, process, thread, time::Duration};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    contestants::Part,
    load::{self, Callers, Time, Work},
    plan::{Cell, What, Who},
    run::{answers, encoded},
};

/// The argument that makes a generator of the bench's binary.
pub const ARGUMENT: &str = "generator";

/// What one process is to do: Opens alone.
#[derive(Debug, Deserialize, Serialize)]
struct Load {
    address: SocketAddr,
    connections: usize,
    in_flight: usize,
    warm: Duration,
    run: Duration,
    size: usize,
    /// Its part of the sessions; none: an echo is asked.
    ids: Vec<String>,
}

/// A histogram on its way from one process to another: each value with how often it was there.
#[derive(Debug, Deserialize, Serialize)]
struct Counts(Vec<(u64, u64)>);

impl Counts {
    fn of(latency: &Histogram<u64>) -> Self {
        Self(latency.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect())
    }

    fn add_to(&self, latency: &mut Histogram<u64>) {
        for (value, count) in &self.0 {
            latency.saturating_record_n(*value, *count);
        }
    }
}

/// The processes, which wait while they are not needed.
#[derive(Default)]
pub struct Generators(Vec<Part>);

impl Generators {
    /// Starts as many as the one of these cells needs that needs the most.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(cells: &[Cell]) -> anyhow::Result<Self> {
        let most = cells.iter().map(|cell| cell.generators).filter(|count| *count > 1).max().unwrap_or_default();
        let (this, mut parts) = (env::current_exe()?, Vec::with_capacity(most));
        for _ in 0..most {
            parts.push(Part::start(&this, &[ARGUMENT]).await?);
        }
        Ok(Self(parts))
    }

    /// The numbers of the processes that this cell is measured by.
    pub fn pids(&self, cell: Cell) -> Vec<u32> {
        let count = if cell.generators > 1 { cell.generators } else { 0 };
        self.0.iter().take(count).map(Part::pid).collect()
    }

    /// Loads the server at this address with a cell's Opens of these sessions, dealt out to its processes. `mark` is called
    /// when all have begun to measure, and when all have ended: they go by their own clocks, which the same word started.
    ///
    /// # Errors
    /// When a process or a call fails.
    pub async fn run(
        &mut self,
        address: SocketAddr,
        cell: Cell,
        ids: &[String],
        time: Time,
        mut mark: impl FnMut() -> io::Result<()>,
    ) -> anyhow::Result<Histogram<u64>> {
        let parts = self.0.get_mut(..cell.generators).context("so many generators were not started")?;
        for (part, load) in parts.iter_mut().zip(dealt(address, cell, ids, time)) {
            part.say(&serde_json::to_string(&load)?).await?;
        }
        hear(parts, "ready").await?;
        for part in &mut *parts {
            part.say("go").await?;
        }
        for word in ["begun", "ended"] {
            hear(parts, word).await?;
            mark()?;
        }
        let mut latency = load::new_histogram();
        for part in parts {
            serde_json::from_str::<Counts>(&part.line().await?)?.add_to(&mut latency);
        }
        Ok(latency)
    }
}

/// Waits until each has said this.
async fn hear(parts: &mut [Part], word: &str) -> anyhow::Result<()> {
    for part in parts {
        let line = part.line().await?;
        anyhow::ensure!(line == word, "a generator says {line:?} instead of {word:?}");
    }
    Ok(())
}

/// What each of a cell's processes does: the same part of the connections, the calls under way and the sessions.
fn dealt(address: SocketAddr, cell: Cell, ids: &[String], time: Time) -> Vec<Load> {
    let Cell { generators, size, .. } = cell;
    let Callers { connections, in_flight, .. } = cell.callers();
    let load = |number| Load {
        address,
        connections: connections / generators,
        in_flight: in_flight / generators,
        warm: time.warm,
        run: time.run,
        size,
        ids: ids.iter().skip(number).step_by(generators).cloned().collect(),
    };
    (0..generators).map(load).collect()
}

/// Is one of the processes, until its input ends. To be called within a `LocalSet`.
///
/// # Errors
/// When a call fails, or the input is not what it should be.
pub async fn serve() -> anyhow::Result<()> {
    let (sender, mut lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        // The channel is open as long as the process is.
        io::stdin().lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        process::exit(0);
    });
    // As all parts do; nobody listens there.
    println!("127.0.0.1:0");
    while let Some(line) = lines.recv().await {
        let Load { address, connections, in_flight, warm, run, size, ids } = serde_json::from_str(&line)?;
        let who = if ids.is_empty() { Who::Echo } else { Who::Redis };
        let work = Work::over(encoded(who, What::Open, size, &ids), answers(What::Open, size));
        println!("ready");
        let _go = lines.recv().await;
        let mut words = ["begun", "ended"].into_iter();
        let mark = move || {
            println!("{}", words.next().unwrap_or_default());
            Ok(())
        };
        let callers = Callers { connections, in_flight, wander: false };
        let latency = load::run(address, callers, work, Time { warm, run }, mark).await?.latency;
        println!("{}", serde_json::to_string(&Counts::of(&latency))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::plan::{HALF, Shape};

    #[test]
    fn merged_histograms_are_one_of_all_values() {
        let (mut all, mut merged) = (load::new_histogram(), load::new_histogram());
        for part in 0..4_u64 {
            let mut latency = load::new_histogram();
            for number in 0..1_000 {
                let nanos = 1_000 + (number * 7 + part) * 12_345 % 90_000_000;
                latency.saturating_record(nanos);
                all.saturating_record(nanos);
            }
            // Longer than the histogram has places for.
            latency.saturating_record(u64::MAX);
            all.saturating_record(u64::MAX);
            let told = serde_json::to_string(&Counts::of(&latency)).unwrap();
            serde_json::from_str::<Counts>(&told).unwrap().add_to(&mut merged);
        }
        assert_eq!(merged.len(), 4_004);
        assert_eq!(merged, all);
    }

    #[test]
    fn nothing_recorded_is_nothing_told() {
        let mut latency = load::new_histogram();
        Counts::of(&latency).add_to(&mut latency);
        assert!(latency.is_empty());
    }

    #[test]
    fn all_that_a_cell_has_is_dealt_out() {
        let ids: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let time = Time { warm: Duration::ZERO, run: Duration::from_millis(1) };
        for generators in [2, 4, 8] {
            let cell = Cell { who: Who::Redis, what: What::Open, shape: Shape(8, 8), size: HALF, generators };
            let loads = dealt(address, cell, &ids, time);
            let sum = |of: fn(&Load) -> usize| loads.iter().map(of).sum::<usize>();
            assert_eq!((loads.len(), sum(|load| load.connections), sum(|load| load.in_flight)), (generators, 8, 64));
            let dealt: HashSet<_> = loads.iter().flat_map(|load| &load.ids).collect();
            assert_eq!((dealt.len(), sum(|load| load.ids.len())), (10, 10));
        }
    }
}
