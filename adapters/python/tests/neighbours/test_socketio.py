"""Flask-SocketIO: the session in the handlers of a socket, in both of its ways."""

import pytest
from flask import session
from flask_socketio import SocketIO, emit


def with_socket(app, **options):
    socket = SocketIO(app, async_mode="threading", **options)

    @app.get("/sign-in/<name>")
    def sign_in(name):
        session["user"] = name
        return "hello"

    @app.get("/all")
    def show_all():
        return dict(session)

    @socket.on("who")
    def who():
        emit("you are", session.get("user", "nobody"))

    @socket.on("choose")
    def choose(tea):
        session["tea"] = tea
        emit("chosen", session["tea"])

    return socket


def said(socket_client):
    return [(message["name"], message["args"][0]) for message in socket_client.get_received()]


@pytest.mark.parametrize("managed", [True, False], ids=["its own copy", "the one session"])
def test_a_handler_sees_the_visitors_session(app, client, managed):
    socket = with_socket(app, manage_session=managed)
    client.get("/sign-in/ada")
    tab = socket.test_client(app, flask_test_client=client)
    tab.emit("who")
    assert said(tab) == [("you are", "ada")]
    stranger = socket.test_client(app, flask_test_client=app.test_client())
    stranger.emit("who")
    assert said(stranger) == [("you are", "nobody")]


def test_with_a_copy_of_its_own_a_socket_keeps_its_changes_to_itself(app, client):
    """`manage_session=True`, the default: a copy made when it connected, which lives as long as the connection."""
    socket = with_socket(app)
    client.get("/sign-in/ada")
    tab = socket.test_client(app, flask_test_client=client)
    tab.emit("choose", "oolong")
    tab.emit("choose", "assam")
    assert said(tab) == [("chosen", "oolong"), ("chosen", "assam")]
    assert client.get("/all").json == {"user": "ada"}


def test_with_the_one_session_pages_and_sockets_see_each_others_changes(app, client):
    """`manage_session=False`, which its documentation names for sessions that are kept in a server."""
    socket = with_socket(app, manage_session=False)
    client.get("/sign-in/ada")
    tab = socket.test_client(app, flask_test_client=client)
    tab.emit("choose", "oolong")
    assert client.get("/all").json == {"user": "ada", "tea": "oolong"}
    client.get("/sign-in/eve")
    tab.emit("who")
    assert said(tab) == [("chosen", "oolong"), ("you are", "eve")]
