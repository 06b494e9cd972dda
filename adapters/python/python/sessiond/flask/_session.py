"""A request's session: a dictionary that is opened when it is first looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional, TypeVar

from flask.sessions import SessionMixin

from .. import Session, SessionId
from .._sessiond import CSRF_KEY, csrf_check, csrf_is_secret, csrf_secret, csrf_token
from ._failures import SessionReadOnly

if TYPE_CHECKING:
    from ._interface import SessiondInterface

T = TypeVar("T")

#: What is under a key without a value.
ABSENT: Any = object()


class SessiondSession(dict[str, Any], SessionMixin):
    """A visitor's session, as Flask has it: a dictionary whose changed top-level keys are saved with the response.

    As everywhere in Flask, a change *within* a value is not seen by itself: say ``session.modified = True`` after it.
    """

    modified = False
    accessed = False

    #: What is stored, as far as it is known here.
    _stored: Optional[Session] = None
    #: The id that the cookie carried, if it opened nothing.
    _dead: Optional[SessionId] = None
    #: The stored session is to end first; the rest is about a new one.
    _ends: bool = False
    #: Everything was removed at once: a logout, if it stays so.
    _cleared: bool = False
    _rotates: bool = False
    _signs_in: Optional[str] = None
    #: By key: the functions that make its value, and the value they made.
    _updates: Optional[dict[str, tuple[list[Callable[[Any], Any]], Any]]] = None

    def _opened(self) -> SessiondSession:
        """This session, opened."""
        return self

    # ---- Flask's own ---------------------------------------------------------------

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether it is not stored yet."""
        return self._opened()._stored is None

    def __setitem__(self, key: str, value: Any) -> None:
        self.modified = True
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.modified = True

    def __ior__(self, other: Any) -> SessiondSession:  # type: ignore[override,misc]
        self.update(other)
        return self

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.modified = True
        super().update(*args, **kwargs)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        if key in self:
            self.modified = True
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        item = super().popitem()
        self.modified = True
        return item

    def clear(self) -> None:
        """Removes everything: the session is destroyed with the response, and its cookie removed.

        If somebody is signed in (:meth:`sign_in`), this signs out, whatever other requests do meanwhile.
        """
        # An id that opened nothing may have been replaced a moment ago, in another tab: that one is to be signed out.
        if self.subject is not None or self._dead is not None:
            self.destroy()
            return
        self._updates = None
        self._cleared = self.modified = True
        super().clear()

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        """A copy, or a pickle, is a dictionary of what is in it, and no second session."""
        return dict, (dict(self.items()),)

    # ---- what Flask's cannot do ----------------------------------------------------

    @property
    def subject(self) -> Optional[str]:
        """Who is signed in; ``None`` for an anonymous visitor."""
        stored = self._opened()._stored
        if self._signs_in is not None or self._ends or stored is None:
            return self._signs_in
        return stored.subject

    @property
    def handle(self) -> Optional[str]:
        """The session's public name: safe to log and to show. ``None`` until it is stored."""
        stored = self._opened()._stored
        return None if stored is None or self._ends else stored.handle

    def regenerate(self) -> None:
        """Gives the session a new id with the response; the old one is dead from then on. For every change of privilege.

        An empty session has no id to change.
        """
        self._opened()
        self._rotates = self.modified = True

    def sign_in(self, user_id: Any) -> None:
        """Signs a visitor in whom the application has just verified: gives the session a new id, and a new lifetime.

        What the anonymous visitor had (a cart) stays. If somebody else was signed in, the session begins anew.
        """
        subject = str(user_id) if user_id is not None else ""
        if not subject:
            raise ValueError("nobody to sign in: the user id is empty; to sign out, clear the session")
        if self.subject not in (None, subject):
            self.destroy()
        self.regenerate()
        # Here and not when a page first needs it, so that pages only read, and two tabs print tokens of one secret.
        self[CSRF_KEY] = csrf_secret()
        self._signs_in = subject

    def destroy(self) -> None:
        """Ends the session with the response, and removes its cookie: a logout. It wins over whatever other requests do.

        What is put into the session after this call begins a new one.
        """
        self._opened()
        super().clear()
        self._updates, self._signs_in = None, None
        self._rotates = self._cleared = False
        self._ends = self.modified = True

    def update_key(self, key: str, fn: Callable[[Any], T], default: Any = None) -> T:
        """Changes what is under a key to ``fn(value)``, and gives that; without a value, ``fn`` gets ``default``.

        It is applied at once, and again to the newest value if another request changed the session before this one is saved:
        so of two requests that add to one list both count. ``fn`` must do nothing but make the value, as it may run several
        times.
        """
        stored = self._opened()._stored
        before = self.get(key, ABSENT)

        def step(there: Any) -> T:
            return fn(default if there is ABSENT else there)

        value = step(before)
        known = (self._updates or {}).get(key)
        if known is not None and known[1] is before:
            steps = [*known[0], step]
        elif stored is not None and not self._ends and not self._cleared and self._is_stored(stored, key, before):
            steps = [step]
        else:
            # What is stored does not matter any more: this request has set it.
            steps = []
        self[key] = value
        if steps:
            self._updates = {**(self._updates or {}), key: (steps, value)}
        return value

    @staticmethod
    def _is_stored(stored: Session, key: str, value: Any) -> bool:
        return key not in stored.data if value is ABSENT else not stored.differs(key, value)

    # ---- forms -----------------------------------------------------------------------

    def csrf_token(self) -> str:
        """A CSRF token for a form of this visitor's: another text each time, all of them good until the next login."""
        secret = self.get(CSRF_KEY)
        if not isinstance(secret, str) or not csrf_is_secret(secret):
            secret = self[CSRF_KEY] = csrf_secret()
        return csrf_token(secret)

    def check_csrf(self, token: Optional[str]) -> bool:
        """Whether a form sent back a token of this session."""
        secret = self.get(CSRF_KEY)
        return isinstance(secret, str) and token is not None and csrf_check(secret, token)


