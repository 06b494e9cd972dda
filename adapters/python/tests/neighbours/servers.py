"""Starts what the tests talk to (Redis, sessiond, gunicorn, the axum shop), each as a process of its own on a free port.

Every process is stopped by its own id, and what it said is kept in a file, which is also how we know that it is ready:
nothing here sleeps for a time that somebody guessed.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[4]
APPS = Path(__file__).resolve().parent / "apps"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
# The machine may be compiling something else.
PATIENCE = 60.0


def eventually(what, condition, patience=PATIENCE):
    """Waits until the condition is true, and gives what it gave."""
    until = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > until:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.005)


def binary(variable, name):
    """A program of this repository: the one that the variable names, or whichever Cargo made last."""
    if named := os.environ.get(variable):
        return named
    built = [path for profile in ("debug", "release") if (path := TARGET / profile / name).exists()]
    assert built, f"there is no {name} in {TARGET}: run scripts/test, or cargo build, or name one in {variable}"
    return str(max(built, key=lambda path: path.stat().st_mtime))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process and all that it starts; its output goes to a file."""

    def __init__(self, command, folder, **environment):
        self.log = Path(folder) / f"{Path(command[0]).name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def pid(self):
        return self.process.pid

    def said(self):
        return self.log.read_text(errors="replace")

    def ended(self):
        return self.process.poll() is not None

    def told(self, pattern):
        """Waits until it has said this, and gives the match; `None` if it ends instead."""

        def look():
            ended = self.ended()
            match = re.search(pattern, self.said())
            return (match,) if match or ended else None

        return eventually(f"{pattern} in {self.log.name}", look)[0]

    def must_tell(self, pattern):
        match = self.told(pattern)
        assert match, f"it ended without {pattern}:\n{self.said()}"
        return match

    def kill(self):
        """As a crash does it: at once, and with its children."""
        if not self.ended():
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """As an operator does it; one that does not listen is killed."""
        if not self.ended():
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Redis(Process):
    """A Redis without a file, for one test or a whole run of them."""

    def __init__(self, folder):
        program = os.environ.get("REDIS_SERVER", "redis-server")
        # Between finding a free port and taking it, another may have taken it.
        for _ in range(5):
            self.port = free_port()
            options = f"--port {self.port} --bind 127.0.0.1 --appendonly no --dir {folder}".split()
            super().__init__([program, *options, "--save", ""], folder)
            if self.told("Ready to accept connections"):
                break
        self.url = f"redis://127.0.0.1:{self.port}/0"


class Sessiond(Process):
    """The service itself. `start_again` gives a new process the same address, as a supervisor would."""

    def __init__(self, folder, store, *options, program=None):
        self._folder, self._options = folder, ("--store", store, *options)
        self._program = program or binary("SESSIOND_TEST_SERVER", "sessiond")
        self._start("127.0.0.1:0")

    def _start(self, listen):
        super().__init__([self._program, "--listen", listen, *self._options], self._folder)
        self.address = self.must_tell(r"listens address=(\S+)")[1]
        self.must_tell("ready: sessions can be kept")

    def start_again(self):
        assert self.ended(), "it still runs"
        self._start(self.address)


class Gunicorn(Process):
    """An application of `apps/` in gunicorn, ready when all its workers are."""

    def __init__(self, folder, app, *options, workers=1, **environment):
        self._workers = workers
        path = os.pathsep.join([str(APPS), os.environ.get("PYTHONPATH", "")])
        # /dev/shm may be small or missing in a container, and the folder of the tests is there in any case.
        command = [sys.executable, "-m", "gunicorn", app, "--bind", "127.0.0.1:0", "--workers", str(workers)]
        command += ["--worker-tmp-dir", str(folder), *options]
        super().__init__(command, folder, PYTHONPATH=path, **environment)
        self.port = int(self.must_tell(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
        eventually("all workers run", lambda: len(self.workers()) == workers or self.ended())
        assert not self.ended(), self.said()

    def workers(self):
        """The process ids of the workers that live, from what the kernel says, not from the log."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        if children.exists():
            return [int(pid) for pid in children.read_text().split()]
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def kill_one_worker(self):
        """`kill -9`, as the kernel does it when memory runs out."""
        victim = self.workers()[0]
        os.kill(victim, signal.SIGKILL)
        eventually("another worker in its place", lambda: self._replaced(victim))
        return victim

    def _replaced(self, victim):
        workers = self.workers()
        return victim not in workers and len(workers) == self._workers
