"""Sessions for web applications, kept by sessiond.

For Flask there is :class:`sessiond.flask.SessiondInterface`. Below it lies a client of three calls, here in two kinds:
:class:`Client` waits, :class:`AsyncClient` is awaited.
"""

from ._aio import AsyncClient
from ._errors import (
    CallerRefused,
    InternalError,
    InvalidField,
    OutcomeUnknown,
    SessionChanged,
    SessiondError,
    SessionNotFound,
    SessionTooLarge,
    StoreFull,
    Unavailable,
    UnsupportedValue,
)
from ._sessiond import Client, Session, SessionId

__all__ = [
    "AsyncClient",
    "CallerRefused",
    "Client",
    "InternalError",
    "InvalidField",
    "OutcomeUnknown",
    "Session",
    "SessionChanged",
    "SessionId",
    "SessionNotFound",
    "SessionTooLarge",
    "SessiondError",
    "StoreFull",
    "Unavailable",
    "UnsupportedValue",
]
