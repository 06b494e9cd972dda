//! How often a process asks the kernel for what: writes, reads, and looks at what is ready. Counted by `perf stat`, where the
//! machine has it and lets us; in a pass of its own, because counting costs.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

/// Per call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Syscalls {
    /// `write` and its kin.
    pub writes: f64,
    /// `read` and its kin.
    pub reads: f64,
    /// `epoll_wait`: looks at what is ready.
    pub looks: f64,
    /// `futex`: threads that wait for one another or wake one another.
    pub futexes: f64,
}

const WRITES: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
const READS: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];
const LOOKS: [&str; 2] = ["epoll_wait", "epoll_pwait"];
const FUTEXES: [&str; 1] = ["futex"];

/// A count that is under way.
pub struct Counting(Child);

impl Counting {
    /// Begins to count what all threads of this process do; none where that cannot be.
    pub async fn begin(pid: u32) -> Option<Self> {
        let events: Vec<String> = [&WRITES[..], &READS, &LOOKS, &FUTEXES]
            .concat()
            .iter()
            .map(|name| format!("syscalls:sys_enter_{name}"))
            .collect();
        let mut perf = Command::new("perf")
            .args(["stat", "-x,", "-e", &events.join(","), "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        // It does not tell when it has begun. What it misses of the first calls is little against the rest.
        sleep(Duration::from_millis(300)).await;
        matches!(perf.try_wait(), Ok(None)).then_some(Self(perf))
    }

    /// Ends it, and tells what there was per call.
    pub async fn end(self, calls: u64) -> Option<Syscalls> {
        let pid = Pid::from_raw(self.0.id()?.try_into().ok()?)?;
        kill_process(pid, Signal::INT).ok()?;
        let output = timeout(Duration::from_secs(5), self.0.wait_with_output()).await.ok()?.ok()?;
        read(&String::from_utf8_lossy(&output.stderr), calls)
    }
}

/// Reads lines as `1234,,syscalls:sys_enter_write,…`.
fn read(told: &str, calls: u64) -> Option<Syscalls> {
    let count = |name: &&str| {
        let event = format!("syscalls:sys_enter_{name}");
        let line = told.lines().find(|line| line.split(',').nth(2) == Some(&event))?;
        line.split(',').next()?.parse::<u64>().ok()
    };
    let each = |names: &[&str]| {
        let counts: Option<Vec<u64>> = names.iter().map(count).collect();
        Some(counts?.iter().sum::<u64>() as f64 / calls as f64)
    };
    Some(Syscalls { writes: each(&WRITES)?, reads: each(&READS)?, looks: each(&LOOKS)?, futexes: each(&FUTEXES)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_tells_is_added_up() {
        let line = |name: &str, count: u64| format!("{count},,syscalls:sys_enter_{name},814425,100.00,,\n");
        let names = [&WRITES[..], &READS, &LOOKS, &FUTEXES].concat();
        let told: String = names.iter().map(|name| line(name, 5)).collect();
        let counted = Syscalls { writes: 2.0, reads: 2.0, looks: 1.0, futexes: 0.5 };
        assert_eq!(read(&told, 10), Some(counted));
        assert_eq!(read("<not supported>,,syscalls:sys_enter_write,0,100.00,,\n", 10), None);
    }
}
