"""A redis-server and a sessiond of the tests' own, on free ports, stopped by their process ids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, Optional

REPOSITORY = Path(__file__).parents[3]

#: How long something that is sure to happen may take on a slow machine, in seconds.
PATIENCE = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits until something is so."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"in {PATIENCE} s not: {what}"
        time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A process that listens on a port, and can be killed and started again there."""

    def __init__(self, *command: str, port: int) -> None:
        self.command, self.port = command, port
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: listens(self.port), f"{self.command[0]} listens")

    def pause(self) -> None:
        """Leaves it there, and silent."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def sessiond_binary() -> str:
    """The one that scripts/test names, or whichever was built last."""
    if named := os.environ.get("SESSIOND_TEST_SERVER"):
        return named
    built = [path for profile in ("debug", "release") if (path := REPOSITORY / "target" / profile / "sessiond").exists()]
    assert built, "there is no sessiond: cargo build -p sessiond, or name one in SESSIOND_TEST_SERVER"
    return str(max(built, key=lambda path: path.stat().st_mtime))


class Service:
    """A sessiond on a Redis."""

    def __init__(self, redis: Process) -> None:
        self.redis = redis
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.sessiond = Process(
            sessiond_binary(), "--listen", self.address, "--store", f"redis://127.0.0.1:{redis.port}", port=port
        )

    def stop(self) -> None:
        self.sessiond.kill()

    def start(self) -> None:
        self.sessiond.start()
