"""What the tests stand on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from processes import Process, Service, free_port
from visitors import Visitor, make_app


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    server = os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or "redis-server"
    process = Process(server, "--port", str(port), "--save", "", "--dir", str(folder), port=port)
    yield process
    process.kill()


@pytest.fixture(scope="session")
def service(redis: Process) -> Iterator[Service]:
    """A service that stays as it is."""
    service = Service(redis)
    yield service
    service.stop()


@pytest.fixture
def fragile(redis: Process) -> Iterator[Service]:
    """A service to be stopped and started."""
    service = Service(redis)
    yield service
    service.stop()


@pytest.fixture
def app(service: Service):
    """An application with one page, which does what a test says."""
    return make_app(service.address)


@pytest.fixture
def visitor(app) -> Visitor:
    return Visitor(app)
