"""Which sessions an application here has, by the variable SESSIONS, so that all of them are one and the same application."""

import os


def give(app, environment=os.environ):
    """Gives the application its sessions, or every application, if this is the class `Flask`."""
    kind = environment.get("SESSIONS", "sessiond")
    if kind == "none":
        return
    if kind == "sessiond":
        from sessiond.flask import SessiondInterface

        app.session_interface = SessiondInterface(environment["SESSIOND_ADDRESS"])
    elif kind == "snippet":
        from snippet import RedisSessionInterface

        app.session_interface = RedisSessionInterface(environment["REDIS_URL"])
    elif kind in ("flask-session", "flask-session-no-refresh"):
        from flask_session import Session
        from redis import Redis

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(environment["REDIS_URL"]))
        app.config.update(SESSION_REFRESH_EACH_REQUEST=kind == "flask-session")
        Session(app)
    else:
        raise ValueError(f"SESSIONS={kind} is none of those that are known here")
