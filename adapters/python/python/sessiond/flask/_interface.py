"""The session interface: what Flask asks when a request begins and when its response leaves."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Optional, Union
from urllib.parse import quote

from flask.sessions import SessionInterface

from .. import Client, SessiondError, SessionId, Unavailable
from .._sessiond import CookieReader, check_cookie
from ._failures import SessionUnavailable, answer_to, replace_response
from ._saving import REMOVED, Times, save
from ._session import ReadOnlySession, SessiondSession, Unopened

if TYPE_CHECKING:
    from flask import Flask, Request, Response

log = logging.getLogger("sessiond.flask")

#: How long a session lives that is not permanent, without being used.
ONE_DAY = timedelta(days=1)


class SessiondInterface(SessionInterface):
    """Flask's sessions, kept by sessiond: ``app.session_interface = SessiondInterface("127.0.0.1:50051")``.

    Flask's settings hold: ``SESSION_COOKIE_*``, ``SESSION_REFRESH_EACH_REQUEST``, ``PERMANENT_SESSION_LIFETIME``. A session
    that is not permanent lives a day without being used. No secret key is needed.

    The session is opened when a request first looks at it. In an outage that raises :exc:`SessionUnavailable`, which Flask
    answers as 503 with ``Retry-After``; the cookie stays. With ``fail_open`` it is empty then, and can only be read.

    ``address`` is ``HOST:PORT``, ``https://HOST:PORT``, several with commas between them, or a :class:`sessiond.Client`;
    ``options`` are those of the client. ``lifetime`` (seconds, or a ``timedelta``) is how long a new session, and a login,
    lives however often it is used: at least 1 s, cut to the service's maximum, which is the default. ``clear_site_data`` also tells browsers, when a session was destroyed, to forget
    cached pages and what scripts stored.
    """

    def __init__(
        self,
        address: Union[str, Client, None] = None,
        *,
        fail_open: bool = False,
        lifetime: Union[timedelta, float, None] = None,
        clear_site_data: bool = False,
        **options: Any,
    ) -> None:
        if isinstance(address, Client) and options:
            raise TypeError(f"a client is as it is: give {', '.join(options)} to the Client, or an address here")
        self.client = address if isinstance(address, Client) else Client(address, **options)
        self.fail_open = fail_open
        self.lifetime = lifetime
        self.clear_site_data = clear_site_data
        self._readers: dict[str, CookieReader] = {}
        self._checked: Any = None
        #: Whether a permanent session was seen: until then there is none to be refreshed unasked.
        self._has_permanent = False

    # ---- a request begins ----------------------------------------------------------

    def open_session(self, app: Flask, request: Request) -> SessiondSession:
        return Unopened(self, self.get_cookie_name(app), request.environ.get("HTTP_COOKIE"))

    def _open(self, session: SessiondSession, cookie: str, header: Optional[str]) -> None:
        """Opens a session that somebody looks at."""
        reader = self._readers.get(cookie)
        if reader is None:
            reader = self._readers[cookie] = CookieReader(cookie)
        id = reader.read(header)
        if isinstance(id, SessionId):
            try:
                stored = self.client.open(id)
            except Unavailable as error:
                if not self.fail_open:
                    raise SessionUnavailable(error.retry_after) from error
                log.warning("a page is made without its session, which fails open: %s", error)
                dict.clear(session)
                session.__class__ = ReadOnlySession
                return
            if stored is None:
                session._dead = id
            session._stored = stored
        elif id == "ambiguous":
            log.warning("two cookies of the session's name, %s, in one request: neither is trusted", cookie)
        session.__class__ = SessiondSession
        dict.clear(session)
        if session._stored is not None:
            dict.update(session, session._stored.data)
        if dict.get(session, "_permanent"):
            self._has_permanent = True

    # ---- its response leaves -------------------------------------------------------

    def save_session(self, app: Flask, session: SessiondSession, response: Response) -> None:  # type: ignore[override]
        if not session.accessed and not self._is_refreshed(app, session):
            return
        if "Vary" in response.headers:
            response.vary.add("Cookie")
        else:
            response.headers["Vary"] = "Cookie"
        kind = type(session)
        if kind is ReadOnlySession:
            # Made without the session: not to be kept for when it is back.
            response.headers["Cache-Control"] = "no-store"
        elif kind is not Unopened:
            self._save(app, session, response)

    def _is_refreshed(self, app: Flask, session: SessiondSession) -> bool:
        """Whether the cookie is to be sent again though nobody looked at the session: Flask does so for a permanent one."""
        if type(session) is Unopened and self._has_permanent and app.config["SESSION_REFRESH_EACH_REQUEST"]:
            try:
                self._open(session, *session._from[1:])
            except SessionUnavailable:
                # Nobody asked for it.
                return False
        return type(session) is SessiondSession and (session.modified or self.should_set_cookie(app, session))

    def should_set_cookie(self, app: Flask, session: SessiondSession) -> bool:  # type: ignore[override]
        """Whether to send a cookie again that the browser has: only one that would expire.

        Flask sends it with every change, since there it holds the data. Here a change leaves it as it is, and a response that
        is late would put an old id in the place of what a login in another tab has just set.
        """
        return session.permanent and (session.modified or app.config["SESSION_REFRESH_EACH_REQUEST"])

    def _save(self, app: Flask, session: SessiondSession, response: Response) -> None:
        cookie: Any = None
        if session.modified:
            self._has_permanent |= session.permanent
            idle_timeout = app.permanent_session_lifetime if session.permanent else ONE_DAY
            try:
                cookie = save(self.client, session, Times(idle_timeout, self.lifetime))
            except SessiondError as error:
                answer = answer_to(error)
                if answer is None:
                    raise
                log.warning("the changes of a session were not saved: %s", error)
                replace_response(app, response, answer)
                response.vary.add("Cookie")
                return
        if cookie is None and session._stored is not None and self.should_set_cookie(app, session):
            cookie = session._stored.id
        if cookie is REMOVED:
            self._remove_cookie(app, response)
        elif cookie is not None:
            self._set_cookie(app, session, response, cookie)

    def _set_cookie(self, app: Flask, session: SessiondSession, response: Response, id: SessionId) -> None:
        name, expires = self.get_cookie_name(app), self.get_expiration_time(app, session)
        response.set_cookie(name, id.expose(), expires=expires, **self._cookie_settings(app, name))
        response.headers["Cache-Control"] = "no-store"

    def _remove_cookie(self, app: Flask, response: Response) -> None:
        name = self.get_cookie_name(app)
        response.delete_cookie(name, **self._cookie_settings(app, name))
        response.headers["Cache-Control"] = "no-store"
        if self.clear_site_data:
            response.headers["Clear-Site-Data"] = '"cache", "storage"'

    def _cookie_settings(self, app: Flask, name: str) -> dict[str, Any]:
        """Flask's settings of the cookie. Those that browsers would drop without a word are refused."""
        settings: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        if (name, settings) != self._checked:
            _check_cookie(name, **settings)
            self._checked = name, settings
        return settings


def _check_cookie(
    name: str,
    *,
    domain: Optional[str],
    path: str,
    secure: bool,
    httponly: bool,
    samesite: Optional[str],
    partitioned: bool,
) -> None:
    """Checks settings as Werkzeug will write them."""
    if domain:
        domain = domain.partition(":")[0].lstrip(".").encode("idna").decode("ascii")
    check_cookie(
        name=name,
        domain=domain or None,
        path=quote(path, safe="%!$&'()*+,/:=@"),
        secure=secure or partitioned,
        same_site=samesite.title() if samesite else None,
        partitioned=partitioned,
    )
