"""An application whose page does what a test says, and browsers that ask for it."""

from __future__ import annotations

import json

from flask import Flask, session
from sessiond.flask import SessiondInterface


def make_app(address, **options):
    """An application with one page, which does what a test says."""
    app = Flask(__name__)
    app.session_interface = SessiondInterface(address, **options)

    @app.route("/")
    def page():
        answer = app.act()
        return answer if isinstance(answer, app.response_class) else json.dumps(answer, default=str)

    @app.route("/untouched")
    def untouched():
        return ""

    return app


class Visitor:
    """A browser, whose requests do what they are told."""

    def __init__(self, app, like=None):
        self.app, self.client = app, app.test_client()
        if like is not None:
            self.cookie = like.cookie

    def __call__(self, act, **options):
        before, self.app.act = getattr(self.app, "act", None), act
        try:
            return self.client.get("/", **options)
        finally:
            # Another request may be under way.
            self.app.act = before

    def put(self, **values):
        return self(lambda: session.update(values))

    @property
    def data(self):
        seen = {}
        self(lambda: seen.update(session))
        return seen

    @property
    def cookie(self):
        cookie = self.client.get_cookie("session")
        return cookie and cookie.value

    @cookie.setter
    def cookie(self, value):
        self.client.set_cookie("session", value)
