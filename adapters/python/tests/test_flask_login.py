"""Signing in and out, and new ids."""

from __future__ import annotations

import pytest
from flask import flash, session
from visitors import Visitor


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
