"""What a save sends: nothing when nothing changed, every key by its name, and the times of the session."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import sessiond
from flask import session
from processes import PATIENCE
from sessiond import Client
from test_client import FOREIGN
from visitors import Visitor, make_app

HOUR = timedelta(hours=1)


@pytest.fixture
def client(service):
    with Client(service.address) as client:
        yield client


# ---- nothing changed ---------------------------------------------------------------------


def test_a_save_that_changes_nothing_wipes_nothing(client):
    created = client.save(None, {"cart": ["tea"]})
    opened = client.open(created.id)
    for unchanged in [
        client.save(opened),
        client.save(opened, changed_keys=[]),
        client.save(opened, {}, changed_keys=[]),
        client.save(opened, {"cart": []}, changed_keys=[], removed_keys=[]),
    ]:
        assert unchanged is opened
    for named in [
        client.save(created.id),
        client.save(created.id, changed_keys=[]),
        client.save(created.id, {}, changed_keys=[]),
        client.save(created.id, removed_keys=[]),
    ]:
        assert (named.handle, named.data) == (created.handle, {"cart": ["tea"]})
    assert client.save(opened, {}, changed_keys=[], rotate=True, subject="ada").data == {"cart": ["tea"]}
    with pytest.raises(sessiond.SessionNotFound):
        client.save(FOREIGN)


def test_a_request_that_changes_nothing_wipes_nothing(app, visitor):
    visitor.put(cart=["tea"], name="ada")

    def put_back():
        session["name"] = "eve"
        session["name"] = "ada"
        session["new"] = 1
        del session["new"]
        session.modified = True

    visitor(put_back)
    visitor(lambda: session.update_key("cart", lambda cart: cart))
    assert visitor.data == {"cart": ["tea"], "name": "ada"}


def test_clearing_an_empty_session_destroys_it_unless_another_request_filled_it(app, visitor):
    client = app.session_interface.client
    visitor.cookie = client.save(None, {}).id.expose()
    assert visitor(lambda: session.clear()).headers["Set-Cookie"].startswith("session=;")
    empty = client.save(None, {})
    visitor.cookie = empty.id.expose()

    def clear_late():
        session.clear()
        client.save(empty, {"cart": ["tea"]})

    assert "Set-Cookie" not in visitor(clear_late).headers
    assert client.open(empty.id).data == {"cart": ["tea"]}


# ---- keys by their names -----------------------------------------------------------------


def test_keys_are_stored_and_removed_by_their_names(client):
    id = client.save(None, {"a": 1, "b": 1, "c": 1}).id
    client.save(id, {"a": 2, "c": 3}, changed_keys=["a", "a"], removed_keys=["b", "nothing"])
    assert client.open(id).data == {"a": 2, "c": 1}
    client.save(id, removed_keys=["c"])
    assert client.open(id).data == {"a": 2}
    opened = client.open(id)
    client.save(opened, {"b": 4, "c": 5}, changed_keys=["b"])
    opened.data["a"] = 6
    client.save(opened, changed_keys=["a"])
    assert client.open(id).data == {"a": 6, "b": 4}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"data": {"crat": 1}, "changed_keys": ["cart"]}, 'changed_keys names "cart", .* removed_keys'),
        ({"changed_keys": ["unknown"]}, 'changed_keys names "unknown"'),
        ({"data": {"a": 1}, "changed_keys": ["a"], "removed_keys": ["a"]}, "in changed_keys and in removed_keys"),
        ({"data": {"a": 1}, "removed_keys": ["cart"]}, "not which of its keys to store"),
        ({"data": {"a": 1}, "changed_keys": ["a"], "replace": True}, "replace=True replaces all of data"),
        ({"data": {"a": 1}, "removed_keys": ["cart"], "replace": True}, "replace=True replaces all of data"),
    ],
)
def test_names_that_do_not_fit_the_data_remove_nothing(client, arguments, said):
    created = client.save(None, {"cart": ["tea"]})
    for target in [created.id, client.open(created.id)]:
        with pytest.raises(ValueError, match=said):
            client.save(target, **arguments)
    assert client.open(created.id).data == {"cart": ["tea"]}


def test_one_form_of_call_serves_new_and_known_visitors(client):
    def visit(session, data):
        return client.save(session, data, changed_keys=["cart"], removed_keys=["coupon"])

    new = visit(None, {"cart": ["tea"], "theme": "dark"})
    assert client.open(new.id).data == {"cart": ["tea"], "theme": "dark"}
    visit(client.open(new.id), {"cart": ["milk"]})
    assert client.open(new.id).data == {"cart": ["milk"], "theme": "dark"}
    with pytest.raises(ValueError, match='changed_keys names "cart"'):
        visit(None, {"crat": ["tea"]})


def test_a_session_whose_version_is_unknown_is_changed_all_the_same(client):
    first = client.save(None, {"a": 1})
    client.save(first, {"a": 1, "b": 2})
    # The answer to this one has no etag: another writer came in between.
    blind = client.save(first, {"c": 3}, changed_keys=["c"])
    with pytest.raises(sessiond.SessionChanged):
        client.save(blind, {}, replace=True)
    client.save(blind, {"d": 4}, changed_keys=["d"], removed_keys=["b"])
    client.save(blind, idle_timeout=60)
    client.save(blind, lifetime=60)
    ada = client.save(blind, rotate=True, subject="ada")
    assert client.open(ada.id).data == {"a": 1, "c": 3, "d": 4}


# ---- the absolute lifetime -----------------------------------------------------------------


def lives(client, id):
    """How long the session lives from its creation, if it is not used."""
    stored = client.open(id, renew=False)
    return stored.expire_time - stored.create_time


@pytest.mark.parametrize("span", [3600, 3600.0, HOUR])
def test_a_lifetime_is_seconds_or_a_timedelta(client, span):
    # Redis counts from its own view of now, at times a millisecond off.
    assert abs(lives(client, client.save(None, {}, lifetime=span).id) - HOUR) < timedelta(seconds=1)


def test_a_lifetime_later_only_brings_the_end_nearer_until_a_login(client):
    created = client.save(None, {}, lifetime=HOUR)
    end = lives(client, created.id)
    client.save(created, lifetime=2 * HOUR)
    assert lives(client, created.id) == end
    client.save(created, lifetime=HOUR / 2)
    assert lives(client, created.id) < end
    ada = client.save(created, rotate=True, subject="ada", lifetime=2 * HOUR)
    assert lives(client, ada.id) > end
    with pytest.raises(sessiond.InvalidField, match="lifetime"):
        client.save(ada, lifetime=0.5)
    with pytest.raises(ValueError, match="lifetime cannot be -1"):
        client.save(ada, lifetime=-1)


def test_a_session_ends_with_its_lifetime_however_often_it_is_opened(client):
    id = client.save(None, {}, lifetime=1).id
    until = time.monotonic() + PATIENCE
    while client.open(id) is not None:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_application_says_how_long_new_sessions_and_logins_live(service):
    app = make_app(service.address, lifetime=HOUR)
    visitor, client = Visitor(app), app.session_interface.client
    visitor.put(cart=["tea"])
    first = lives(client, visitor.cookie)
    assert abs(first - HOUR) < timedelta(seconds=1)
    client.save(client.open(visitor.cookie), lifetime=HOUR / 2)
    assert lives(client, visitor.cookie) < first
    visitor.put(cart=["tea", "milk"])
    assert lives(client, visitor.cookie) < first
    visitor(lambda: session.sign_in("ada"))
    assert lives(client, visitor.cookie) >= first
    assert visitor.data["cart"] == ["tea", "milk"]
