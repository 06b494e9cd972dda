"""The session interface: what Flask asks when a request begins and when its response leaves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Optional, Union

from flask.sessions import SessionInterface

from .. import Client, SessiondError, SessionId, Unavailable
from .._sessiond import CookieReader, check_cookie
from ._failures import SessionUnavailable, answer_to, replace_response
from ._saving import REMOVED, save
from ._session import ReadOnlySession, SessiondSession, Unopened

if TYPE_CHECKING:
    from flask import Flask, Request, Response

#: How long a session lives that is not permanent, without being used.
ONE_DAY = timedelta(days=1)


class SessiondInterface(SessionInterface):
    """Flask's sessions, kept by sessiond: ``app.session_interface = SessiondInterface("127.0.0.1:50051")``.

    Flask's settings hold: ``SESSION_COOKIE_*``, ``SESSION_REFRESH_EACH_REQUEST``, ``PERMANENT_SESSION_LIFETIME``. A session
    that is not permanent lives a day without being used. No secret key is needed.

    The session is opened when a request first looks at it. In an outage that raises :exc:`SessionUnavailable`, which Flask
    answers as 503 with ``Retry-After``; the cookie stays. With ``fail_open`` it is empty then, and can only be read.

    ``address`` is ``HOST:PORT``, ``https://HOST:PORT``, several with commas between them, or a :class:`sessiond.Client`;
    ``options`` are those of the client. ``clear_site_data`` also tells browsers, when a session was destroyed, to forget
    cached pages and what scripts stored.
    """

    def __init__(
        self,
        address: Union[str, Client, None] = None,
        *,
        fail_open: bool = False,
        clear_site_data: bool = False,
        **options: Any,
    ) -> None:
        self.client = address if isinstance(address, Client) else Client(address, **options)
        self.fail_open = fail_open
        self.clear_site_data = clear_site_data
        self._readers: dict[str, CookieReader] = {}
        self._checked: Any = None

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
                session.__class__ = ReadOnlySession
                return
            if stored is None:
                session._dead = id
            else:
                session._stored = stored
                dict.update(session, stored.data)
        session.__class__ = SessiondSession

    # ---- its response leaves -------------------------------------------------------

    def save_session(self, app: Flask, session: SessiondSession, response: Response) -> None:  # type: ignore[override]
        if not session.accessed:
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

    def _save(self, app: Flask, session: SessiondSession, response: Response) -> None:
        wants_cookie = self.should_set_cookie(app, session)
        cookie: Any = None
        if session.modified:
            permanent = session.permanent
            lifetime = app.permanent_session_lifetime if permanent else ONE_DAY
            try:
                cookie = save(self.client, session, lifetime)
            except SessiondError as error:
                answer = answer_to(error)
                if answer is None:
                    raise
                app.logger.warning("the changes of a session were not saved: %s", error)
                replace_response(app, response, answer)
                response.vary.add("Cookie")
                return
        if cookie is None and wants_cookie and session._stored is not None and session.permanent:
            cookie = session._stored.id
        if cookie is REMOVED:
            self._remove_cookie(app, response)
        elif cookie is not None:
            self._set_cookie(app, session, response, cookie)

    def _set_cookie(self, app: Flask, session: SessiondSession, response: Response, id: SessionId) -> None:
        response.set_cookie(
            self.get_cookie_name(app),
            id.expose(),
            expires=self.get_expiration_time(app, session),
            **self._cookie_settings(app),
        )
        response.headers["Cache-Control"] = "no-store"

    def _remove_cookie(self, app: Flask, response: Response) -> None:
        response.delete_cookie(self.get_cookie_name(app), **self._cookie_settings(app))
        response.headers["Cache-Control"] = "no-store"
        if self.clear_site_data:
            response.headers["Clear-Site-Data"] = '"cache", "storage"'

    def _cookie_settings(self, app: Flask) -> dict[str, Any]:
        """Flask's settings of the cookie."""
        return {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
