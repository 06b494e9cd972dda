"""The application whose cost is measured: one page that reads its session and one that changes it, on half a KiB of data."""

import os

import sessions
from flask import Flask, session

app = Flask(__name__)
sessions.give(app)

if os.environ["SESSIONS"] == "none":
    # What everything else is measured above: the same answers, and no session.
    app.add_url_rule("/read", "read", lambda: "ada")
    app.add_url_rule("/change", "change", lambda: "changed")
else:

    @app.get("/sign-in")
    def sign_in():
        session.update(user="ada", theme="dark", visits=0, cart={f"tea-{n}": n for n in range(12)}, note="n" * 256)
        return "ada"

    @app.get("/read")
    def read():
        return session["user"]

    @app.get("/change")
    def change():
        session["visits"] += 1
        return "changed"

    @app.get("/visits")
    def visits():
        return str(session["visits"])
