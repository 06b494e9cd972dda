"""Requests of one visitor at the same moment, in gunicorn with two processes of four threads: what P1 and P2 promise.

The pasted snippet goes through the same tests and must lose, so that they are known to be sharp.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import Gunicorn, eventually
from visitor import Visitor

TABS = 8


@pytest.fixture(params=["sessiond", "snippet"])
def sessions(request):
    return request.param


@pytest.fixture
def shop(sessions, sessiond, redis, tmp_path):
    """The application with these sessions."""
    options = {"SESSIONS": sessions, "SESSIOND_ADDRESS": sessiond.address, "REDIS_URL": redis.url, "HOLD": str(tmp_path)}
    with Gunicorn(tmp_path, "racing:app", "--threads", "4", workers=2, **options) as gunicorn:
        yield gunicorn


def test_concurrent_requests_that_change_different_keys_lose_nothing(shop, sessions, long):
    rounds = long(40, 1000)
    visitor = Visitor(shop.port)
    visitor.get("/sign-in/ada")
    together = threading.Barrier(TABS)

    def change(tab, number):
        together.wait(30)
        return visitor.get(f"/set/tab{tab}/{number}").status

    lost = 0
    with ThreadPoolExecutor(TABS) as tabs:
        for number in range(rounds):
            # All were acknowledged, so all must be there.
            assert set(tabs.map(change, range(TABS), [number] * TABS)) == {200}
            kept = visitor.get("/all").text
            lost += sum(f'"tab{tab}":"{number}"' not in kept for tab in range(TABS))
    print(f"{sessions}: {rounds * TABS} changes, {lost} lost")
    assert (lost == 0) if sessions == "sessiond" else (lost > 0)


def test_a_slow_request_does_not_sign_in_again_who_has_signed_out_meanwhile(shop, sessions, long, tmp_path):
    rounds = long(10, 200)
    revived = 0
    for number in range(rounds):
        visitor = Visitor(shop.port)
        visitor.get("/sign-in/ada")
        name = f"round{number}"
        with ThreadPoolExecutor(1) as other:
            slow_tab, old = visitor.tab(), visitor.tab()
            slow = other.submit(slow_tab.get, f"/slow/{name}")
            eventually("the slow request has read the session", (tmp_path / f"{name}.entered").exists)
            assert visitor.get("/sign-out").status == 200
            (tmp_path / f"{name}.go").touch()
            slow.result(30)
        # With the cookie from before, and with whatever the slow answer has set.
        revived += "ada" in (old.get("/who").text, slow_tab.get("/who").text, visitor.get("/who").text)
    print(f"{sessions}: {rounds} sessions signed out, {revived} signed in again")
    assert (revived == 0) if sessions == "sessiond" else (revived == rounds)
