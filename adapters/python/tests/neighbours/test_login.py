"""Flask-Login on our sessions: remember-me, fresh logins, "strong" protection, and a new id at login."""

import pytest
from flask import session
from flask_login import (
    LoginManager,
    UserMixin,
    confirm_login,
    current_user,
    fresh_login_required,
    login_required,
    login_user,
    logout_user,
    user_logged_in,
)


class User(UserMixin):
    def __init__(self, name):
        self.id = name


@pytest.fixture
def manager(app):
    manager = LoginManager(app)
    manager.user_loader(User)

    @app.get("/sign-in/<name>")
    def sign_in(name):
        login_user(User(name))
        return "hello"

    @app.get("/remember/<name>")
    def remember(name):
        login_user(User(name), remember=True)
        return "hello"

    @app.get("/sign-out")
    def sign_out():
        logout_user()
        return "bye"

    @app.get("/confirm")
    @login_required
    def confirm():
        confirm_login()
        return "hello again"

    @app.get("/who")
    def who():
        return current_user.get_id() or "nobody"

    @app.get("/mine")
    @login_required
    def mine():
        return "yours"

    @app.get("/password")
    @fresh_login_required
    def password():
        return "changed"

    @app.get("/cart")
    def cart():
        session["cart"] = ["tea"]
        return "kept"

    return manager


def forget_session(app, client):
    """As a browser that was closed: what has no expiry date is gone, what was to be remembered stays."""
    client.delete_cookie(app.config["SESSION_COOKIE_NAME"])


def test_who_has_signed_in_stays_so_until_signing_out(manager, client):
    assert client.get("/mine").status_code == 401
    client.get("/sign-in/ada")
    assert client.get("/mine").text == "yours"
    assert client.get("/who").text == "ada"
    client.get("/sign-out")
    assert client.get("/mine").status_code == 401
    assert client.get("/who").text == "nobody"


def test_the_cart_from_before_is_there_after_signing_in(manager, app, client):
    client.get("/cart")
    client.get("/sign-in/ada")
    with client.session_transaction() as kept:
        assert kept["cart"] == ["tea"]
        assert kept["_user_id"] == "ada"


def test_a_remembered_visitor_is_known_without_a_session_but_not_fresh(manager, app, client):
    client.get("/remember/ada")
    assert client.get("/password").text == "changed"
    forget_session(app, client)
    assert client.get("/who").text == "ada"
    # A remembered visitor has to show once more who they are, for what matters.
    assert client.get("/password").status_code == 401
    assert client.get("/confirm").text == "hello again"
    assert client.get("/password").text == "changed"


def test_a_remembered_visitor_who_signs_out_is_forgotten(manager, app, client):
    client.get("/remember/ada")
    client.get("/sign-out")
    assert client.get_cookie("remember_token") is None
    forget_session(app, client)
    assert client.get("/who").text == "nobody"


def test_a_cookie_from_before_signing_out_opens_nothing(manager, app, client, session_cookie):
    client.get("/sign-in/ada")
    name, stolen = app.config["SESSION_COOKIE_NAME"], session_cookie(client)
    client.get("/sign-out")
    thief = app.test_client()
    thief.set_cookie(name, stolen)
    assert thief.get("/who").text == "nobody"


def test_strong_protection_ends_a_session_that_another_browser_shows(manager, app, client, session_cookie):
    manager.session_protection = "strong"
    client.get("/sign-in/ada", headers={"User-Agent": "hers"})
    thief = app.test_client()
    thief.set_cookie(app.config["SESSION_COOKIE_NAME"], session_cookie(client))
    assert thief.get("/who", headers={"User-Agent": "his"}).text == "nobody"
    # It was the one session that both showed: it is signed out for her too, as with Flask-Login on any store in a server.
    assert client.get("/who", headers={"User-Agent": "hers"}).text == "nobody"


def test_basic_protection_makes_it_stale(manager, app, client, session_cookie):
    client.get("/sign-in/ada", headers={"User-Agent": "hers"})
    other = app.test_client()
    other.set_cookie(app.config["SESSION_COOKIE_NAME"], session_cookie(client))
    assert other.get("/who", headers={"User-Agent": "another"}).text == "ada"
    assert other.get("/password", headers={"User-Agent": "another"}).status_code == 401


def test_the_id_becomes_another_one_at_login_where_the_application_says_so(manager, app, client, session_cookie):
    """Flask-Login knows nothing of ids, so it is one line: against an id that somebody planted before."""

    @user_logged_in.connect_via(app)
    def another_id(*_, **__):
        session.regenerate()

    client.get("/cart")
    planted = session_cookie(client)
    client.get("/sign-in/ada")
    assert session_cookie(client) != planted
    assert client.get("/who").text == "ada"
    planter = app.test_client()
    planter.set_cookie(app.config["SESSION_COOKIE_NAME"], planted)
    assert planter.get("/who").text == "nobody"
