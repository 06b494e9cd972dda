"""A request's session in Flask: what is kept, what is changed, and what the browser is told."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest
from flask import Flask, flash, get_flashed_messages, session
from markupsafe import Markup
from sessiond.flask import SessiondInterface, SessiondSession


@pytest.fixture
def app(service):
    return make_app(service.address)


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


@pytest.fixture
def visitor(app):
    return Visitor(app)


# ---- kept ------------------------------------------------------------------------------


def test_a_value_is_there_with_the_next_request(visitor):
    assert visitor.data == {}
    visitor.put(user="ada")
    assert visitor.data == {"user": "ada"}


def test_what_flask_holds_comes_back_the_same(visitor):
    values = {
        "none": None,
        "tuple": (1, "x", (2.0,)),
        "bytes": b"\x00\xff",
        "uuid": UUID("6f1c8a3e-5b7d-4f20-9a1b-2c3d4e5f6071"),
        "aware": datetime(2026, 5, 1, 12, 0, 0, 250000, tzinfo=timezone(timedelta(hours=2))),
        "naive": datetime(2026, 5, 1, 12),
        "markup": Markup("<b>tea</b>"),
        "float": 5.0,
        "integer": 2**200,
        "list": [{"a": [True, 0.1]}, {" t": 1}],
    }
    visitor.put(**values)
    back = visitor.data
    assert back == values
    assert {key: type(value) for key, value in back.items()} == {key: type(value) for key, value in values.items()}


def test_what_cannot_be_kept_is_refused_by_its_place_and_without_its_content(app, visitor):
    app.testing = True
    with pytest.raises(TypeError, match=re.escape("session[\"cart\"][1][\"price\"]: a session keeps")) as refused:
        visitor(lambda: session.update(cart=[1, {"price": {"secret"}}]))
    assert "'secret'" not in str(refused.value)
    assert visitor.data == {}


def test_flashes_are_shown_once(visitor):
    visitor(lambda: flash("hello", "info"))
    shown = []
    visitor(lambda: shown.extend(get_flashed_messages(with_categories=True)))
    assert shown == [("info", "hello")]
    visitor(lambda: shown.extend(get_flashed_messages()))
    assert len(shown) == 1


# ---- Flask's attributes ------------------------------------------------------------------


def test_a_session_knows_whether_it_is_new(visitor):
    new = []
    visitor(lambda: new.append(session.new))
    visitor.put(a=1)
    visitor(lambda: new.append(session.new))
    assert new == [True, False]


@pytest.mark.parametrize(
    ("changed", "act"),
    [
        (False, lambda: session.get("a")),
        (False, lambda: "a" in session),
        (False, lambda: session.setdefault("a", 2)),
        (False, lambda: session.pop("b", None)),
        (False, lambda: session["list"].append(1)),
        (True, lambda: session.setdefault("b", 2)),
        (True, lambda: session.pop("a")),
        (True, lambda: session.popitem()),
        (True, lambda: session.update(b=1)),
        (True, lambda: session.__setitem__("a", 1)),
        (True, lambda: session.__delitem__("a")),
        (True, lambda: session.__ior__({"b": 1})),
        (True, lambda: session.clear()),
    ],
)
def test_a_change_of_the_dictionary_itself_is_seen(visitor, changed, act):
    visitor.put(a=1, list=[])
    seen = []

    def view():
        act()
        seen.append(session.modified)

    visitor(view)
    assert seen == [changed]


def test_a_change_within_a_value_is_kept_if_it_is_told(visitor):
    visitor.put(cart=["tea"])
    visitor(lambda: session["cart"].append("milk"))
    assert visitor.data["cart"] == ["tea"]

    def tell():
        session["cart"].append("milk")
        session.modified = True

    visitor(tell)
    assert visitor.data["cart"] == ["tea", "milk"]


@pytest.mark.parametrize(
    "look",
    [
        dict,
        lambda session: {**session},
        lambda session: json.loads(json.dumps(session)),
        lambda session: session.copy(),
        lambda session: session | {},
        lambda session: dict(session.items()),
        lambda session: {key: session[key] for key in session},
        lambda session: {key: session.get(key) for key in reversed(session)},
        lambda session: dict(zip(session.keys(), session.values())),
        lambda session: {"a": 1, "b": 2} if session == {"a": 1, "b": 2} else {},
        lambda session: {"a": 1, "b": 2} if len(session) == 2 else {},
        lambda session: {"a": 1, "b": 2} if repr(session) == "{'a': 1, 'b': 2}" else {},
    ],
)
def test_the_first_look_opens_the_session_whatever_it_is(visitor, look):
    visitor.put(a=1, b=2)
    seen = []
    visitor(lambda: seen.append(look(session._get_current_object())))
    assert seen == [{"a": 1, "b": 2}]


def test_every_method_of_a_dictionary_opens_the_session():
    from sessiond.flask._session import Unopened

    harmless = {"__class_getitem__", "__doc__", "__getattribute__", "__init__", "__new__", "__sizeof__", "__hash__"}
    # Their answer is the same for every dictionary of that length, or they ask the methods above.
    ordering = {"__ge__", "__gt__", "__le__", "__lt__", "fromkeys"}
    missing = [name for name in vars(dict) if name not in vars(Unopened)]
    assert set(missing) <= harmless | ordering


# ---- the browser -------------------------------------------------------------------------


def test_only_what_looks_at_the_session_varies_by_the_cookie(app, visitor):
    assert visitor(lambda: session.get("a")).headers["Vary"] == "Cookie"
    assert "Vary" not in visitor.client.get("/untouched").headers
    answer = app.response_class("", headers={"Vary": "Accept-Encoding"})

    def view():
        session.get("a")
        return answer

    assert visitor(view).headers["Vary"] == "Accept-Encoding, Cookie"


def test_an_empty_session_is_not_stored_and_has_no_cookie(visitor):
    assert "Set-Cookie" not in visitor(lambda: session.get("a")).headers
    assert "Set-Cookie" not in visitor(lambda: session.pop("a", None)).headers
    assert "Set-Cookie" not in visitor(lambda: session.regenerate()).headers


def test_the_cookie_comes_with_the_first_value_and_is_not_to_be_cached(visitor):
    headers = visitor.put(a=1).headers
    assert re.fullmatch(r"session=[0-9a-f]{32}\.[\w-]{32}; HttpOnly; Path=/", headers["Set-Cookie"])
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in visitor.put(a=2).headers
    assert "Set-Cookie" not in visitor(lambda: session["a"]).headers


def test_a_cookie_that_browsers_would_drop_is_refused(app, visitor):
    app.testing = True
    app.config.update(SESSION_COOKIE_NAME="__Host-id")
    with pytest.raises(ValueError, match="__Host- in a cookie's name needs Secure"):
        visitor.put(a=1)


def test_an_id_from_outside_is_never_adopted(visitor):
    for foreign in ["x", "0123456789abcdef0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"]:
        visitor.cookie = foreign
        assert visitor.data == {}
        visitor.put(a=1)
        assert visitor.cookie != foreign
        assert visitor.data == {"a": 1}


def test_of_two_cookies_of_our_name_none_is_trusted(app, visitor):
    visitor.put(a=1)
    seen = []
    app.act = lambda: seen.append(dict(session))
    header = f"session={visitor.cookie}; session={visitor.cookie}"
    answer = app.test_client(use_cookies=False).get("/", headers={"Cookie": header})
    assert seen == [{}]
    assert "Set-Cookie" not in answer.headers


def test_an_emptied_session_is_destroyed_and_its_cookie_removed(app, visitor):
    for empty in [lambda: session.clear(), lambda: session.pop("a"), lambda: session.destroy()]:
        visitor.put(a=1)
        old = Visitor(app, like=visitor)
        headers = visitor(empty).headers
        assert headers["Set-Cookie"].startswith("session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0;")
        assert headers["Cache-Control"] == "no-store"
        assert visitor.cookie is None
        assert old.data == {}


def test_the_cookie_of_an_id_that_opens_nothing_stays(visitor):
    visitor.put(a=1)
    other = Visitor(visitor.app, like=visitor)
    visitor(lambda: session.clear())
    assert other.data == {}
    assert "Set-Cookie" not in other(lambda: session.clear()).headers
    assert other.cookie is not None


def test_what_is_put_into_a_destroyed_session_begins_a_new_one(visitor):
    visitor.put(a=1)
    old = visitor.cookie

    def again():
        session.destroy()
        session["b"] = 2

    visitor(again)
    assert visitor.cookie not in (None, old)
    assert visitor.data == {"b": 2}


def test_browsers_are_told_to_forget_more_where_that_is_asked_for(service):
    visitor = Visitor(make_app(service.address, clear_site_data=True))
    visitor.put(a=1)
    assert visitor(lambda: session.clear()).headers["Clear-Site-Data"] == '"cache", "storage"'


# ---- permanent ---------------------------------------------------------------------------


def stored(app, visitor):
    return app.session_interface.client.open(visitor.cookie)


def test_a_session_lives_a_day_or_as_long_as_permanent_ones_do(app, visitor):
    app.permanent_session_lifetime = timedelta(days=7)
    visitor.put(a=1)
    assert stored(app, visitor).idle_timeout == timedelta(days=1)
    answer = visitor(lambda: setattr(session, "permanent", True))
    assert "Expires=" in answer.headers["Set-Cookie"]
    assert stored(app, visitor).idle_timeout == timedelta(days=7)
    answer = visitor(lambda: setattr(session, "permanent", False))
    assert "Expires=" not in answer.headers["Set-Cookie"]
    assert stored(app, visitor).idle_timeout == timedelta(days=1)


def test_the_timeout_that_another_application_gave_stays(app, visitor):
    client = app.session_interface.client
    visitor.cookie = client.save(None, {"a": 1}, idle_timeout=3600).id.expose()
    visitor.put(a=2)
    assert stored(app, visitor).idle_timeout == timedelta(hours=1)


def test_the_cookie_of_a_permanent_session_is_refreshed_with_each_request(app, visitor):
    visitor(lambda: session.update(a=1, _permanent=True))
    assert "Expires=" in visitor(lambda: session["a"]).headers["Set-Cookie"]
    answer = visitor.client.get("/untouched")
    assert "Expires=" in answer.headers["Set-Cookie"]
    assert answer.headers["Vary"] == "Cookie"
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    assert "Set-Cookie" not in visitor(lambda: session["a"]).headers
    assert "Set-Cookie" not in visitor.client.get("/untouched").headers
    assert "Set-Cookie" in visitor.put(a=2).headers


def test_the_session_of_a_visitor_is_not_refreshed_for_another_ones_permanence(app, visitor):
    visitor(lambda: session.update(a=1, _permanent=True))
    other = Visitor(app)
    other.put(a=1)
    headers = other.client.get("/untouched").headers
    assert "Set-Cookie" not in headers
    assert "Vary" not in headers


# ---- signing in --------------------------------------------------------------------------


def test_a_login_gives_a_new_id_and_keeps_the_cart(app, visitor):
    visitor.put(cart=["tea"])
    anonymous = Visitor(app, like=visitor)
    visitor(lambda: session.sign_in(4711))
    assert visitor.cookie != anonymous.cookie
    assert anonymous.data == {}
    seen = []
    visitor(lambda: seen.extend([session.subject, session["cart"]]))
    assert seen == ["4711", ["tea"]]


def test_a_visitor_without_a_session_can_sign_in(visitor):
    visitor(lambda: session.sign_in("ada"))
    seen = []
    visitor(lambda: seen.extend([session.subject, session.handle]))
    assert seen == ["ada", visitor.cookie.split(".")[0]]


def test_nobody_cannot_sign_in(app, visitor):
    app.testing = True
    for nobody in [None, ""]:
        with pytest.raises(ValueError, match="nobody to sign in"):
            visitor(lambda: session.sign_in(nobody))


def test_whoever_signs_in_after_another_gets_nothing_of_theirs(app, visitor):
    visitor(lambda: session.sign_in("ada"))
    visitor.put(secret=1)
    ada = Visitor(app, like=visitor)
    visitor(lambda: session.sign_in("grace"))
    assert "secret" not in visitor.data
    assert ada.data == {}


def test_regenerate_gives_a_new_id(app, visitor):
    visitor.put(a=1)
    old = Visitor(app, like=visitor)
    visitor(lambda: session.regenerate())
    assert old.data == {}
    assert visitor.data == {"a": 1}


def test_to_clear_a_session_signs_out_whatever_is_put_into_it(visitor):
    visitor(lambda: session.sign_in("ada"))
    seen = []

    def out():
        session.clear()
        flash("bye")

    visitor(out)
    visitor(lambda: seen.append(session.subject))
    assert seen == [None]


def test_a_login_changes_the_secret_of_forms(visitor):
    tokens, good = [], []
    visitor(lambda: tokens.append(session.csrf_token()))
    visitor(lambda: tokens.append(session.csrf_token()))
    assert tokens[0] != tokens[1]
    visitor(lambda: good.extend(session.check_csrf(token) for token in [*tokens, "x", None]))
    assert good == [True, True, False, False]
    visitor(lambda: session.sign_in("ada"))
    visitor(lambda: good.append(session.check_csrf(tokens[0])))
    assert good[-1] is False


# ---- at once -----------------------------------------------------------------------------


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
