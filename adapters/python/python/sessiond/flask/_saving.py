"""How what a request did to its session becomes what is stored: which calls are made, and what each refusal means."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import Any, NamedTuple, Optional, Union

from .. import Client, Session, SessionChanged, SessionId, SessionNotFound
from ._session import ABSENT, SessiondSession

#: The cookie is to go.
REMOVED = object()

#: How long an update is applied again and again while others change the session, in seconds.
CONTEND_FOR = 2.0


class Times(NamedTuple):
    """How long sessions live."""

    #: Without being used.
    idle_timeout: timedelta
    #: From a session's creation, and from a login, however often it is used; ``None`` for the service's maximum.
    lifetime: Union[timedelta, float, None]


#: What becomes of the cookie: a new id, :data:`REMOVED`, or nothing.
Cookie = Union[SessionId, object, None]


def save(client: Client, session: SessiondSession, times: Times) -> Cookie:
    """Saves an opened session."""
    cookie: Cookie = None
    if session._ends:
        cookie = _end(client, session)
    stored = session._stored
    if stored is None:
        return _create(client, session, times, dict(session)) or cookie
    if not session and not session._signs_in:
        return _empty(client, session, stored)
    return _change(client, session, stored, times)


def _saved(session: SessiondSession, stored: Optional[Session]) -> Optional[SessionId]:
    """Notes what is stored now. (`modified` stays, as in Flask: saved again, it differs from nothing.)"""
    session._stored = stored
    session._updates, session._signs_in = None, None
    session._rotates = session._cleared = False
    return None if stored is None else stored.id


def _end(client: Client, session: SessiondSession) -> Cookie:
    """A logout: it names no version, and so always wins."""
    living, dead = session._stored, session._dead
    if living is not None:
        client.destroy(living)
    elif dead is not None:
        # It may have been replaced a moment ago, by a login in another tab.
        client.destroy(dead)
    session._stored, session._dead, session._ends = None, None, False
    # Only if it was alive in this request, and never because an id opened nothing.
    return REMOVED if living is not None else None


def _create(client: Client, session: SessiondSession, times: Times, data: dict[str, Any]) -> Optional[SessionId]:
    subject, dead = session._signs_in, session._dead
    # Many applications say `session.permanent = True` before every request: that alone is nothing to be kept, or each bot
    # would have a session.
    if not data.keys() - {"_permanent"} and subject is None:
        _saved(session, None)
        return None
    if subject is None and dead is not None and client.was_replaced(dead):
        # Another tab has just signed in: a cookie from here would take its place. (A login may: it was asked for.)
        raise SessionNotFound("the session's id was replaced meanwhile")
    stored = client.save(None, data, subject=subject, idle_timeout=times.idle_timeout, lifetime=times.lifetime)
    session._dead = None
    return _saved(session, stored)


def _change(client: Client, session: SessiondSession, stored: Session, times: Times) -> Optional[SessionId]:
    # Where it does not change, the timeout that another application gave the session stays.
    retimed = session.permanent != bool(stored.data.get("_permanent"))
    asked: dict[str, Any] = {"rotate": session._rotates, "subject": session._signs_in}
    if retimed:
        asked["idle_timeout"] = times.idle_timeout
    if session._signs_in is not None:
        asked["lifetime"] = times.lifetime
    try:
        if _holding_updates(session):
            saved = _by_version(client, session, stored, asked)
        else:
            saved = client.save(stored, session, **asked)
    except SessionNotFound:
        changes = _differences(session, stored)
        session._stored = None
        if session._signs_in is not None:
            # The visitor was verified in this very request: a login works, with what this request brought.
            new = {key: session[key] for key in changes if key in session}
            return _create(client, session, times, new)
        if changes:
            raise
        # A new id for what is no more: whoever gave it one in the meantime has told the browser.
        _saved(session, None)
        return None
    # The cookie says whether it outlives the browser.
    tells = session._rotates or retimed
    id = _saved(session, saved)
    return id if tells else None


def _holding_updates(session: SessiondSession) -> dict[str, Any]:
    """The steps by key, of those whose outcome nobody has set to something else since."""
    updates = session._updates or {}
    return {key: steps for key, (steps, made) in updates.items() if session.get(key, ABSENT) is made}


def _differences(session: SessiondSession, stored: Session) -> set[str]:
    """The top-level keys that are not as they were opened."""
    gone = stored.data.keys() - session.keys()
    return gone | {key for key, value in session.items() if stored.differs(key, value)}


def _by_version(client: Client, session: SessiondSession, stored: Session, asked: dict[str, Any]) -> Session:
    """Applies the changes to the newest data until nobody else was faster."""
    changes, steps = _differences(session, stored), _holding_updates(session)
    if not changes and not asked["rotate"]:
        return stored
    data, newest = dict(session), stored
    until, longest_wait = time.monotonic() + CONTEND_FOR, 0.001
    while True:
        try:
            return client.save(newest, data, replace=True, **asked)
        except SessionChanged:
            if time.monotonic() >= until:
                raise
        # Whoever meets many should not meet the same ones again.
        time.sleep(random.uniform(0, longest_wait))
        longest_wait = min(longest_wait * 2, 0.032)
        opened = client.open(stored.id)
        if opened is None:
            raise SessionNotFound("the session ended meanwhile")
        newest = opened
        data = _applied(session, changes, steps, newest)


def _applied(session: SessiondSession, changes: set[str], steps: dict[str, Any], newest: Session) -> dict[str, Any]:
    data = dict(newest.data)
    for key in changes:
        if key in steps:
            value = data.get(key, ABSENT)
            for step in steps[key]:
                value = step(value)
            data[key] = value
            # For whoever looks at the session after this.
            dict.__setitem__(session, key, value)
        elif key in session:
            data[key] = session[key]
        else:
            data.pop(key, None)
    return data


def _empty(client: Client, session: SessiondSession, stored: Session) -> Cookie:
    """An emptied session is destroyed, unless another request put something into it: first the keys go, and then what is
    left, if that is nothing. (A destroy alone could not tell that the session had ended before, and the browser perhaps got
    another one, whose cookie must stay.)"""
    if stored.subject is not None:
        session._ends = True
        cookie = _end(client, session)
        _saved(session, None)
        return cookie
    try:
        # Where no key is left to remove, the save only checks that the session is still the one that was opened.
        emptied = client.save(stored, {}, replace=not stored.data)
    except SessionChanged:
        # Another request put something into it.
        _saved(session, stored)
        return None
    except SessionNotFound:
        if not session._cleared:
            raise
        # To clear a session is how applications sign out, and a logout wins over a login that gave it a new id.
        cookie = _end(client, session)
        _saved(session, None)
        return cookie
    try:
        client.destroy(emptied, unchanged=True)
    except SessionChanged:
        # Something is in it.
        _saved(session, emptied)
        return None
    _saved(session, None)
    return REMOVED
