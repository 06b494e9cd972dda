"""An outage is an outage: 503 with `Retry-After`, and the cookie stays."""

from __future__ import annotations

import pytest
from flask import Response, session
from processes import wait_until
from sessiond import Client
from visitors import Visitor, make_app


@pytest.fixture
def app(fragile):
    return make_app(fragile.address)


def assert_outage(answer):
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Vary"] == "Cookie"


def test_a_page_that_looks_at_its_session_is_answered_503(fragile, visitor):
    visitor.put(a=1)
    cookie = visitor.cookie
    fragile.stop()
    for act in [lambda: session.get("a"), lambda: session.update(a=2), lambda: session.clear()]:
        assert_outage(visitor(act))
    assert visitor.cookie == cookie
    fragile.start()
    wait_until(lambda: visitor(lambda: session["a"]).data == b"1", "the session is back")


def test_a_page_that_does_not_look_is_answered_as_always(fragile, visitor):
    visitor(lambda: session.update(a=1, _permanent=True))
    fragile.stop()
    answer = visitor.client.get("/untouched")
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


def test_a_visitor_without_a_cookie_can_look_around(fragile, visitor):
    fragile.stop()
    assert visitor(lambda: session.get("a")).status_code == 200


def test_what_cannot_be_saved_takes_the_place_of_the_response(fragile, visitor):
    visitor.put(a=1)
    closed = []

    class Body:
        def __iter__(self):
            yield b"a page that says it was kept"

        def close(self):
            closed.append(True)

    def change():
        session["a"] = 2
        fragile.stop()
        return Response(Body(), headers={"Set-Cookie": "theme=dark", "Content-Length": "28"})

    answer = visitor(change)
    assert_outage(answer)
    assert b"kept" not in answer.data
    assert closed == [True]


def test_a_new_visitor_gets_no_cookie_that_opens_nothing(fragile, visitor):
    fragile.stop()
    assert_outage(visitor.put(a=1))
    assert visitor.cookie is None


def test_a_session_that_cannot_be_destroyed_is_told(fragile, visitor):
    visitor(lambda: session.sign_in("ada"))

    def out():
        session.clear()
        fragile.stop()

    assert_outage(visitor(out))


def test_the_applications_own_page_for_503_is_shown_in_both_cases(fragile, app, visitor):
    app.register_error_handler(503, lambda error: ("come back later", 503, {"Retry-After": error.retry_after}))
    visitor.put(a=1)

    def change():
        session["a"] = 2
        fragile.stop()

    for act in [change, lambda: session.get("a")]:
        answer = visitor(act)
        assert_outage(answer)
        assert answer.data == b"come back later"


def test_an_error_page_that_fails_leaves_503(fragile, app, visitor):
    def fails(error):
        raise LookupError("no such template")

    app.register_error_handler(503, fails)
    visitor.put(a=1)

    def change():
        session["a"] = 2
        fragile.stop()

    assert_outage(visitor(change))


def test_a_failed_look_is_not_taken_for_an_empty_session(fragile, visitor):
    visitor.put(a=1)
    fragile.stop()
    seen = []

    def careless():
        try:
            session.get("a")
        except Exception:
            seen.append("failed")
        return session.get("a")

    assert_outage(visitor(careless))
    assert seen == ["failed"]


def test_a_client_has_its_options_already(fragile):
    with pytest.raises(TypeError, match="give timeout to the Client"):
        make_app(Client(fragile.address), timeout=1)


def test_where_it_fails_open_the_session_is_empty_and_can_only_be_read(fragile):
    visitor = Visitor(make_app(fragile.address, fail_open=True))
    visitor.put(a=1)
    cookie = visitor.cookie
    fragile.stop()
    seen = []
    answer = visitor(lambda: seen.extend([dict(session), session.get("a"), session.new, session.modified]))
    assert seen == [{}, None, True, False]
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Cookie", "no-store")
    for change in [lambda: session.update(a=2), lambda: session.clear(), lambda: session.sign_in("ada")]:
        assert_outage(visitor(change))
    # As Flask's NullSession.
    visitor(lambda: seen.append(raises_runtime_error()))
    assert seen[-1] is True
    assert visitor.cookie == cookie


def raises_runtime_error():
    try:
        session["a"] = 1
    except RuntimeError:
        return True
    return False


def test_a_service_that_is_silent_is_an_outage(fragile, visitor):
    visitor.put(a=1)
    fragile.sessiond.pause()
    assert_outage(visitor(lambda: session.get("a")))
    fragile.sessiond.resume()
    wait_until(lambda: visitor(lambda: session["a"]).data == b"1", "the session is back")
