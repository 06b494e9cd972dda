//! How quiet the machine was. Ratios within a round take much of a machine's moods away, not all: what is above these limits
//! is no basis for a verdict.

use std::{fs, hint::black_box, time::Instant};

use serde::Serialize;

use crate::figures::Figure;

/// The most that the echo's CPU per call may spread over the rounds, as a part of its median.
const CPU_SPREAD: f64 = 0.4;

/// The most that its throughput may.
const RATE_SPREAD: f64 = 0.5;

/// The most that the slowest spin may take, of the fastest.
const SPIN: f64 = 1.3;

/// The most of the machine's CPU time that others may have had while something was measured.
const FOREIGN: f64 = 0.08;

/// The fewest rounds that tell anything about each other.
const ROUNDS: usize = 5;

/// What is known of a run's noise.
#[derive(Clone, Debug, Serialize)]
pub struct Noise {
    /// The load average of the last minute before it began. Told, and not judged: it also counts what built the bench.
    pub load_average: Option<f64>,
    /// A fixed piece of work, timed before the first round and before each further one, in milliseconds.
    pub spin: Option<Figure>,
    /// The echo's CPU per call, in microseconds.
    pub echo_cpu: Option<Figure>,
    /// The echo's calls a second.
    pub echo_rate: Option<Figure>,
    /// The part of the machine's CPU time that others had (the host too, where the kernel tells of it).
    pub foreign: f64,
    /// How many rounds there were.
    pub rounds: usize,
}

impl Noise {
    /// Why there can be no verdict; nothing, if there can.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut judge = |what: &str, value: Option<f64>, most: f64| match value {
            Some(value) if value <= most => {}
            Some(value) => complaints.push(format!("{what} is {value:.2}, and must not be above {most:.2}")),
            None => complaints.push(format!("{what} was not measured")),
        };
        judge("the spread of the echo's CPU", self.echo_cpu.map(|cpu| cpu.spread()), CPU_SPREAD);
        judge("the spread of the echo's throughput", self.echo_rate.map(|rate| rate.spread()), RATE_SPREAD);
        judge("the slowest spin against the fastest", self.spin.map(|spin| spin.high / spin.low), SPIN);
        judge("the part of the CPU that others had", Some(self.foreign), FOREIGN);
        if self.rounds < ROUNDS {
            complaints.push(format!("there were {} rounds, and must be {ROUNDS} or more", self.rounds));
        }
        complaints
    }
}

/// A fixed piece of work that needs nothing but a core; how long it took, in milliseconds.
pub fn spin() -> f64 {
    let begun = Instant::now();
    let mut state = 1_u64;
    for step in 0..20_000_000_u64 {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
    begun.elapsed().as_secs_f64() * 1e3
}

/// The load average of the last minute, where the machine tells.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// What machine this is: its processors and its kernel.
pub fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {}, Linux {}", name.unwrap_or("an unknown make"), kernel.trim())
}

#[cfg(test)]
pub(crate) fn quiet() -> Noise {
    let flat = |median| Some(Figure { median, low: median, high: median });
    Noise {
        load_average: Some(0.1),
        spin: flat(20.0),
        echo_cpu: flat(30.0),
        echo_rate: flat(40_000.0),
        foreign: 0.01,
        rounds: 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_run_is_good_enough() {
        assert_eq!(quiet().complaints(), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_loud_is_named() {
        let wide = Some(Figure { median: 1.0, low: 0.5, high: 1.5 });
        for (noise, says) in [
            (Noise { echo_cpu: wide, ..quiet() }, "echo's CPU is 1.00"),
            (Noise { echo_rate: wide, ..quiet() }, "echo's throughput is 1.00"),
            (Noise { spin: wide, ..quiet() }, "against the fastest is 3.00"),
            (Noise { foreign: 0.3, ..quiet() }, "others had is 0.30"),
            (Noise { echo_cpu: None, ..quiet() }, "was not measured"),
            (Noise { rounds: 3, ..quiet() }, "3 rounds"),
        ] {
            let complaints = noise.complaints();
            assert!(complaints.len() == 1 && complaints[0].contains(says), "{complaints:?}");
        }
    }
}
