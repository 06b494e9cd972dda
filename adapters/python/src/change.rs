//! A Save, made of the arguments of Python's `save`.

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
    fn duration(self, what: &str) -> PyResult<Duration> {
        match self {
            Self::Delta(duration) => Ok(duration),
            Self::Seconds(seconds) => Duration::try_from_secs_f64(seconds)
                .map_err(|_| PyValueError::new_err(format!("{what} cannot be {seconds}: give seconds, at least 1"))),
        }
    }
}

/// What changes next to the data.
#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) rotate: bool,
    pub(crate) subject: Option<String>,
    pub(crate) idle_timeout: Option<Span>,
    pub(crate) lifetime: Option<Span>,
}

impl Flags {
    fn change_something(&self) -> bool {
        self.rotate || self.subject.is_some() || self.idle_timeout.is_some() || self.lifetime.is_some()
    }

    fn put(self, mut save: Save) -> PyResult<Save> {
        if self.rotate {
            save = save.rotate();
        }
        if let Some(subject) = self.subject {
            save = save.subject(subject);
        }
        if let Some(span) = self.idle_timeout {
            save = save.idle_timeout(span.duration("idle_timeout")?);
        }
        if let Some(span) = self.lifetime {
            save = save.lifetime(span.duration("lifetime")?);
        }
        Ok(save)
    }
}

/// What changes in the data.
pub(crate) struct Data<'a, 'py> {
    pub(crate) given: Option<&'a Bound<'py, PyDict>>,
    pub(crate) changed_keys: Option<Vec<String>>,
    pub(crate) removed_keys: Option<Vec<String>>,
    pub(crate) replace: bool,
}

/// The keys of a change that names them.
struct Names<'a> {
    changed: &'a [String],
    removed: &'a [String],
}

impl Data<'_, '_> {
    /// The keys that are named; `None` if the caller named none of either kind.
    ///
    /// # Errors
    /// When the arguments contradict each other.
    fn names(&self) -> PyResult<Option<Names<'_>>> {
        if self.changed_keys.is_none() && self.removed_keys.is_none() {
            return Ok(None);
        }
        let changed = self.changed_keys.as_deref().unwrap_or_default();
        let removed = self.removed_keys.as_deref().unwrap_or_default();
        if self.replace {
            return refused("replace=True replaces all of data: give it without changed_keys and removed_keys");
        }
        if let Some(both) = changed.iter().find(|key| removed.contains(key)) {
            return refused(format!("{both:?} is in changed_keys and in removed_keys: a key is stored or removed"));
        }
        Ok(Some(Names { changed, removed }))
    }
}

impl Names<'_> {
    /// Names only keys that the data holds: a misspelled name never removes anything.
    fn check(&self, data: &Map) -> PyResult<()> {
        match self.changed.iter().find(|key| !data.contains_key(*key)) {
            Some(key) => refused(format!(
                "changed_keys names {key:?}, which data does not hold: to remove a key, name it in removed_keys"
            )),
            None => Ok(()),
        }
    }

    fn put(&self, change: Save, data: &Map) -> PyResult<Save> {
        self.check(data)?;
        let set = |change: Save, key: &String| match data.get(key) {
            Some(value) => change.set_value(key, value.clone()),
            None => change,
        };
        let change = self.changed.iter().fold(change, set);
        Ok(self.removed.iter().fold(change, |change, key| change.remove(key)))
    }
}

fn refused<T>(why: impl Into<String>) -> PyResult<T> {
    Err(PyValueError::new_err(why.into()))
}

fn read(py: Python<'_>, data: &Bound<'_, PyDict>) -> PyResult<Map> {
    values::read_entries(data).map_err(|refused| refused.raise(py, "session"))
}

/// A Save; `None` if it would leave an opened session as it is.
pub(crate) fn save(
    py: Python<'_>,
    target: Option<Target<'_>>,
    data: Data<'_, '_>,
    flags: Flags,
) -> PyResult<Option<Save>> {
    let (given, names) = (data.given.map(|given| read(py, given)).transpose()?, data.names()?);
    let changes_more = flags.change_something();
    let save = match target {
        None => Some(of_new(given.unwrap_or_default(), names)?),
        Some(Target::Nobody) => return Err(errors::raise(py, &Error::NotFound)),
        Some(Target::Opened(session)) => {
            let change = of_opened(py, session.get(), given, names, data.replace)?;
            change.or_else(|| changes_more.then(|| session.get().stored.change()))
        }
        Some(Target::Named(id)) => Some(of_named(&id, given, names, data.replace)?),
    };
    save.map(|save| flags.put(save)).transpose()
}

/// A new session stores all of the data. Names only have to fit it, so that one call serves new and known visitors.
fn of_new(given: Map, names: Option<Names<'_>>) -> PyResult<Save> {
    if let Some(names) = names {
        names.check(&given)?;
    }
    Ok(Save::create().replace_data(given))
}

/// For an opened session it is known what was stored: what differs is the change, unless the caller names it. `None` if
/// nothing changes.
fn of_opened(
    py: Python<'_>,
    session: &Session,
    given: Option<Map>,
    names: Option<Names<'_>>,
    replace: bool,
) -> PyResult<Option<Save>> {
    let (change, stored) = (session.stored.change(), session.stored.data());
    if let Some(names) = names {
        if given.is_some() && names.changed.is_empty() && !names.removed.is_empty() {
            return refused(UNREAD_DATA);
        }
        let own = || session.seen(py).map_or_else(|| Ok(stored.clone()), |seen| read(py, seen));
        let data = given.map_or_else(own, Ok)?;
        let is_nothing = names.changed.is_empty() && names.removed.is_empty();
        return names.put(change, &data).map(|change| (!is_nothing).then_some(change));
    }
    let own = || session.seen(py).map(|seen| read(py, seen)).transpose();
    let Some(given) = given.map_or_else(own, |given| Ok(Some(given)))? else { return Ok(None) };
    if replace {
        return Ok(Some(change.replace_data(given)));
    }
    let gone: Vec<_> = stored.keys().filter(|key| !given.contains_key(*key)).collect();
    let differing: Vec<_> = given.into_iter().filter(|(key, value)| stored.get(key) != Some(value)).collect();
    if gone.is_empty() && differing.is_empty() {
        return Ok(None);
    }
    let change = gone.into_iter().fold(change, |change, key| change.remove(key));
    Ok(Some(differing.into_iter().fold(change, |change, (key, value)| change.set_value(&key, value))))
}

const UNREAD_DATA: &str =
    "data is given, but not which of its keys to store: name them in changed_keys, or give replace=True for all of it";

/// For an id alone it is not known what is stored: the caller names what changes.
fn of_named(id: &Id, given: Option<Map>, names: Option<Names<'_>>, replace: bool) -> PyResult<Save> {
    let change = Save::of(id);
    match (given, names) {
        (None, None) if !replace => Ok(change),
        (Some(given), None) if replace => Ok(change.replace_data(given)),
        (None, None) => refused("replace=True needs the data that replaces what is stored"),
        (None, Some(names)) => names.put(change, &Map::new()),
        (Some(given), Some(names)) if !names.changed.is_empty() || names.removed.is_empty() => {
            names.put(change, &given)
        }
        (Some(_), _) => refused(UNREAD_DATA),
    }
}
