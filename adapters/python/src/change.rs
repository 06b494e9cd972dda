//! What a Save asks for, read from the arguments of Python's `save`.

use std::time::Duration;

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};
use sessiond_client::{Error, Map, Save, SessionId as Id};

use crate::{
    errors,
    session::{Session, SessionId},
    values,
};

/// The session that a call is about.
pub(crate) enum Target<'py> {
    Opened(Bound<'py, Session>),
    Named(Id),
    /// By a text that is no id: it opens nothing.
    Nobody,
}

impl<'py> Target<'py> {
    pub(crate) fn read(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(session) = object.cast::<Session>() {
            return Ok(Self::Opened(session.clone()));
        }
        if let Ok(id) = object.cast::<SessionId>() {
            return Ok(Self::Named(id.get().0.clone()));
        }
        let Ok(text) = object.extract::<String>() else {
            let kind = object.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "say which session: a Session, a SessionId or a str, not {kind}"
            )));
        };
        Ok(Id::parse(&text).map_or(Self::Nobody, Self::Named))
    }

    pub(crate) fn id(&self) -> Option<Id> {
        match self {
            Self::Opened(session) => Some(session.get().stored.id().clone()),
            Self::Named(id) => Some(id.clone()),
            Self::Nobody => None,
        }
    }
}

/// A span of time: a `timedelta`, or seconds.
#[derive(FromPyObject)]
pub(crate) enum Span {
    Delta(Duration),
    Seconds(f64),
}

impl Span {
    fn duration(self) -> PyResult<Duration> {
        match self {
            Self::Delta(duration) => Ok(duration),
            Self::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| {
                PyValueError::new_err(format!("an idle timeout cannot be {seconds}: say seconds, at least 1"))
            }),
        }
    }
}

/// What becomes of the session beside its data.
#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) rotate: bool,
    pub(crate) subject: Option<String>,
    pub(crate) idle_timeout: Option<Span>,
}

impl Flags {
    fn ask_for_something(&self) -> bool {
        self.rotate || self.subject.is_some() || self.idle_timeout.is_some()
    }

    fn put(self, mut save: Save) -> PyResult<Save> {
        if self.rotate {
            save = save.rotate();
        }
        if let Some(subject) = self.subject {
            save = save.subject(subject);
        }
        if let Some(span) = self.idle_timeout {
            save = save.idle_timeout(span.duration()?);
        }
        Ok(save)
    }
}

/// What becomes of the data.
pub(crate) struct Data<'a, 'py> {
    pub(crate) given: Option<&'a Bound<'py, PyDict>>,
    pub(crate) changed_keys: Option<Vec<String>>,
    pub(crate) replace: bool,
}

impl Data<'_, '_> {
    fn read(&self, py: Python<'_>) -> PyResult<Option<Map>> {
        let read = |data| values::read_entries(data).map_err(|refused| refused.raise(py, "session"));
        self.given.map(read).transpose()
    }
}

/// A Save; `None` if it would change nothing.
pub(crate) fn save(
    py: Python<'_>,
    target: Option<Target<'_>>,
    data: Data<'_, '_>,
    flags: Flags,
) -> PyResult<Option<Save>> {
    let given = data.read(py)?;
    let asks = flags.ask_for_something();
    let save = match target {
        None => Some(Save::create().replace_data(given.unwrap_or_default())),
        Some(Target::Nobody) => return Err(errors::raise(py, &Error::NotFound)),
        Some(Target::Opened(session)) => of_opened(py, session.get(), given, &data, asks)?,
        Some(Target::Named(id)) => Some(of_named(&id, given, &data)?),
    };
    save.map(|save| flags.put(save)).transpose()
}

/// For an opened session it is known what was there: what differs is the change, unless it is told.
fn of_opened(
    py: Python<'_>,
    session: &Session,
    given: Option<Map>,
    data: &Data<'_, '_>,
    asks: bool,
) -> PyResult<Option<Save>> {
    let given = match (given, session.seen(py)) {
        (None, Some(seen)) => Data { given: Some(seen), changed_keys: None, replace: false }.read(py)?,
        (given, _) => given,
    };
    let change = session.stored.change();
    let Some(given) = given else { return Ok(asks.then_some(change)) };
    if data.replace {
        return Ok(Some(change.replace_data(given)));
    }
    if let Some(keys) = &data.changed_keys {
        return Ok(Some(with_keys(change, keys, given)));
    }
    let there = session.stored.data();
    let gone: Vec<_> = there.keys().filter(|key| !given.contains_key(*key)).collect();
    let differing: Vec<_> = given.into_iter().filter(|(key, value)| there.get(key) != Some(value)).collect();
    if gone.is_empty() && differing.is_empty() && !asks {
        return Ok(None);
    }
    let change = gone.into_iter().fold(change, |change, key| change.remove(key));
    Ok(Some(differing.into_iter().fold(change, |change, (key, value)| change.set_value(&key, value))))
}

/// For a mere id it has to be told.
fn of_named(id: &Id, given: Option<Map>, data: &Data<'_, '_>) -> PyResult<Save> {
    let change = Save::of(id);
    match (given, &data.changed_keys) {
        (None, None) => Ok(change),
        (Some(given), None) if data.replace => Ok(change.replace_data(given)),
        (Some(given), Some(keys)) if !data.replace => Ok(with_keys(change, keys, given)),
        _ => Err(PyValueError::new_err(
            "a session that was not opened: say which keys of data are the change (changed_keys), or replace=True for all of it",
        )),
    }
}

fn with_keys(change: Save, keys: &[String], mut data: Map) -> Save {
    let put = |change: Save, key: &String| match data.remove(key) {
        Some(value) => change.set_value(key, value),
        None => change.remove(key),
    };
    let mut unique: Vec<_> = keys.iter().collect();
    unique.sort_unstable();
    unique.dedup();
    unique.into_iter().fold(change, put)
}
