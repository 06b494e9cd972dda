"""Flask-WTF's CSRF token, and flash messages: what Flask's own helpers keep in a session between two requests."""

import pytest
from flask import flash, get_flashed_messages, render_template_string, session
from flask_wtf import FlaskForm
from flask_wtf.csrf import CSRFProtect
from markupsafe import Markup
from wtforms import StringField


class Order(FlaskForm):
    tea = StringField()


@pytest.fixture
def shop(app):
    CSRFProtect(app)

    @app.get("/form")
    def show():
        return render_template_string("{{ csrf_token() }}")

    @app.post("/form")
    def take():
        form = Order()
        return form.tea.data if form.validate_on_submit() else ("no", 400)

    @app.get("/sign-in")
    def sign_in():
        session.regenerate()
        return "hello"

    return app


def test_a_form_with_its_token_is_taken(shop, client):
    token = client.get("/form").text
    assert client.post("/form", data={"tea": "oolong", "csrf_token": token}).text == "oolong"
    # As often as it is sent: the back button is no attack.
    assert client.post("/form", data={"tea": "assam", "csrf_token": token}).text == "assam"


def test_a_form_without_it_or_with_another_visitors_is_not(shop, client):
    client.get("/form")
    theirs = shop.test_client().get("/form").text
    for form in [{"tea": "oolong"}, {"tea": "oolong", "csrf_token": theirs}]:
        assert client.post("/form", data=form).status_code == 400


def test_two_tabs_have_good_forms_both(shop, client):
    tokens = [client.get("/form").text for _ in range(2)]
    for token in tokens:
        assert client.post("/form", data={"tea": "oolong", "csrf_token": token}).status_code == 200


def test_a_token_outlives_a_new_id(shop, client):
    token = client.get("/form").text
    client.get("/sign-in")
    assert client.post("/form", data={"tea": "oolong", "csrf_token": token}).text == "oolong"


@pytest.fixture
def flashing(app):
    @app.get("/say")
    def say():
        flash("kept")
        flash(Markup("<b>bold</b>"), "loud")
        return "said"

    @app.get("/hear")
    def hear():
        return {"heard": [[category, str(text), isinstance(text, Markup)] for category, text in told()]}

    def told():
        return get_flashed_messages(with_categories=True)

    return app


def test_a_flash_message_is_shown_once_as_it_was_given(flashing, client):
    client.get("/say")
    heard = client.get("/hear")
    assert heard.json["heard"] == [["message", "kept", False], ["loud", "<b>bold</b>", True]]
    assert client.get("/hear").json["heard"] == []


def test_when_the_last_message_is_shown_the_session_is_empty_and_so_is_gone(flashing, client, session_cookie):
    client.get("/say")
    assert session_cookie(client)
    client.get("/hear")
    assert session_cookie(client) is None


def test_flash_messages_of_several_requests_are_all_shown(flashing, client):
    client.get("/say")
    client.get("/say")
    assert len(client.get("/hear").json["heard"]) == 4
