//! Runs the plan: takes a sample of each cell in each round.

use std::{cell::RefCell, collections::HashMap, mem, ops::Range, path::Path, rc::Rc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    accounts::{Mark, forget_peak, memory},
    contestants::Contestants,
    direct,
    generators::Generators,
    load,
    load::{Callers, Time, Work},
    plan::{Cell, FULL, Plan, What, Who},
    syscalls::{Counting, Syscalls},
    wire::{self, Method},
};

/// The most bytes of sessions that one turn of creating them makes: the memory store holds 256 MiB.
const MOST_CREATED: usize = 48 << 20;

/// What one turn of a cell came to. Times in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Calls a second.
    pub rate: f64,
    /// What half of the calls took at most.
    pub p50: f64,
    /// What 99 of 100 took at most.
    pub p99: f64,
    /// What 999 of 1,000 took at most.
    pub p999: f64,
    /// The server's CPU time per call.
    pub server: f64,
    /// Redis's.
    pub redis: f64,
    /// The generator's.
    pub generator: f64,
    /// How often the server went to sleep, per call.
    pub waits: f64,
    /// How often another process took its place, per call.
    pub evictions: f64,
    /// The most memory that the server had, in MiB.
    pub peak: f64,
}

pub(crate) type Calls = Rc<[(Method, Bytes)]>;

/// All that is running, and what it holds.
pub struct Bench {
    contestants: Contestants,
    generators: Generators,
    time: Time,
    /// Sessions that stay.
    ids: HashMap<(Who, usize), Vec<String>>,
    /// Sessions that were made to be ended.
    made: HashMap<(Who, usize), Vec<String>>,
    /// Calls that were encoded before.
    calls: HashMap<(Who, What, usize), Calls>,
    /// CPU time of others while something was measured, and all there was.
    foreign: (Duration, Duration),
}

impl Bench {
    /// Starts what this plan needs, and another build of sessiond, if there is one to compare with.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(plan: &Plan, other: Option<&Path>) -> anyhow::Result<Self> {
        let (contestants, time) = (Contestants::start(&plan.cells, other).await?, plan.time);
        let generators = Generators::start(&plan.cells).await?;
        let (ids, made, calls) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { contestants, generators, time, ids, made, calls, foreign: Default::default() })
    }

    /// Which part of the machine's CPU time others had, while something was measured.
    pub fn foreign(&self) -> f64 {
        let (foreign, all) = self.foreign;
        foreign.as_secs_f64() / all.as_secs_f64().max(1e-9)
    }

    /// Makes the sessions that these cells need.
    ///
    /// # Errors
    /// When they cannot be made.
    pub async fn fill(&mut self, cells: &[Cell]) -> anyhow::Result<()> {
        for Cell { who, size, .. } in cells.iter().copied() {
            let data = wire::data(size);
            match who {
                Who::Echo | Who::Tuned => {}
                Who::Direct => {
                    let (value, mut redis) =
                        (prost::Message::encode_to_vec(&data), self.contestants.redis.connection().await);
                    for number in 0..direct::SESSIONS {
                        let key = direct::key(size, number);
                        redis::cmd("SET").arg(key).arg(&value).exec_async(&mut redis).await?;
                    }
                }
                _ if self.ids.contains_key(&(who, size)) => {}
                Who::Textbook | Who::Redis | Who::Tls | Who::Aof | Who::Other | Who::Memory => {
                    // So many that none is saved more than some times within five seconds: its ring would grow, as a hot
                    // session's does, and most sessions are not hot.
                    let count = if size > 1024 { 3_400 } else { 17_000 };
                    let ids = self.create(who, size, count).await?;
                    self.ids.insert((who, size), ids);
                }
            }
        }
        Ok(())
    }

    /// Makes so many sessions, without measuring.
    async fn create(&self, who: Who, size: usize, count: usize) -> anyhow::Result<Vec<String>> {
        create(self.contestants.place(who).1, size, count).await.with_context(|| format!("{who}: creating"))
    }

    /// One turn of this cell.
    ///
    /// # Errors
    /// When any call fails, or is answered with what it should not be.
    pub async fn measure(&mut self, cell: Cell) -> anyhow::Result<Sample> {
        let ((server, address), redis) = (self.contestants.place(cell.who), self.contestants.redis_pid(cell.who));
        let mut marks = Vec::with_capacity(2);
        let generators = self.generators.pids(cell);
        let mut mark = || Mark::now(server, redis, &generators).map(|now| marks.push(now));
        let quantiles = |latency: &Histogram<u64>| {
            [0.5, 0.99, 0.999].map(|quantile| latency.value_at_quantile(quantile) as f64 / 1e3)
        };
        let (calls, [p50, p99, p999]) = if cell.who == Who::Direct {
            forget_peak(server);
            let told = self.contestants.direct(cell.shape.0 * cell.shape.1, self.time, cell.size, mark).await;
            let told = told.with_context(|| cell.name())?;
            (told.calls, [told.p50, told.p99, told.p999])
        } else if cell.generators > 1 {
            let ids = self.ids.get(&(cell.who, cell.size)).map_or(&[][..], Vec::as_slice);
            forget_peak(server);
            let latency = self.generators.run(address, cell, ids, self.time, mark).await;
            let latency = latency.with_context(|| cell.name())?;
            (latency.len(), quantiles(&latency))
        } else {
            let work = self.work(cell).await.with_context(|| cell.name())?;
            let ids = work.ids.clone();
            forget_peak(server);
            let outcome = load::run(address, cell.callers(), work, self.time, &mut mark).await;
            let latency = outcome.with_context(|| cell.name())?.latency;
            if let Some(ids) = ids {
                self.made.entry((cell.who, cell.size)).or_default().append(&mut ids.borrow_mut());
            }
            (latency.len(), quantiles(&latency))
        };
        let [begun, ended] = marks[..] else { anyhow::bail!("{}: not measured", cell.name()) };
        anyhow::ensure!(calls > 0, "{}: no call ended in time", cell.name());
        let (server_used, redis_used) = (ended.server - begun.server, ended.redis - begun.redis);
        let generator = ended.generator - begun.generator;
        let busy = ended.machine.busy.saturating_sub(begun.machine.busy);
        self.foreign.0 += busy.saturating_sub(server_used.cpu + redis_used.cpu + generator);
        self.foreign.1 += ended.machine.all.saturating_sub(begun.machine.all);
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / calls as f64;
        Ok(Sample {
            rate: calls as f64 / (ended.at - begun.at).as_secs_f64(),
            p50,
            p99,
            p999,
            server: each(server_used.cpu),
            redis: each(redis_used.cpu),
            generator: each(generator),
            waits: server_used.waits as f64 / calls as f64,
            evictions: server_used.evictions as f64 / calls as f64,
            peak: memory(server, "VmHWM")? as f64 / 1024.0,
        })
    }

    /// What this cell's server asks of the kernel, where the machine lets us count.
    ///
    /// # Errors
    /// When any call fails.
    pub async fn syscalls(&mut self, cell: Cell) -> anyhow::Result<Option<Syscalls>> {
        let work = self.work(cell).await?;
        let (pid, address) = self.contestants.place(cell.who);
        let Some(counting) = Counting::begin(pid).await else { return Ok(None) };
        let outcome = load::run(address, cell.callers(), work, self.time, || Ok(())).await?;
        Ok(counting.end(outcome.calls).await)
    }

    async fn work(&mut self, cell: Cell) -> anyhow::Result<Work> {
        let Cell { who, what, size, .. } = cell;
        if what == What::Destroy {
            let mut ids = mem::take(self.made.entry((who, size)).or_default());
            // More than are ended before the measuring begins: the memory store ends a quarter of a million in a second.
            let many = if who == Who::Memory { 120_000 } else { 30_000 };
            let enough = (MOST_CREATED / size).min(many).saturating_sub(ids.len());
            ids.append(&mut self.create(who, size, enough).await?);
            let calls: Vec<_> = ids.iter().map(|id| (Method::Destroy, wire::destroy(id))).collect();
            return Ok(Work::once(calls, 0..1));
        }
        let ids = &self.ids;
        let calls = self.calls.entry((who, what, size)).or_insert_with(|| {
            let ids = ids.get(&(who, size)).map_or(&[][..], Vec::as_slice);
            encoded(who, what, size, ids)
        });
        let work = Work::over(Rc::clone(calls), answers(what, size));
        Ok(if what == What::Create {
            // Those of the turns before are ended by now, if Destroy is measured as well.
            let limit = (MOST_CREATED / size) as u64;
            Work { limit, ids: Some(Rc::default()), ..work }
        } else {
            work
        })
    }
}

