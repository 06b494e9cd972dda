//! The calls, the same for whoever waits for them: what is asked for, and what an answer is in Python.

use pyo3::{exceptions::PyTypeError, prelude::*};
use sessiond_client::{Error, Save, Session as Stored, SessionClient, SessionId as Id, blocking};

use crate::{
    change::{self, Data, Flags, Target},
    session::Session,
};

/// A call, ready to be made.
pub(crate) enum Asked {
    Open {
        id: Id,
        renew: bool,
    },
    Save(Box<Save>),
    Destroy(Id),
    DestroyUnchanged(Box<Stored>),
    WasReplaced(Id),
    /// There is nothing to ask for: this is known.
    Known(Answer),
}

/// What came of it.
pub(crate) enum Answer {
    Nothing,
    Session(Box<Stored>),
    /// The very session that was given.
    Same(Py<Session>),
    Truth(bool),
}

/// The same calls of either client.
macro_rules! make {
    ($asked:expr, $client:expr $(, $wait:tt)?) => {{
        let session = |stored| Answer::Session(Box::new(stored));
        match $asked {
            Asked::Open { id, renew: true } => Ok($client.open(&id)$(.$wait)??.map_or(Answer::Nothing, session)),
            Asked::Open { id, renew: false } => Ok($client.peek(&id)$(.$wait)??.map_or(Answer::Nothing, session)),
            Asked::Save(save) => $client.save(*save)$(.$wait)?.map(session),
            Asked::Destroy(id) => $client.destroy(&id)$(.$wait)?.map(|()| Answer::Nothing),
            Asked::DestroyUnchanged(session) => {
                $client.destroy_unchanged(&session)$(.$wait)?.map(|()| Answer::Nothing)
            }
            Asked::WasReplaced(id) => $client.was_replaced(&id)$(.$wait)?.map(Answer::Truth),
            Asked::Known(answer) => Ok(answer),
        }
    }};
}

impl Asked {
    pub(crate) fn open(id: &Bound<'_, PyAny>, renew: bool) -> PyResult<Self> {
        let id = Target::read(id)?.id();
        Ok(id.map_or(Self::Known(Answer::Nothing), |id| Self::Open { id, renew }))
    }

    pub(crate) fn save(
        py: Python<'_>,
        session: Option<&Bound<'_, PyAny>>,
        data: Data<'_, '_>,
        flags: Flags,
    ) -> PyResult<Self> {
        let target = session.map(Target::read).transpose()?;
        let given = match &target {
            Some(Target::Opened(session)) => Answer::Same(session.clone().unbind()),
            _ => Answer::Nothing,
        };
        let save = change::save(py, target, data, flags)?;
        Ok(save.map_or(Self::Known(given), |save| Self::Save(Box::new(save))))
    }

    pub(crate) fn destroy(session: &Bound<'_, PyAny>, unchanged: bool) -> PyResult<Self> {
        Ok(match (Target::read(session)?, unchanged) {
            (Target::Opened(session), true) => Self::DestroyUnchanged(Box::new(session.get().stored.clone())),
            (_, true) => {
                return Err(PyTypeError::new_err(
                    "unchanged=True asks for the version that was opened: give the Session, not its id",
                ));
            }
            (target, false) => target.id().map_or(Self::Known(Answer::Nothing), Self::Destroy),
        })
    }

    pub(crate) fn was_replaced(id: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Target::read(id)?.id().map_or(Self::Known(Answer::Truth(false)), Self::WasReplaced))
    }

    /// Makes the call, and waits for it where it is.
    pub(crate) fn make(self, client: &blocking::SessionClient) -> Result<Answer, Error> {
        make!(self, client)
    }

    /// Makes the call.
    pub(crate) async fn make_beside(self, client: SessionClient) -> Result<Answer, Error> {
        make!(self, client, await)
    }
}

impl Answer {
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Self::Nothing => py.None(),
            Self::Session(stored) => Py::new(py, Session::new(*stored))?.into_any(),
            Self::Same(session) => session.into_any(),
            Self::Truth(truth) => truth.into_pyobject(py)?.to_owned().into_any().unbind(),
        })
    }
}
