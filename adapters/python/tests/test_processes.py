"""Forks, and the end of the interpreter: each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nobody forks there")

START = """
import asyncio, os, sys, threading, time, faulthandler
from sessiond import AsyncClient, Client, Unavailable

faulthandler.enable()
address = sys.argv[1]

def end_of(child):
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"
"""


def run(service, script, *, paused=False):
    """Runs a script, which must end by itself, well, and without a word."""
    if paused:
        service.sessiond.pause()
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + textwrap.dedent(script), service.address],
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        if paused:
            service.sessiond.resume()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_makes_connections_of_its_own(service):
    run(
        service,
        """
        client = Client(address)
        id = client.save(None, {"n": 0}).id
        for generation in range(3):
            child = os.fork()
            if child == 0:
                for n in range(20):
                    session = client.open(id)
                    session.data["n"] += 1
                    client.save(session)
                # A grandchild forks from this one in the next round.
                if generation == 2:
                    os._exit(0)
                continue
            # At the same time.
            for n in range(20):
                assert client.open(id) is not None
            end_of(child)
            if generation:
                os._exit(0)
            break
        assert client.open(id).data["n"] == 60, client.open(id).data
        """,
    )


def test_a_fork_in_the_middle_of_other_threads_calls_harms_nobody(service):
    run(
        service,
        """
        client = Client(address, timeout=20)
        id = client.save(None, {"n": 0}).id
        ends, failures = False, []
        def use():
            while not ends:
                try:
                    client.open(id)
                except Exception as error:
                    failures.append(error)
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads: thread.start()
        for _ in range(50):
            child = os.fork()
            if child == 0:
                client.open(id)
                os._exit(0)
            end_of(child)
        ends = True
        for thread in threads: thread.join()
        assert not failures, failures
        """,
    )


def test_a_child_that_ends_as_any_other_program_harms_its_parent_not(service):
    run(
        service,
        """
        client = Client(address)
        id = client.save(None, {"n": 0}).id
        child = os.fork()
        if child == 0:
            del client
            sys.exit(0)
        end_of(child)
        assert client.open(id) is not None
        """,
    )


def test_the_asyncio_client_works_in_a_child_too(service):
    run(
        service,
        """
        client = AsyncClient(address)
        id = asyncio.run(client.save(None, {"n": 0})).id
        child = os.fork()
        if child == 0:
            assert asyncio.run(client.open(id)).data == {"n": 0}
            sys.exit(0)
        end_of(child)
        assert asyncio.run(client.open(id)).data == {"n": 0}
        """,
    )


def test_the_interpreter_ends_with_clients_that_nobody_closed(service):
    run(
        service,
        """
        client, other = Client(address), AsyncClient(address)
        id = client.save(None, {}).id
        asyncio.run(other.open(id))
        """,
    )


def test_the_interpreter_ends_in_the_middle_of_asyncio_calls(fragile):
    run(
        fragile,
        """
        client = AsyncClient(address, timeout=30)
        loop = asyncio.new_event_loop()
        async def begin():
            for _ in range(10):
                tasks.append(asyncio.ensure_future(client.open("0123456789abcdef0123456789abcdef." + "A" * 32)))
            await asyncio.sleep(0.05)
        tasks = []
        loop.run_until_complete(begin())
        # No word of tasks that were never awaited: that is asyncio's, and not looked at here.
        for task in tasks: task._log_destroy_pending = False
        """,
        paused=True,
    )


def test_the_interpreter_ends_while_asyncio_calls_come_in(service):
    run(
        service,
        """
        client = AsyncClient(address)
        loop = asyncio.new_event_loop()
        tasks = []
        async def begin():
            for _ in range(200):
                tasks.append(asyncio.ensure_future(client.open("0123456789abcdef0123456789abcdef." + "A" * 32)))
            await asyncio.sleep(0)
        loop.run_until_complete(begin())
        for task in tasks: task._log_destroy_pending = False
        """,
    )


def test_the_interpreter_ends_while_a_daemon_thread_waits(fragile):
    run(
        fragile,
        """
        client = Client(address, timeout=30)
        begun = threading.Event()
        def wait():
            begun.set()
            client.open("0123456789abcdef0123456789abcdef." + "A" * 32)
        threading.Thread(target=wait, daemon=True).start()
        begun.wait()
        """,
        paused=True,
    )


def test_the_interpreter_ends_while_daemon_threads_are_busy(service):
    run(
        service,
        """
        client = Client(address)
        id = client.save(None, {}).id
        def use():
            while True:
                client.open(id)
        for _ in range(4):
            threading.Thread(target=use, daemon=True).start()
        for _ in range(20): client.open(id)
        """,
    )


def test_a_signal_ends_a_call_in_the_middle(fragile):
    run(
        fragile,
        """
        import signal
        client, ended = Client(address, timeout=30), threading.Event()
        class Enough(Exception): pass
        def handle(*_):
            # One of them comes while the call waits, and raises once.
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            raise Enough
        signal.signal(signal.SIGUSR1, handle)
        def disturb():
            while not ended.wait(0.05):
                os.kill(os.getpid(), signal.SIGUSR1)
        begun = time.monotonic()
        try:
            threading.Thread(target=disturb).start()
            client.open("0123456789abcdef0123456789abcdef." + "A" * 32)
        except Enough:
            assert time.monotonic() - begun < 20
        else:
            raise AssertionError("nobody answers")
        finally:
            ended.set()
        """,
        paused=True,
    )
