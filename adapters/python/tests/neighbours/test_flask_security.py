"""Flask-Security on our sessions: its own pages for signing in, out and "show once more who you are"."""

import re
import time

import pytest
from flask import session
from flask_security import (
    RoleMixin,
    Security,
    UserDatastore,
    UserMixin,
    auth_required,
    current_user,
    hash_password,
)
from flask_security.datastore import Datastore

PASSWORD = "correct horse battery"


class Role(RoleMixin):
    def __init__(self, **fields):
        self.__dict__.update({"permissions": [], **fields})


class User(UserMixin):
    # Flask-Security looks for it in the class.
    fs_uniquifier = None

    def __init__(self, **fields):
        self.__dict__.update(fields)


class Memory(Datastore, UserDatastore):
    """Users in a list: a database would add nothing to what is tested here."""

    def __init__(self):
        Datastore.__init__(self, None)
        UserDatastore.__init__(self, User, Role)
        self.users = []

    def put(self, model):
        if isinstance(model, User) and model not in self.users:
            self.users.append(model)
        return model

    def find_user(self, case_insensitive=False, **field):
        ((name, value),) = field.items()
        return next((user for user in self.users if getattr(user, name, None) == value), None)

    def find_role(self, role):
        return None


@pytest.fixture
def app(app):
    app.config.update(
        SECURITY_PASSWORD_SALT="a salt of the tests",
        # Quick and weak, since it is not the passwords that are tested.
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SCHEMES=["plaintext"],
        WTF_CSRF_ENABLED=True,
    )
    users = Memory()
    Security(app, users)
    with app.app_context():
        users.create_user(email="ada@example.org", password=hash_password(PASSWORD))

    @app.get("/who")
    def who():
        return current_user.email if current_user.is_authenticated else "nobody"

    @app.get("/mine")
    @auth_required("session")
    def mine():
        return "yours"

    @app.get("/password")
    @auth_required("session", within=10, grace=0)
    def password():
        return "changed"

    @app.get("/long-ago")
    def long_ago():
        session["fs_paa"] = time.time() - 3600
        return "an hour has passed"

    return app


def submit(client, page, path, **fields):
    """Loads a page with a form, and sends the token that is in it with these fields."""
    token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', client.get(page).text)[1]
    return client.post(path, data={"csrf_token": token, **fields})


def sign_in(client):
    return submit(client, "/login", "/login", email="ada@example.org", password=PASSWORD)


def test_signing_in_and_out_by_its_own_pages(client):
    assert client.get("/mine").status_code == 302
    assert sign_in(client).status_code == 302
    assert client.get("/who").text == "ada@example.org"
    assert client.get("/mine").text == "yours"
    submit(client, "/verify", "/logout")
    assert client.get("/who").text == "nobody"


def test_a_login_form_without_its_token_is_refused(client):
    client.get("/login")
    client.post("/login", data={"email": "ada@example.org", "password": PASSWORD})
    assert client.get("/who").text == "nobody"


def test_what_matters_asks_again_after_a_while(client):
    sign_in(client)
    assert client.get("/password").text == "changed"
    client.get("/long-ago")
    assert "/verify" in client.get("/password").headers["Location"]
