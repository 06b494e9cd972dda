//! What the kernel tells of a process: its CPU time, how often it was switched, its memory; and of the whole machine.
//! (Linux only: from `/proc`.)

use std::{
    fs, io,
    ops::Sub,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// What a process has used up so far, over all the threads that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a CPU, in the kernel too.
    pub cpu: Duration,
    /// How often it went to sleep by itself.
    pub waits: u64,
    /// How often another took its place.
    pub evictions: u64,
}

impl Usage {
    /// Of this process. A thread that has ended is not counted any more; none of ours ends under load.
    ///
    /// # Errors
    /// When there is no such process, or the kernel speaks another dialect.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut usage = Self::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?.path();
            let cpu = fs::read_to_string(thread.join("schedstat"));
            let status = fs::read_to_string(thread.join("status"));
            // One may end between the listing and the look.
            let (Ok(cpu), Ok(status)) = (cpu, status) else { continue };
            usage.cpu += on_cpu(&cpu).ok_or_else(|| strange("schedstat"))?;
            usage.waits += number(&status, "voluntary_ctxt_switches").ok_or_else(|| strange("status"))?;
            usage.evictions += number(&status, "nonvoluntary_ctxt_switches").ok_or_else(|| strange("status"))?;
        }
        Ok(usage)
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            waits: self.waits.saturating_sub(before.waits),
            evictions: self.evictions.saturating_sub(before.evictions),
        }
    }
}

/// The memory of a process in KiB: `VmRSS` is what it has now, `VmHWM` the most since [`forget_peak`].
///
/// # Errors
/// When there is no such process, or the kernel speaks another dialect.
pub fn memory(pid: u32, what: &str) -> io::Result<u64> {
    number(&fs::read_to_string(format!("/proc/{pid}/status"))?, what).ok_or_else(|| strange(what))
}

/// Lets the peak of a process's memory begin anew. Where the kernel refuses, it is the peak since its start.
pub fn forget_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The CPU time of this process so far.
pub fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the whole machine has done so far, all cores together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Time that anything ran, or that the host took away.
    pub busy: Duration,
    /// All time.
    pub all: Duration,
}

impl Machine {
    /// As of now.
    ///
    /// # Errors
    /// When the kernel speaks another dialect.
    pub fn now() -> io::Result<Self> {
        machine(&fs::read_to_string("/proc/stat")?).ok_or_else(|| strange("/proc/stat"))
    }
}

/// The accounts at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When.
    pub at: Instant,
    /// The server's.
    pub server: Usage,
    /// Redis's.
    pub redis: Usage,
    /// The generator's CPU time, over all of its processes.
    pub generator: Duration,
    /// The machine's.
    pub machine: Machine,
}

impl Mark {
    /// As of now, of these processes; `generators` are those besides this one.
    ///
    /// # Errors
    /// When one is not there, or the kernel speaks another dialect.
    pub fn now(server: u32, redis: u32, generators: &[u32]) -> io::Result<Self> {
        let (server, redis) = (Usage::of(server)?, Usage::of(redis)?);
        let mut generator = own_cpu();
        for pid in generators {
            generator += Usage::of(*pid)?.cpu;
        }
        Ok(Self { server, redis, generator, machine: Machine::now()?, at: Instant::now() })
    }
}

/// The first number of a `schedstat`: nanoseconds on a CPU.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The number of a line `name: number`, whatever its unit.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn machine(stat: &str) -> Option<Machine> {
    // user, nice, system, idle, iowait, irq, softirq, steal; in hundredths of a second, whatever the kernel's own tick.
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|ticks| ticks.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks[..] else { return None };
    let busy = user + nice + system + irq + softirq + steal;
    let time = |ticks: u64| Duration::from_millis(ticks * 10);
    Some(Machine { busy: time(busy), all: time(busy + idle + iowait) })
}

fn strange(what: &str) -> io::Error {
    io::Error::other(format!("{what} is not written as it is on Linux"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(on_cpu("265385 2520143 2\n"), Some(Duration::from_nanos(265_385)));
        let status = "Name:\tx\nVmHWM:\t   12345 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(number(status, "VmHWM"), Some(12345));
        assert_eq!(number(status, "voluntary_ctxt_switches"), Some(7));
        assert_eq!(number(status, "nonvoluntary_ctxt_switches"), Some(3));
        assert_eq!(number(status, "Vm"), None);
        let stat = "cpu  10 0 20 300 5 1 2 3 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let told = Machine { busy: Duration::from_millis(360), all: Duration::from_millis(3410) };
        assert_eq!(machine(stat), Some(told));
        assert_eq!(machine("cpu  10 0\n"), None);
    }

    #[test]
    fn a_process_that_works_is_seen_working() {
        let (pid, before) = (std::process::id(), own_cpu());
        let counted = Usage::of(pid).unwrap();
        let mut sum = 0_u64;
        while own_cpu() - before < Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        // The kernel brings a thread's account up to date at its own ticks.
        assert!((Usage::of(pid).unwrap() - counted).cpu >= Duration::from_millis(5));
        assert!(memory(pid, "VmHWM").unwrap() >= memory(pid, "VmRSS").unwrap() / 2);
    }
}
