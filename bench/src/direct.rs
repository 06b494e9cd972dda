//! Direct: an application that keeps its sessions in Redis by itself, with redis-rs and a bb8 pool as their READMEs show
//! them, one GET per session. It is both sides of the comparison in one process: what its CPU buys includes its own calls,
//! which the others' callers pay for.
//!
//! Each line of its input, "callers, microseconds to warm up, microseconds to run, size", is one load. It says "begun" and
//! "ended" when the measuring does, and then what came of it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bb8_redis::{RedisConnectionManager, bb8::Pool};
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    task::JoinSet,
    time::sleep,
};

use crate::load;

/// How many sessions it has of each size.
pub const SESSIONS: usize = 1_000;

/// What came of a load; times in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Told {
    /// How long was measured.
    pub took: f64,
    /// Calls that ended in that time.
    pub calls: u64,
    /// What half of them took at most.
    pub p50: f64,
    /// What 99 of 100 took at most.
    pub p99: f64,
    /// What 999 of 1,000 took at most.
    pub p999: f64,
}

/// The key of a session.
pub fn key(size: usize, number: usize) -> String {
    format!("direct:{size}:{number}")
}

/// Runs the application until its input ends.
///
/// # Errors
/// When Redis cannot be asked, or the input is not what it should be.
pub async fn run(url: &str) -> anyhow::Result<()> {
    let pool = Pool::builder().build(RedisConnectionManager::new(url)?).await?;
    println!("127.0.0.1:0");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let numbers: Vec<u64> = line.split(' ').map_while(|number| number.parse().ok()).collect();
        let [callers, warm, run, size] = numbers[..] else { anyhow::bail!("not a load: {line}") };
        let told =
            measure(&pool, callers, Duration::from_micros(warm), Duration::from_micros(run), size as usize).await?;
        println!("{}", serde_json::to_string(&told)?);
    }
    Ok(())
}

const WARM: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

async fn measure(
    pool: &Pool<RedisConnectionManager>,
    callers: u64,
    warm: Duration,
    run: Duration,
    size: usize,
) -> anyhow::Result<Told> {
    let phase = Arc::new(AtomicU8::new(WARM));
    let total = Arc::new(Mutex::new(load::new_histogram()));
    let mut tasks = JoinSet::new();
    for number in 0..callers as usize {
        let (pool, phase, total) = (pool.clone(), Arc::clone(&phase), Arc::clone(&total));
        tasks.spawn(async move {
            let mut latency = load::new_histogram();
            for turn in number * 7.. {
                if phase.load(Ordering::Relaxed) == OVER {
                    break;
                }
                let begun = Instant::now();
                let data: Option<Vec<u8>> = pool.get().await?.get(key(size, turn % SESSIONS)).await?;
                if phase.load(Ordering::Relaxed) == MEASURED {
                    latency.saturating_record(begun.elapsed().as_nanos() as u64);
                }
                anyhow::ensure!(data.is_some_and(|data| data.len() > size / 2), "a session is not there");
            }
            total.lock().unwrap_or_else(PoisonError::into_inner).add(&latency).context("histograms of one kind")
        });
    }
    sleep(warm).await;
    println!("begun");
    let begun = Instant::now();
    phase.store(MEASURED, Ordering::Relaxed);
    sleep(run).await;
    phase.store(OVER, Ordering::Relaxed);
    let took = begun.elapsed();
    println!("ended");
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let latency = total.lock().unwrap_or_else(PoisonError::into_inner);
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    let took = took.as_secs_f64() * 1e6;
    Ok(Told { took, calls: latency.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}
