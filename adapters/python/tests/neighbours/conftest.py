"""What the tests of the neighbours stand on: a Redis and a sessiond for the run, and whether the run is a long one."""

import os
import sys

import pytest
from flask import Flask
from servers import APPS, Redis, Sessiond

sys.path.insert(0, str(APPS))
import sessions  # noqa: E402

# See requirements.txt.
if sys.version_info < (3, 11):
    collect_ignore_glob = ["test_*.py"]

LONG = bool(os.environ.get("SESSIOND_TESTS_LONG"))


@pytest.fixture(scope="session")
def long():
    """Gives the second of two numbers in a long run, else the first."""
    return lambda usual, full: full if LONG else usual


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture(scope="session")
def sessiond(redis, tmp_path_factory):
    # The applications in this process have idle connections, whose end nobody hears: it need not wait for them.
    with Sessiond(tmp_path_factory.mktemp("sessiond"), redis.url, "--drain", "1s") as sessiond:
        yield sessiond


@pytest.fixture
def own_sessiond(redis, tmp_path):
    """A sessiond that a test may kill."""
    with Sessiond(tmp_path, redis.url) as sessiond:
        yield sessiond


@pytest.fixture
def app(sessiond, redis):
    """An application as its developer has it, in this process. (With SESSIONS in the environment: with other sessions.)"""
    app = Flask("neighbours", root_path=os.path.dirname(__file__))
    # Ours asks for no key. What the neighbours put into cookies and forms of their own is signed with it.
    app.config.update(SECRET_KEY="a secret of the tests", TESTING=True)
    sessions.give(app, {"SESSIOND_ADDRESS": sessiond.address, "REDIS_URL": redis.url, **os.environ})
    return app


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def session_cookie(app):
    """Gives what a client has in its session's cookie; None without one."""

    def read(client):
        cookie = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
        return cookie and cookie.value

    return read
