"""Flask's session, kept by sessiond."""

from __future__ import annotations

import pytest
from flask import Flask, session
from sessiond.flask import SessiondInterface


@pytest.fixture
def app(service):
    app = Flask(__name__)
    app.session_interface = SessiondInterface(service.address)
    return app


def test_a_value_is_there_with_the_next_request(app):
    @app.get("/put")
    def put():
        session["user"] = "ada"
        return "ok"

    @app.get("/get")
    def get():
        return session.get("user", "nobody")

    visitor = app.test_client()
    assert visitor.get("/get").data == b"nobody"
    assert "Set-Cookie" in visitor.get("/put").headers
    answer = visitor.get("/get")
    assert answer.data == b"ada"
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Vary"] == "Cookie"
