"""A pytest plugin: every Flask application of somebody else's tests gets our sessions in place of the default ones.

`test_suites.py` loads it (`-p in_place`) into runs of Flask's and Flask-Login's own tests. What cannot pass is named here with
its reason, and is held to it: it runs too, and the run fails if it passes.
"""

import os

import flask
import pytest
import sessions
from flask.sessions import SessionInterface

# The default interface seals the data into the cookie with SECRET_KEY. Ours puts a random id into it, which no key seals.
NO_KEY = "asserts that the data is signed into the cookie: without a (right) SECRET_KEY there is no session. Ours needs none"

# And its cookie must be sent with every change, since it holds the data. Ours holds an id, and a late response would put an
# old one in the place of what a login in another tab has just set.
RESENT = "asserts that a change which changes nothing of the cookie sends it again"

LEFT_OUT = {
    "tests/test_basic.py::test_session_using_samesite_attribute": RESENT,
    "tests/test_basic.py::test_missing_session": NO_KEY,
    "tests/test_basic.py::test_session_secret_key_fallbacks": NO_KEY,
    "tests/test_testing.py::test_session_transactions_no_null_sessions": NO_KEY,
    # Nothing of sessions in it.
    "tests/test_reqctx.py::test_bad_environ_raises_bad_request": "fails with the default sessions too, since Werkzeug 3.1.9",
}

sessions.give(flask.Flask)
OPENED = 0


def counted(open_session):
    def open_and_count(self, app, request):
        global OPENED
        OPENED += 1
        return open_session(self, app, request)

    return open_and_count


# With Flask's own rule for when to send it, that test passes too: what it says of the attributes is right here.
if os.environ.get("RESEND"):
    type(flask.Flask.session_interface).should_set_cookie = SessionInterface.should_set_cookie
    LEFT_OUT = {test: reason for test, reason in LEFT_OUT.items() if reason is not RESENT}


# So that `test_suites.py` can tell a run with our sessions from one that never met them.
interface = type(flask.Flask.session_interface)
interface.open_session = counted(interface.open_session)


def pytest_collection_modifyitems(items):
    for item in items:
        if reason := LEFT_OUT.get(item.nodeid):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"sessions opened: {OPENED}")