impl Cell {
    /// Its callers, all together.
    pub(crate) fn callers(&self) -> Callers {
        Callers { connections: self.shape.0, in_flight: self.shape.0 * self.shape.1, wander: false }
    }

    /// What it is called in a message.
    pub fn name(&self) -> String {
        format!("{}, {}, {}, {} bytes", self.who, self.what, self.shown_callers(), self.size)
    }
}

/// Makes so many sessions, and gives their ids.
///
/// # Errors
/// When one cannot be made.
pub async fn create(address: std::net::SocketAddr, size: usize, count: usize) -> anyhow::Result<Vec<String>> {
    let ids = Rc::new(RefCell::new(Vec::with_capacity(count)));
    let calls = [(Method::Save, wire::create(wire::data(size)))];
    let work = Work {
        limit: count as u64,
        finish: true,
        ids: Some(Rc::clone(&ids)),
        ..Work::over(calls, answers(What::Create, size))
    };
    let callers = Callers { connections: FULL.0, in_flight: 64, wander: false };
    load::run(address, callers, work, Time { warm: Duration::ZERO, run: Duration::from_secs(120) }, || Ok(())).await?;
    Ok(ids.take())
}

/// The calls of a cell.
pub(crate) fn encoded(who: Who, what: What, size: usize, ids: &[String]) -> Calls {
    let data = wire::data(size);
    if matches!(who, Who::Echo | Who::Tuned) {
        return [(Method::Open, wire::echo(size))].into();
    }
    let open = |id: &String| (Method::Open, wire::open(id));
    match what {
        What::Open => ids.iter().map(open).collect(),
        What::Miss => (0..1_000).map(|number| (Method::Open, wire::miss(number))).collect(),
        What::Malformed => [(Method::Open, wire::malformed())].into(),
        What::Create => [(Method::Save, wire::create(data))].into(),
        What::Replace => ids.iter().map(|id| (Method::Save, wire::replace(id, data.clone()))).collect(),
        What::Change => ids.iter().map(|id| (Method::Save, wire::change(id, data.clone()))).collect(),
        What::Mix => ids
            .iter()
            .enumerate()
            .map(|(number, id)| match number % 10 {
                9 => (Method::Save, wire::change(id, data.clone())),
                _ => open(id),
            })
            .collect(),
        // Each has its own, made for it.
        What::Destroy => [].into(),
    }
}

/// How many bytes a right answer has: of an Open that hits, the data and at most so much besides.
pub(crate) fn answers(what: What, size: usize) -> Range<usize> {
    const BESIDES: usize = 400;
    match what {
        What::Open => size - 4..size + BESIDES,
        What::Miss | What::Malformed => 0..16,
        What::Create | What::Replace | What::Change => 60..BESIDES,
        What::Mix => 60..size + BESIDES,
        What::Destroy => 0..1,
    }
}
