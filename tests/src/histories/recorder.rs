//! Makes histories, and has them judged.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sessiond_proto::v1 as wire;
use tokio::task::JoinSet;

use super::{
    Answer, Call, Etag, Event, Faults, History, Id, Request, Seen, Verdict, WORKERS, faults::trouble, judge, worker,
};
use crate::{Dice, Stub, TestRedis, data, json};

/// Histories at a time.
const AT_ONCE: usize = 8;

/// What came of the histories.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many were recorded.
    pub histories: usize,
    /// Their events in all.
    pub operations: usize,
    /// The most events in one.
    pub largest: usize,
    /// Events of which nobody knows what came.
    pub ambiguous: usize,
    /// What went wrong, by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Histories whose judge gave up.
    pub undecided: usize,
    /// Histories that no session could have told, in words.
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, operations, largest, ambiguous, faults, undecided, violations } = self;
        write!(f, "{histories} histories, {operations} operations, {largest} in the largest, {ambiguous} ambiguous, ")?;
        for (what, times) in faults {
            write!(f, "{times} {what}, ")?;
        }
        write!(f, "undecided {undecided}, violations {}", violations.len())
    }
}

impl Report {
    fn add(&mut self, number: usize, history: &History, faults: BTreeMap<&'static str, usize>) {
        self.histories += 1;
        self.operations += history.0.len();
        self.largest = self.largest.max(history.0.len());
        self.ambiguous += history.ambiguous();
        self.faulty(faults);
        match judge(history) {
            Verdict::Linearizable => {}
            Verdict::Undecided => self.undecided += 1,
            Verdict::Violation(best) => self.violations.push(format!(
                "history {number} is no session's:\n{history}the most that can be explained, in this order: {best:?}"
            )),
        }
    }

    fn faulty(&mut self, faults: BTreeMap<&'static str, usize>) {
        faults.into_iter().for_each(|(what, times)| *self.faults.entry(what).or_default() += times);
    }

    fn join(&mut self, other: Self) {
        self.histories += other.histories;
        self.operations += other.operations;
        self.largest = self.largest.max(other.largest);
        self.ambiguous += other.ambiguous;
        self.faulty(other.faults);
        self.undecided += other.undecided;
        self.violations.extend(other.violations);
    }
}

/// Records so many histories, and judges each. Every worker asks by a stub of its own; beside them goes wrong what may go
/// wrong with the Redis.
pub async fn record(
    what: &str,
    histories: usize,
    stub: impl Fn() -> Stub,
    trouble_with: Option<(&TestRedis, Faults)>,
) -> Report {
    let (dice, next) = (Dice::new(what), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let stubs: [Stub; WORKERS] = std::array::from_fn(|_| stub());
        let (dice, next) = (dice.clone(), Arc::clone(&next));
        lanes.spawn(async move {
            let mut report = Report::default();
            while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < histories) {
                let recorder = Recorder::default();
                worker::live(&recorder, &stubs, &dice.split(number)).await;
                let (history, faults) = recorder.end();
                report.add(number, &history, faults);
            }
            report
        });
    }
    let (mut report, mut faults) = (Report::default(), BTreeMap::new());
    let beside = async {
        match trouble_with {
            Some((redis, kinds)) => trouble(redis, kinds, dice.split(histories), &mut faults).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        lanes = lanes.join_all() => lanes.into_iter().for_each(|lane| report.join(lane)),
        never = beside => match never {},
    }
    report.faulty(faults);
    println!("{what}: {report}");
    report
}

/// Writes one history down, while four workers make it; and keeps what they tell each other.
pub(super) struct Recorder {
    began: Instant,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    events: Vec<Event>,
    ids: Vec<String>,
    etags: Vec<String>,
    requests: u8,
    known: Vec<wire::Session>,
    faults: BTreeMap<&'static str, usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), notes: Mutex::default() }
    }
}

impl Recorder {
    fn notes<T>(&self, act: impl FnOnce(&mut Notes) -> T) -> T {
        act(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(self) -> (History, BTreeMap<&'static str, usize>) {
        let notes = self.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
        (History(notes.events), notes.faults)
    }

    /// A new operation.
    pub(super) fn request(&self) -> Request {
        self.notes(|notes| {
            notes.requests += 1;
            Request(notes.requests)
        })
    }

    /// It is being asked, and until more is known nobody knows what came of it. Gives the event's number.
    pub(super) fn asked(&self, worker: usize, call: Call) -> usize {
        self.notes(|notes| {
            // Within the lock, so that the events stand in their order.
            let asked = self.began.elapsed();
            notes.events.push(Event { worker, asked, told: Duration::ZERO, call, answer: Answer::Unknown });
            notes.events.len() - 1
        })
    }

    /// This was told.
    pub(super) fn told(&self, event: usize, answer: Answer) {
        let told = self.began.elapsed();
        self.notes(|notes| {
            let event = &mut notes.events[event];
            (event.told, event.answer) = (told, answer);
        });
    }

    /// A session as the history writes it.
    pub(super) fn seen(&self, session: &wire::Session) -> Seen {
        let serde_json::Value::Object(map) = json(session.data.as_ref().expect("the answer holds the data")) else {
            unreachable!("data is an object")
        };
        let value = |value: serde_json::Value| value.as_u64().and_then(|value| value.try_into().ok());
        let data = map.into_iter().map(|(key, it)| (key, value(it).expect("a small number"))).collect();
        let (id, etag) = (self.id(&session.id), Etag(self.notes(|notes| number(&mut notes.etags, &session.etag))));
        Seen { id, etag, data }
    }

    /// An id as the history writes it.
    pub(super) fn id(&self, id: &str) -> Id {
        Id(self.notes(|notes| number(&mut notes.ids, id)))
    }

    /// Everyone knows of this session from now on.
    pub(super) fn tell_all(&self, session: wire::Session) {
        self.notes(|notes| notes.known.push(session));
    }

    /// Everything that everyone knows of, the newest last.
    pub(super) fn known(&self) -> Vec<wire::Session> {
        self.notes(|notes| notes.known.clone())
    }

    /// Something went wrong.
    pub(super) fn fault(&self, what: &'static str) {
        self.notes(|notes| *notes.faults.entry(what).or_default() += 1);
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.notes(|notes| notes.events.len())
    }
}

fn number(names: &mut Vec<String>, name: &str) -> u8 {
    let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    at.try_into().expect("few names")
}

/// Data as the wire has them.
pub(super) fn on_the_wire(map: &super::Data) -> sessiond_proto::RawStruct {
    data(serde_json::to_value(map).expect("numbers by name"))
}
