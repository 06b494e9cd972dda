"""What a visitor is told when the session cannot be had, or not kept: HTTP's own errors, so that Flask answers with them and
the application's error handlers see them."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Optional

from werkzeug.exceptions import Conflict, HTTPException, ServiceUnavailable

from .. import OutcomeUnknown, SessionChanged, SessiondError, SessionNotFound, StoreFull, Unavailable

if TYPE_CHECKING:
    from flask import Flask, Response


class SessionUnavailable(ServiceUnavailable):
    """Sessions cannot be reached: 503 with ``Retry-After``. It says nothing of the visitor's session; the cookie stays."""

    description = "Sessions cannot be reached just now. Please try again."

    def __init__(self, retry_after: float = 1.0) -> None:
        # In whole seconds, and never at once.
        super().__init__(retry_after=max(1, math.ceil(retry_after)))


class SessionReadOnly(SessionUnavailable, RuntimeError):
    """``fail_open`` gave an empty session in an outage, and something was to be put into it."""


class SessionConflict(Conflict):
    """What this request changed is not kept, since others were faster: 409."""


_ENDED = "Your session ended while this request ran: nothing was changed."
_CHANGED = "Too many requests changed your session at once. Please try again."
_UNKNOWN = "It cannot be known whether this was kept: look before you try again."


def answer_to(error: SessiondError) -> Optional[HTTPException]:
    """What a visitor is told; ``None`` for what is wrong in the application or its set-up."""
    if isinstance(error, (Unavailable, StoreFull)):
        return SessionUnavailable(error.retry_after or 1.0)
    if isinstance(error, SessionNotFound):
        return SessionConflict(_ENDED)
    if isinstance(error, SessionChanged):
        return SessionConflict(_CHANGED)
    if isinstance(error, OutcomeUnknown):
        return SessionConflict(_UNKNOWN)
    return None


def replace_response(app: Flask, response: Response, answer: HTTPException) -> None:
    """Puts this answer, as the application's error handler has it, in the place of a response that was made already.

    Raising would not do: Flask does not look for a handler any more when a session is saved, and answers 500.
    """
    try:
        made = app.make_response(app.handle_user_exception(answer))
    except Exception:
        logging.getLogger("sessiond.flask").exception("the error handler for a session that could not be saved failed")
        made = app.make_response(answer.get_response())
    close = getattr(response.response, "close", None)
    if close is not None:
        close()
    response.direct_passthrough = False
    response.status = made.status
    response.headers = made.headers
    response.response = made.response
