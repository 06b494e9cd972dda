"""Two requests at once: nothing is lost, and the dead stay dead."""

from __future__ import annotations

import pytest
from flask import session
from sessiond.flask import SessiondSession
from visitors import Visitor


def meanwhile(visitor, act, other, first=lambda: session.get("x")):
    """A request of this visitor's, within which another request runs between its first look and what it does."""

    def view():
        first()
        other()
        return act()

    return visitor(view)


@pytest.fixture
def tabs(app, visitor):
    """Two tabs of one browser, with a session."""
    visitor.put(a=1, n=0, list=[])
    return visitor, Visitor(app, like=visitor)


def test_changes_of_different_keys_do_not_meet(tabs):
    one, other = tabs
    meanwhile(one, lambda: session.update(b=2), lambda: other.put(c=3))
    assert one.data == {"a": 1, "n": 0, "list": [], "b": 2, "c": 3}


def test_a_key_that_is_set_to_what_it_was_is_no_change(tabs):
    one, other = tabs
    meanwhile(one, lambda: session.update(a=1, n=5), lambda: other.put(a=2))
    assert (one.data["a"], one.data["n"]) == (2, 5)


def test_a_removed_key_stays_removed_and_others_stay(tabs):
    one, other = tabs
    meanwhile(one, lambda: session.pop("a"), lambda: other.put(b=2))
    assert one.data == {"n": 0, "list": [], "b": 2}


def test_an_update_counts_whoever_was_faster(tabs):
    one, other = tabs

    def add():
        session.update_key("n", lambda n: n + 1)
        session.update_key("list", lambda items: [*items, "one"])
        session.update_key("n", lambda n: n + 10)
        session.update_key("new", lambda n: n + 1, 0)
        session["b"] = 2

    meanwhile(one, add, lambda: other(lambda: session.update(n=100, list=["other"], c=3)))
    data = one.data
    assert data == {"a": 1, "n": 111, "list": ["other", "one"], "new": 1, "b": 2, "c": 3}


def test_an_update_gives_what_is_there_now(visitor):
    seen = []
    visitor(lambda: seen.append(session.update_key("n", lambda n: n + 1, 0)))
    visitor(lambda: seen.append(session.update_key("n", lambda n: n + 1, 0)))
    assert seen == [1, 2]
    assert visitor.data == {"n": 2}


def test_a_key_without_a_value_and_one_with_none_are_two_things(tabs):
    one, other = tabs
    seen = []

    def note(there):
        seen.append(there)
        return "made"

    meanwhile(one, lambda: session.update_key("b", note, "default"), lambda: other.put(b=None))
    assert seen == ["default", None]
    assert one.data["b"] == "made"


def test_an_update_of_what_was_set_in_this_request_depends_on_nothing(tabs):
    one, other = tabs

    def set_and_add():
        session["n"] = 5
        session.update_key("n", lambda n: n + 1)

    meanwhile(one, set_and_add, lambda: other.put(n=100))
    assert one.data["n"] == 6


def test_a_key_that_is_set_after_its_update_has_what_was_set(tabs):
    one, other = tabs

    def add_and_set():
        session.update_key("n", lambda n: n + 1000)
        session["n"] = 5

    meanwhile(one, add_and_set, lambda: other.put(n=100))
    assert one.data["n"] == 5


def test_a_slow_request_does_not_bring_a_logged_out_session_back(tabs):
    one, other = tabs
    answer = meanwhile(one, lambda: session.update(b=2), lambda: other(lambda: session.clear()))
    assert answer.status_code == 409
    assert b"Your session ended while this request ran" in answer.data
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Vary"] == "Cookie"
    assert one.data == {}


def test_a_slow_request_does_not_sign_in_again_whoever_signed_out(app, visitor):
    visitor(lambda: session.sign_in("ada"))
    other = Visitor(app, like=visitor)
    answer = meanwhile(visitor, lambda: session.update(b=2), lambda: other(lambda: session.clear()))
    assert answer.status_code == 409
    seen = []
    visitor(lambda: seen.append(session.subject))
    assert seen == [None]


def test_a_slow_request_that_only_reads_is_answered_after_a_logout(tabs):
    one, other = tabs
    answer = meanwhile(one, lambda: session["a"], lambda: other(lambda: session.clear()))
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers


def test_a_login_works_though_the_session_ended_under_it(tabs):
    one, other = tabs

    def sign_in():
        session.sign_in("ada")
        session["b"] = 2

    assert meanwhile(one, sign_in, lambda: other(lambda: session.clear())).status_code == 200
    data = one.data
    assert data.pop("_csrf")
    # Nothing of what was there: it may have been another visitor's.
    assert data == {"b": 2}


def test_a_logout_wins_over_a_login_in_another_tab(app, tabs):
    one, other = tabs
    meanwhile(one, lambda: session.clear(), lambda: other(lambda: session.sign_in("ada")))
    assert other.data == {}


def test_an_emptied_session_stays_if_another_request_put_something_into_it(tabs):
    one, other = tabs

    def empty():
        for key in list(session):
            session.pop(key)

    answer = meanwhile(one, empty, lambda: other.put(b=2))
    assert "Set-Cookie" not in answer.headers
    assert one.data == {"b": 2}


def test_a_late_request_with_the_old_id_takes_no_new_ones_place(app, visitor):
    visitor.put(a=1)
    late = Visitor(app, like=visitor)
    visitor(lambda: session.sign_in("ada"))
    answer = late.put(b=2)
    assert answer.status_code == 409
    assert "Set-Cookie" not in answer.headers


def test_a_session_saved_twice_is_saved_once(app, visitor):
    """As Flask-SocketIO does it: one session, saved after each handler."""
    with app.test_request_context():
        response = app.response_class()
        session["a"] = 1
        app.session_interface.save_session(app, session._get_current_object(), response)
        session["b"] = 2
        app.session_interface.save_session(app, session._get_current_object(), response)
        cookie = response.headers.getlist("Set-Cookie")
    assert len(cookie) == 1
    visitor.cookie = cookie[0].split(";")[0].partition("=")[2]
    assert visitor.data == {"a": 1, "b": 2}


def test_a_session_of_flasks_test_client_is_kept(app):
    client = app.test_client()
    with client.session_transaction() as prepared:
        assert isinstance(prepared, SessiondSession)
        prepared["a"] = 1
    with client.session_transaction() as kept:
        assert dict(kept) == {"a": 1}
