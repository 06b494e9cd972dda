"""Why a call failed: one class for each reason on which a caller can act.

The service gives the reason in its ErrorInfo and in the trailer ``sessiond-reason``. An error with neither does not come from
sessiond and is an outage (:exc:`Unavailable`).
"""

from __future__ import annotations

from typing import Optional


class SessiondError(Exception):
    """Any failure of a call. Its text says what was wrong and what to do, and holds no secret."""

    #: The reason's name in the service's ``error_reason.proto``; ``None`` if it gave none, as in a broken network.
    reason: Optional[str] = None

    #: Seconds after which to try again, where that may help.
    retry_after: Optional[float] = None


class Unavailable(SessiondError):
    """An outage: the service or its store is unavailable, the deadline ran out, the connection broke, or a proxy answered.

    It never means "no session": answer 503 and leave the cookie alone. A save that ends so was applied or not.
    """

    retry_after: float = 1.0


class SessionNotFound(SessiondError):
    """There is no such session (any more): unknown, expired, destroyed, or its id was replaced."""


class SessionChanged(SessiondError):
    """Another writer was first: open again, and decide again."""


class OutcomeUnknown(SessiondError):
    """It cannot be known whether this was applied: open the session again and compare."""


class SessionTooLarge(SessiondError):
    """The session would hold more than the service allows."""

    #: The limit in bytes, as the service told it.
    limit_bytes: Optional[int] = None


class StoreFull(SessiondError):
    """The store has no room. Opening and destroying still work."""


class UnsupportedValue(SessiondError, TypeError):
    """A session cannot keep this object. The text says where it is, and never what it holds."""


class InvalidField(SessiondError):
    """The service refused the request as it stands."""


class CallerRefused(SessiondError):
    """The service does not know this caller, or does not allow it this: check its token."""


class InternalError(SessiondError):
    """The service failed, or the server at its address is not sessiond, or an older version of it. The text says which."""
