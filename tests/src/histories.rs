//! Histories: what callers of one session asked and were told, and when; and whether one session that does one thing at a
//! time could have told them so (linearizability).
//!
//! - `model`: a session in plain words.
//! - [`judge`]: looks for an order of a history's events that the model can follow.
//! - [`record`]: makes histories: four callers at once (`worker`), chance, and [`Faults`] beside them.
//!
//! A history names nothing that is secret: ids, etags and requests are numbered as they turn up.

mod checker;
mod faults;
mod model;
mod recorder;
mod worker;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use checker::{Verdict, judge};
pub use faults::Faults;
pub use recorder::{Report, record};

/// Four callers, each on a connection of its own.
pub const WORKERS: usize = 4;

/// The deadline of services whose histories are recorded: short, so that a Redis that is held up for long is an outage.
pub const DEADLINE: &str = "400ms";

/// What a session holds here.
pub type Data = BTreeMap<String, u32>;

/// An id, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id(pub u8);

/// An etag, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Etag(pub u8);

/// A request, by number: every sending of it has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request(pub u8);

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// An Open.
    Open(Id),
    /// A Save that creates.
    Create(Request, Data),
    /// A Save that changes.
    Save(Save),
    /// A Destroy; of this version, or of any.
    Destroy(Id, Option<Etag>),
}

/// A Save that changes a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// Which operation it is.
    pub request: Request,
    /// Which session.
    pub id: Id,
    /// Which version; or any.
    pub expected: Option<Etag>,
    /// What becomes of the data.
    pub change: Change,
    /// Whether the session gets a new id.
    pub rotate: bool,
}

/// What becomes of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are these from now on, if the version is the expected one.
    Whole(Data),
    /// This key gets this value, whatever the version.
    Key(String, u32),
    /// This key is removed, whatever the version.
    Removal(String),
}

/// What was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The session as it stands.
    Session(Seen),
    /// An Open found none.
    Nothing,
    /// The Destroy is done.
    Done,
    /// SESSION_NOT_FOUND.
    NotFound,
    /// SESSION_CHANGED.
    Changed,
    /// OUTCOME_UNKNOWN: it may have been applied before.
    OutcomeUnknown,
    /// Nobody knows: no answer, or one that leaves it open. It may be applied at any later time, or never.
    Unknown,
    /// Something that this service never has a reason to say here.
    Strange(String),
}

/// A session as an answer shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: Id,
    /// Its version.
    pub etag: Etag,
    /// Its data.
    pub data: Data,
}

/// One call: what was asked and told, and when, by one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who asked.
    pub worker: usize,
    /// Just before it was asked.
    pub asked: Duration,
    /// Just after it was told; of no meaning if nobody knows.
    pub told: Duration,
    /// What was asked.
    pub call: Call,
    /// What was told.
    pub answer: Answer,
}

/// The events of one session, in the order in which they were asked.
#[derive(Clone, Debug, Default)]
pub struct History(pub Vec<Event>);

impl History {
    /// How many are ambiguous.
    pub fn ambiguous(&self) -> usize {
        self.0.iter().filter(|event| event.is_ambiguous()).count()
    }

    /// How long it took.
    pub fn length(&self) -> Duration {
        self.0.iter().map(|event| event.told).max().unwrap_or_default()
    }
}

impl Event {
    /// Whether nobody knows what came of it.
    pub fn is_ambiguous(&self) -> bool {
        self.answer == Answer::Unknown
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, event) in self.0.iter().enumerate() {
            writeln!(f, "{number:>3}. {event}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, told) = (self.asked.as_micros(), self.told.as_micros());
        let told = if self.is_ambiguous() { "…".to_owned() } else { told.to_string() };
        write!(f, "worker {} {asked:>8}–{told:<8} µs  {}  =>  {}", self.worker, self.call, self.answer)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |etag: &Option<Etag>| etag.map_or_else(|| "any version".to_owned(), |etag| etag.to_string());
        match self {
            Self::Open(id) => write!(f, "open {id}"),
            Self::Create(request, data) => write!(f, "{request}: create {data:?}"),
            Self::Save(save) => {
                let Save { request, id, expected, change, rotate } = save;
                let rotate = if *rotate { " and rotate" } else { "" };
                write!(f, "{request}: save {id}, {}, {change}{rotate}", version(expected))
            }
            Self::Destroy(id, expected) => write!(f, "destroy {id}, {}", version(expected)),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(data) => write!(f, "all of it {data:?}"),
            Self::Key(key, value) => write!(f, "{key} = {value}"),
            Self::Removal(key) => write!(f, "without {key}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(Seen { id, etag, data }) => write!(f, "{id}, {etag}, {data:?}"),
            Self::Nothing => f.write_str("nothing"),
            Self::Done => f.write_str("done"),
            Self::NotFound => f.write_str("not found"),
            Self::Changed => f.write_str("changed"),
            Self::OutcomeUnknown => f.write_str("outcome unknown"),
            Self::Unknown => f.write_str("nobody knows"),
            Self::Strange(what) => write!(f, "{what}, of all things"),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id-{}", self.0)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etag-{}", self.0)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request-{}", self.0)
    }
}
