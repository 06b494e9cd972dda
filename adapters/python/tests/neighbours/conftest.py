"""What the tests of the neighbours stand on: a Redis and a sessiond for the run, and whether the run is a long one."""

import os

import pytest
from processes import Redis, Sessiond

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
    with Sessiond(tmp_path_factory.mktemp("sessiond"), redis.url) as sessiond:
        yield sessiond


@pytest.fixture
def own_sessiond(redis, tmp_path):
    """A sessiond that a test may kill."""
    with Sessiond(tmp_path, redis.url) as sessiond:
        yield sessiond