class Unopened(SessiondSession):
    """A session that nobody has looked at. The first look opens it, and makes a :class:`SessiondSession` of it.

    So a request that does not ask for the session costs the service nothing, and is answered in an outage, too; and an outage
    shows where a view asks, as an error that Flask can answer with.
    """

    def __init__(self, interface: SessiondInterface, cookie: str, header: Optional[str]) -> None:
        self._from = interface, cookie, header
        # Not empty: `json` looks at the length in C, and would not ask further.
        dict.__setitem__(self, "(a session that nobody has looked at)", None)

    def _opened(self) -> SessiondSession:
        self.accessed = True
        interface, cookie, header = self._from
        interface._open(self, cookie, header)
        return self


class ReadOnlySession(SessiondSession):
    """An empty session in an outage, where the application asked for that (``fail_open``)."""

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        raise SessionReadOnly

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = update = setdefault = _fail
    regenerate = sign_in = destroy = update_key = _fail
    del _fail


def _opens_first(name: str) -> Callable[..., Any]:
    def method(self: SessiondSession, *args: Any, **kwargs: Any) -> Any:
        # By its name again: it is of another class now.
        return getattr(self._opened(), name)(*args, **kwargs)

    method.__name__ = name
    return method


# All that looks at a dictionary, or changes it. What is in it is not seen by C that does not ask these (PyDict_GetItem):
# CPython itself asks them, of everything that is more than a plain dictionary.
for _name in (
    "__contains__ __delitem__ __eq__ __getitem__ __ior__ __iter__ __len__ __ne__ __or__ __repr__ __reversed__ __ror__ "
    "__setitem__ clear copy get items keys pop popitem setdefault update values"
).split():
    setattr(Unopened, _name, _opens_first(_name))
Unopened.__hash__ = None
