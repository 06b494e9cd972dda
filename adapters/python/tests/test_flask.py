"""A request's session in Flask: what is kept, and what the browser is told."""

from __future__ import annotations

import copy
import json
import pickle
import re
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest
from flask import flash, get_flashed_messages, session
from markupsafe import Markup
from visitors import Visitor, make_app

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
    with pytest.raises(TypeError, match=re.escape('session["cart"][1]["price"]: a session keeps')) as refused:
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


def test_a_copy_of_a_session_is_a_dictionary(visitor):
    visitor.put(a=[1])
    for duplicate in [copy.copy, copy.deepcopy, lambda session: pickle.loads(pickle.dumps(session))]:
        seen = []
        visitor(lambda: seen.append(duplicate(session._get_current_object())))
        assert (type(seen[0]), seen[0]) == (dict, {"a": [1]})


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
    assert "Set-Cookie" not in visitor(lambda: setattr(session, "permanent", True)).headers


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


def test_of_two_cookies_of_our_name_none_is_trusted(app, visitor, caplog):
    visitor.put(a=1)
    seen = []
    app.act = lambda: seen.append(dict(session))
    header = f"session={visitor.cookie}; session={visitor.cookie}"
    answer = app.test_client(use_cookies=False).get("/", headers={"Cookie": header})
    assert seen == [{}]
    assert "Set-Cookie" not in answer.headers
    assert [record.message for record in caplog.records] == [
        "two cookies of the session's name, session, in one request: neither is trusted"
    ]


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
