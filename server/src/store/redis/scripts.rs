//! The scripts: each a file with its contract in the header, and all with one shape of answer.

use redis::Value;

use super::{acts::Problem, record};
use crate::{
    session::{Record, Time},
    store::Found,
};

/// What every script shares stands behind its first line, which must be its `#!lua`.
const SHARED: &str = include_str!("lua/record.lua");

#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    pub(super) sha: String,
    /// The same, allowed to run when Redis is out of memory, and not allowed to write.
    pub(super) read_only: String,
}

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) save: Script,
    pub(super) renew: Script,
    pub(super) destroy: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            create: Script::new(include_str!("lua/create.lua")),
            save: Script::new(include_str!("lua/save.lua")),
            renew: Script::new(include_str!("lua/renew.lua")),
            destroy: Script::new(include_str!("lua/destroy.lua")),
        }
    }

    pub(super) fn all(&self) -> [&Script; 4] {
        [&self.create, &self.save, &self.renew, &self.destroy]
    }
}

impl Script {
    fn new(file: &str) -> Self {
        let (first, rest) = file.split_once('\n').unwrap_or((file, ""));
        let text = format!("{first}\n{SHARED}{rest}");
        let sha = redis::Script::new(&text).get_hash().to_owned();
        let read_only = format!("#!lua flags=no-writes,allow-oom\n{SHARED}{rest}");
        Self { text, sha, read_only }
    }
}

/// What a script answered: `{ status, number, now, expiry, record }`.
#[derive(Debug)]
pub(super) enum Reply {
    /// Nothing was done: the time for it was over.
    Late,
    /// What the status says, about no session.
    Bare(Status),
    /// What the status says, about this session.
    About(Status, Box<Found>),
}

/// The statuses of all scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Stored,
    Exists,
    Unknown,
    Gone,
    Missing,
    Replaced,
    ReplacedMaybeApplied,
    Repeat,
    SubjectNeedsRotate,
    Conflict,
    TooLarge,
    Absent,
    Done,
}

impl Reply {
    /// Whether it says that there is no session to the secret that was shown: only a primary may say so.
    pub(super) fn denies(&self) -> bool {
        use Status::{Absent, Gone, Missing, Replaced, ReplacedMaybeApplied};
        let (Self::Bare(status) | Self::About(status, _)) = self else { return false };
        matches!(status, Absent | Gone | Missing | Replaced | ReplacedMaybeApplied)
    }

    /// Whether it tells that something was written, now or by the attempt that this one repeats.
    pub(super) fn must_last(&self) -> bool {
        use Status::{Done, Repeat, Replaced, ReplacedMaybeApplied, Stored};
        match self {
            Self::Bare(status) => *status == Done,
            Self::About(status, _) => matches!(status, Stored | Repeat | Replaced | ReplacedMaybeApplied),
            Self::Late => false,
        }
    }
}

/// Reads the answer to the question of this number: Redis's time, and the rest.
pub(super) fn parse(answer: Value, number: u64) -> Result<(Time, Reply), Problem> {
    let Value::Array(parts) = answer else { return Err(Problem::Astray) };
    let Ok(
        [
            Value::BulkString(status),
            Value::BulkString(about),
            Value::Int(now),
            Value::Int(expiry),
            Value::BulkString(bytes),
        ],
    ) = <[Value; 5]>::try_from(parts)
    else {
        return Err(Problem::Astray);
    };
    if str::from_utf8(&about).ok().and_then(|about| about.parse().ok()) != Some(number) {
        return Err(Problem::Astray);
    }
    let unreadable = Problem::Unreadable("a script's answer that is none of its");
    let now = Time(now.try_into().unwrap_or_default());
    let status = match &status[..] {
        b"LATE" => return Ok((now, Reply::Late)),
        b"STORED" => Status::Stored,
        b"EXISTS" => Status::Exists,
        b"UNKNOWN" => Status::Unknown,
        b"GONE" => Status::Gone,
        b"MISSING" => Status::Missing,
        b"REPLACED" => Status::Replaced,
        b"REPLACED_MAYBE_APPLIED" => Status::ReplacedMaybeApplied,
        b"REPEAT" => Status::Repeat,
        b"SUBJECT_NEEDS_ROTATE" => Status::SubjectNeedsRotate,
        b"CONFLICT" => Status::Conflict,
        b"TOO_LARGE" => Status::TooLarge,
        b"ABSENT" => Status::Absent,
        b"DONE" => Status::Done,
        _ => return Err(unreadable),
    };
    if bytes.is_empty() {
        return Ok((now, Reply::Bare(status)));
    }
    let record: Record = record::decode(bytes.into())?.ok_or(unreadable)?;
    let expire_time = Time(expiry.try_into().unwrap_or_default());
    Ok((now, Reply::About(status, Box::new(Found { record, expire_time, now }))))
}
