"""The snippet that this project comes from, as people paste it: our own wording of the well-known sixty lines.

It is here to lose. A test of races that this one passes as well would be worth nothing.
"""

import pickle
from datetime import timedelta
from uuid import uuid4

from flask.sessions import SessionInterface, SessionMixin
from redis import Redis
from werkzeug.datastructures import CallbackDict


class RedisSession(CallbackDict, SessionMixin):
    def __init__(self, initial=None, sid=None, new=False):
        def on_update(self):
            self.modified = True

        super().__init__(initial, on_update)
        self.sid, self.new, self.modified = sid, new, False


class RedisSessionInterface(SessionInterface):
    def __init__(self, url, prefix="session:"):
        self.redis, self.prefix = Redis.from_url(url), prefix

    def open_session(self, app, request):
        sid = request.cookies.get(self.get_cookie_name(app))
        if not sid:
            return RedisSession(sid=str(uuid4()), new=True)
        value = self.redis.get(self.prefix + sid)
        if value is not None:
            return RedisSession(pickle.loads(value), sid=sid)
        return RedisSession(sid=sid, new=True)

    def save_session(self, app, session, response):
        name, domain = self.get_cookie_name(app), self.get_cookie_domain(app)
        if not session:
            self.redis.delete(self.prefix + session.sid)
            if session.modified:
                response.delete_cookie(name, domain=domain)
            return
        lifetime = app.permanent_session_lifetime if session.permanent else timedelta(days=1)
        # SETEX, as newer versions of redis-py want it spelt.
        self.redis.set(self.prefix + session.sid, pickle.dumps(dict(session)), ex=lifetime)
        expires = self.get_expiration_time(app, session)
        response.set_cookie(name, session.sid, expires=expires, httponly=True, domain=domain)
