"""A small application whose requests can be held where races happen: after the session was read, before it is saved."""

import os
import time
from pathlib import Path

import sessions
from flask import Flask, session

app = Flask(__name__)
sessions.give(app)


@app.get("/sign-in/<name>")
def sign_in(name):
    session["user"] = name
    return name


@app.get("/who")
def who():
    return session.get("user", "nobody")


@app.get("/sign-out")
def sign_out():
    session.clear()
    return "bye"


@app.get("/set/<key>/<value>")
def set_one(key, value):
    session[key] = value
    return value


@app.get("/all")
def show_all():
    return dict(session)


@app.get("/pid")
def pid():
    return f"{os.getpid()} {session.get('user', 'nobody')}"


@app.get("/slow/<name>")
def slow(name):
    """Reads the session, says so, and goes on to change it when it is told to."""
    folder = Path(os.environ["HOLD"])
    who = session.get("user", "nobody")
    (folder / f"{name}.entered").touch()
    until = time.monotonic() + 60
    while not (folder / f"{name}.go").exists():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody let {name} go on")
        time.sleep(0.002)
    session["last"] = name
    return who
