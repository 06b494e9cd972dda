"""What the extension module offers."""

from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Callable, Literal, Optional, Union

CSRF_KEY: str

class SessionId:
    """The id of a session: the secret that a browser holds. It prints nothing."""

    @staticmethod
    def parse(text: str) -> Optional[SessionId]:
        """Reads an id that came from outside; ``None`` for whatever is not spelt as one."""

    def expose(self) -> str:
        """The id itself, for a cookie and nothing else: not for a log, a page or a URL."""

    @property
    def handle(self) -> str:
        """The session's public name: safe to log, and no capability."""

class Session:
    """A stored session, as the service last told it."""

    @property
    def id(self) -> SessionId:
        """The secret for the visitor's cookie."""

    @property
    def handle(self) -> str:
        """The session's public name, 32 hexadecimal digits: safe to log and to show."""

    @property
    def subject(self) -> Optional[str]:
        """Who is signed in; ``None`` for an anonymous visitor."""

    @property
    def data(self) -> dict[str, Any]:
        """What the application keeps: a dictionary to be changed, and saved by ``client.save(session)``."""

    def differs(self, key: str, value: Any) -> bool:
        """Whether this is not what is stored under the key."""

    @property
    def idle_timeout(self) -> timedelta:
        """How long it lives without being opened or saved."""

    @property
    def create_time(self) -> datetime:
        """When it was created, by the store's clock."""

    @property
    def expire_time(self) -> datetime:
        """When it ends if nobody uses it before, by the store's clock."""

class Client:
    """A client of sessiond: one for each process is enough, for any number of threads.

    Nothing connects until the first call. There is no thread behind it (but while it looks up a name): a call has a connection
    to itself, and other threads run meanwhile. After a fork the child's first call makes connections of its own.

    Every call ends by its deadline (an open within 0.3 s, a save within 0.5 s, a destroy within 1 s, or ``timeout`` for each),
    and is repeated within it, so that it takes effect once, when the service cannot be reached. A signal's
    handler runs in the middle of a call, and if it raises, that ends the call.
    """

    def __init__(
        self,
        address: Optional[str] = None,
        *,
        timeout: Optional[float] = None,
        token: Optional[str] = None,
        allow_plaintext_token: bool = False,
        certificate_authority: Optional[bytes] = None,
    ) -> None:
        """``HOST:PORT`` or ``https://HOST:PORT``, several with commas between them; by default ``127.0.0.1:50051``."""

    def open(self, id: Union[SessionId, str], *, renew: bool = True) -> Optional[Session]:
        """The session with this id; ``None`` if it opens nothing (any more). Extends its life, unless ``renew`` is false.

        Raises :exc:`Unavailable` in an outage, which says nothing of the session.
        """

    def save(
        self,
        session: Union[Session, SessionId, str, None] = None,
        data: Optional[dict[str, Any]] = None,
        *,
        changed_keys: Optional[list[str]] = None,
        removed_keys: Optional[list[str]] = None,
        replace: bool = False,
        rotate: bool = False,
        subject: Optional[str] = None,
        idle_timeout: Union[timedelta, float, None] = None,
        lifetime: Union[timedelta, float, None] = None,
    ) -> Session:
        """Creates a session (without ``session``) or changes one, and returns it as it is stored now.

        - A new session stores all of ``data``.
        - Of an opened session, those top-level keys are saved whose values in ``data`` (by default: its own ``data``) differ
          from what was opened. All others keep what is stored, whatever others wrote meanwhile. If nothing changes, no call is
          made, and the session itself comes back.
        - ``changed_keys`` names the keys of ``data`` to store instead, and ``removed_keys`` the keys to remove; at most 1,024
          each. ``data`` must hold every changed key (else :exc:`ValueError`). On a new session, ``removed_keys`` has no effect.
        - ``replace`` replaces the whole data, unless another writer was first (:exc:`SessionChanged`).
        - ``rotate`` gives the session a new id; the old one is dead at once.
        - ``subject`` sets who is signed in, or nobody (``""``); with a stored session that needs ``rotate``.
        - ``idle_timeout`` (seconds, or a ``timedelta``) is how long the session lives without being used: at least 1 s, cut to
          the service's maximum.
        - ``lifetime`` (seconds, or a ``timedelta``) is how long the session lives from now on, however often it is used: at
          least 1 s, cut to the service's maximum, which is the default. It counts in full for a new session and for a sign-in
          (``rotate`` with a ``subject``); any other change only brings the end nearer.
        """

    def destroy(self, session: Union[Session, SessionId, str], *, unchanged: bool = False) -> None:
        """Ends a session, whatever became of it; with ``unchanged`` only if nobody changed it since it was opened
        (else :exc:`SessionChanged`). An id that opens nothing is no error."""

    def was_replaced(self, id: Union[SessionId, str]) -> bool:
        """Whether this id, which opens nothing, was replaced by a new one within the last minute: its visitor has just
        signed in in another tab, say, and holds a newer cookie."""

    def close(self) -> None:
        """Ends the connections. A later call makes new ones."""

    def __enter__(self) -> Client: ...
    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None: ...

class CookieReader:
    """Reads the session's cookie."""

    def __init__(self, name: str) -> None: ...
    def read(self, header: Optional[str]) -> Union[SessionId, Literal["absent", "malformed", "ambiguous"]]:
        """What a ``Cookie`` header says, as WSGI has it."""

def check_cookie(
    *, name: str, domain: Optional[str], path: str, secure: bool, same_site: Optional[str], partitioned: bool
) -> None:
    """Raises ``ValueError`` unless browsers will keep a cookie with these settings."""

def csrf_secret() -> str:
    """A new secret for the tokens of a session's forms."""

def csrf_is_secret(text: str) -> bool:
    """Whether this is such a secret."""

def csrf_token(secret: str) -> str:
    """A token of this secret, another text each time."""

def csrf_check(secret: Optional[str], token: str) -> bool:
    """Whether this is a token of this secret."""

_Done = Callable[[Any, Optional[BaseException]], None]

class Call:
    """A call of :class:`Caller` under way."""

    def cancel(self) -> None:
        """Gives it up: nobody is told any more."""

class Caller:
    """Begins the calls of :class:`AsyncClient`, and tells who asked from another thread."""

    def __init__(
        self,
        address: Optional[str] = None,
        *,
        timeout: Optional[float] = None,
        token: Optional[str] = None,
        allow_plaintext_token: bool = False,
        certificate_authority: Optional[bytes] = None,
    ) -> None: ...
    def open(self, done: _Done, id: Union[SessionId, str], renew: bool) -> Call: ...
    def save(
        self,
        done: _Done,
        session: Union[Session, SessionId, str, None],
        data: Optional[dict[str, Any]],
        changed_keys: Optional[list[str]],
        removed_keys: Optional[list[str]],
        replace: bool,
        rotate: bool,
        subject: Optional[str],
        idle_timeout: Union[timedelta, float, None],
        lifetime: Union[timedelta, float, None],
    ) -> Call: ...
    def destroy(self, done: _Done, session: Union[Session, SessionId, str], unchanged: bool) -> Call: ...
    def was_replaced(self, done: _Done, id: Union[SessionId, str]) -> Call: ...
    def close(self) -> None: ...
