"""What goes wrong around an application: the service dies, a worker dies, a worker is forked after use, visitors alternate."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPException

import pytest
from servers import Gunicorn, eventually
from visitor import Visitor


def gunicorn(tmp_path, sessiond, *options, app="racing:app", workers=2):
    return Gunicorn(tmp_path, app, *options, workers=workers, SESSIOND_ADDRESS=sessiond.address, HOLD=str(tmp_path))


@contextmanager
def under_load(shop, user):
    """A few tabs of a visitor, each of which changes a key of its own again and again, in order, as fast as it is answered."""
    over = threading.Event()
    tabs = [Tab(shop.port, f"tab{number}", user) for number in range(4)]
    threads = [threading.Thread(target=tab.run, args=(over,)) for tab in tabs]
    for thread in threads:
        thread.start()
    try:
        yield tabs
    finally:
        over.set()
        for thread in threads:
            thread.join()


class Tab:
    def __init__(self, port, key, user):
        self.visitor, self.key = Visitor(port, user.cookies), key
        self.statuses = Counter()
        self.faults = []
        # The last change that was acknowledged, and the last that was sent.
        self.kept = self.sent = 0

    def run(self, over):
        while not over.is_set():
            self.sent += 1
            before = dict(self.visitor.cookies)
            try:
                answer = self.visitor.get(f"/set/{self.key}/{self.sent}")
            except (OSError, HTTPException) as error:
                # The process that had this request is gone, and the answer with it.
                self.statuses[type(error).__name__] += 1
                continue
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.kept = self.sent
            elif answer.cookies or not answer.headers["Retry-After"]:
                self.faults.append((answer.status, "a cookie" if answer.cookies else "no Retry-After"))
            if self.visitor.cookies != before:
                self.faults.append((answer.status, "the cookie is another one"))

    def kept_in(self, data):
        """Whether the session has what was acknowledged, or what was sent after that and not refused for sure."""
        return self.kept <= int(data.get(self.key, 0)) <= self.sent


def every_tab_is_told(tabs, status):
    """Waits until each has had this answer, and then again: at least one of the two was asked for after the call."""
    for tab in tabs:
        wanted = tab.statuses[status] + 2
        eventually(f"{tab.key} is told {status}", lambda tab=tab, wanted=wanted: tab.statuses[status] >= wanted)


def signed_in(shop, name="ada"):
    visitor = Visitor(shop.port)
    assert visitor.get(f"/sign-in/{name}").status == 200
    return visitor


def data_of(visitor):
    return json.loads(visitor.get("/all").text)


def test_a_killed_and_restarted_sessiond_costs_503s_and_no_cookie(own_sessiond, tmp_path, long):
    with gunicorn(tmp_path, own_sessiond, "--threads", "4") as shop:
        user = signed_in(shop)
        with under_load(shop, user) as tabs:
            for _ in range(long(2, 20)):
                own_sessiond.kill()
                every_tab_is_told(tabs, 503)
                own_sessiond.start_again()
                every_tab_is_told(tabs, 200)
        for tab in tabs:
            assert tab.faults == []
            assert set(tab.statuses) <= {200, 503}, tab.statuses
        data = data_of(user)
        assert data["user"] == "ada"
        assert all(tab.kept_in(data) for tab in tabs)


def test_while_sessiond_is_away_every_request_with_a_cookie_is_a_503_that_sets_none(own_sessiond, tmp_path):
    with gunicorn(tmp_path, own_sessiond) as shop:
        user = signed_in(shop)
        own_sessiond.kill()
        for path in ["/who", "/set/a/1", "/sign-out", "/sign-in/eve"]:
            answer = user.get(path)
            assert answer.status == 503
            assert answer.cookies == []
            assert int(answer.headers["Retry-After"]) >= 1
        own_sessiond.start_again()
        assert user.get("/who").text == "ada"


@pytest.mark.parametrize("options", [[], ["--threads", "4"]], ids=["sync", "threads"])
def test_two_users_who_alternate_in_one_worker_never_meet(options, sessiond, tmp_path, long):
    with gunicorn(tmp_path, sessiond, *options, workers=1) as shop:
        users = {name: signed_in(shop, name) for name in ("ada", "eve")}
        requests = long(1_000, 10_000)

        def ask(name, times):
            for number in range(times):
                answer = users[name].get(f"/set/mine/{name}" if number % 10 == 0 else "/who")
                wrong.extend([answer] if answer.text != name or answer.status != 200 else [])

        wrong = []
        # One after the other, as a proxy would send them over one connection…
        for _ in range(requests // 4):
            ask("ada", 1)
            ask("eve", 1)
        # …and both at once.
        threads = [threading.Thread(target=ask, args=(name, requests // 4)) for name in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert [data_of(user)["mine"] for user in users.values()] == ["ada", "eve"]


def test_workers_that_were_forked_after_use_have_connections_of_their_own(sessiond, tmp_path, long):
    with gunicorn(tmp_path, sessiond, "--threads", "4", "--preload", app="preloaded:app", workers=2) as shop:
        users = [signed_in(shop, f"user{number}") for number in range(4)]
        pids, wrong = set(), []

        def ask(user, name):
            for _ in range(long(100, 2_000)):
                answer = user.get("/pid")
                pid, _, who = answer.text.partition(" ")
                pids.add(int(pid))
                wrong.extend([answer] if who != name else [])

        threads = [threading.Thread(target=ask, args=(user, f"user{n}")) for n, user in enumerate(users)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert pids == set(shop.workers()), "both workers have answered"
        assert "used before the fork: True" in shop.said()


def test_a_worker_that_is_killed_takes_no_session_and_no_acknowledged_change_with_it(sessiond, tmp_path, long):
    with gunicorn(tmp_path, sessiond, "--threads", "4") as shop:
        user = signed_in(shop)
        with under_load(shop, user) as tabs:
            for _ in range(long(2, 20)):
                every_tab_is_told(tabs, 200)
                shop.kill_one_worker()
        for tab in tabs:
            assert tab.faults == []
            # A connection that breaks is the web server's to tell; what it answers is 200.
            assert {status for status in tab.statuses if isinstance(status, int)} == {200}, tab.statuses
        data = data_of(user)
        assert data["user"] == "ada"
        assert all(tab.kept_in(data) for tab in tabs)


def test_a_worker_that_is_asked_to_end_ends_at_once(sessiond, tmp_path):
    """Nothing of ours holds an interpreter that wants to exit: no thread, no call."""
    with gunicorn(tmp_path, sessiond, "--threads", "4", "--graceful-timeout", "20") as shop:
        signed_in(shop)
        begin = time.monotonic()
        shop.stop()
        assert time.monotonic() - begin < 10
        assert "Traceback" not in shop.said()
        assert shop.process.returncode == 0
