"""The client whose calls block."""

from __future__ import annotations

import gc
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sessiond
from processes import free_port
from sessiond import Client, SessionId

#: One entry for each thread.
TASKS = Path("/proc/self/task")

FOREIGN = "0123456789abcdef0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


@pytest.fixture
def client(service):
    with Client(service.address) as client:
        yield client


# ---- the three calls ---------------------------------------------------------------------


def test_a_session_is_created_opened_and_destroyed(client):
    created = client.save(None, {"cart": ["tea"]})
    opened = client.open(created.id)
    assert opened.data == {"cart": ["tea"]}
    assert (opened.handle, opened.subject) == (created.handle, None)
    assert opened.idle_timeout == timedelta(days=1)
    assert opened.create_time < datetime.now(timezone.utc) + timedelta(minutes=1)
    assert opened.expire_time > datetime.now(timezone.utc) + timedelta(hours=23)
    client.destroy(opened)
    assert client.open(created.id) is None
    client.destroy(created.id)


def test_an_id_may_be_text(client):
    text = client.save(None, {"a": 1}).id.expose()
    assert client.open(text).data == {"a": 1}
    client.destroy(text)
    assert client.open(text) is None


@pytest.mark.parametrize("id", ["", "x", FOREIGN, FOREIGN.upper()])
def test_an_id_that_nobody_minted_opens_nothing(client, id):
    assert client.open(id) is None
    assert client.was_replaced(id) is False
    client.destroy(id)
    with pytest.raises(sessiond.SessionNotFound):
        client.save(id, {"a": 1}, changed_keys=["a"])


def test_what_differs_is_saved_and_nothing_else(client):
    created = client.save(None, {"a": 1, "b": 1, "c": {"d": [1]}})
    one, other = client.open(created.id), client.open(created.id)
    other.data.update(a=2, e=5)
    client.save(other)
    one.data["b"] = 2
    one.data["c"]["d"].append(2)
    saved = client.save(one)
    assert client.open(created.id).data == {"a": 2, "b": 2, "c": {"d": [1, 2]}, "e": 5}
    del saved.data["b"]
    client.save(saved)
    assert "b" not in client.open(created.id).data


def test_where_nothing_differs_nothing_is_asked_for(fragile):
    client = Client(fragile.address)
    session = client.save(None, {"a": 1, "f": 1.5, "g": 5.0})
    session = client.open(session.id)
    fragile.stop()
    assert client.save(session) is session
    assert session.data == {"a": 1, "f": 1.5, "g": 5.0}
    assert client.save(session) is session
    assert client.save(session, {"a": 1, "f": 1.5, "g": 5.0}) is session


def test_a_session_that_was_not_opened_needs_to_be_told_what_changes(client):
    id = client.save(None, {"a": 1}).id
    with pytest.raises(ValueError, match="changed_keys"):
        client.save(id, {"a": 2})
    client.save(id, {"b": 2}, replace=True)
    assert client.open(id).data == {"b": 2}


def test_the_whole_is_replaced_unless_another_writer_was_first(client):
    created = client.save(None, {"a": 1})
    one, other = client.open(created.id), client.open(created.id)
    client.save(other, {"b": 2}, replace=True)
    with pytest.raises(sessiond.SessionChanged) as changed:
        client.save(one, {"c": 3}, replace=True)
    assert changed.value.reason == "SESSION_CHANGED"
    with pytest.raises(sessiond.SessionChanged):
        client.destroy(one, unchanged=True)
    assert client.open(created.id).data == {"b": 2}
    client.destroy(client.open(created.id), unchanged=True)


def test_a_login_gives_a_new_id(client):
    anonymous = client.save(None, {"cart": ["tea"]})
    signed_in = client.save(anonymous, rotate=True, subject="ada")
    assert signed_in.subject == "ada"
    assert signed_in.id != anonymous.id
    assert client.open(anonymous.id) is None
    assert client.was_replaced(anonymous.id) is True
    assert client.open(signed_in.id).data == {"cart": ["tea"]}


@pytest.mark.parametrize("span", [3600, 3600.0, timedelta(hours=1)])
def test_the_idle_timeout_is_seconds_or_a_timedelta(client, span):
    assert client.save(None, {}, idle_timeout=span).idle_timeout == timedelta(hours=1)


def test_a_look_may_leave_the_life_as_it_is(client):
    id = client.save(None, {}, idle_timeout=2).id
    until = time.monotonic() + 30
    while client.open(id, renew=False) is not None:
        assert time.monotonic() < until
        time.sleep(0.05)


# ---- errors ------------------------------------------------------------------------------


def test_an_outage_is_no_missing_session():
    with pytest.raises(sessiond.Unavailable, match="refused") as outage:
        Client(f"127.0.0.1:{free_port()}").open(FOREIGN)
    assert outage.value.retry_after > 0
    assert outage.value.reason is None


def test_an_error_has_the_reason_that_the_service_gave(client):
    session = client.save(None, {"a": 1})
    with pytest.raises(sessiond.SessionTooLarge) as too_large:
        client.save(None, {"a": "x" * 100_000})
    assert (too_large.value.reason, too_large.value.limit_bytes) == ("SESSION_TOO_LARGE", 65536)
    with pytest.raises(sessiond.InvalidField) as invalid:
        client.save(session, subject="ada")
    assert invalid.value.reason == "INVALID_FIELD"
    client.destroy(session)
    with pytest.raises(sessiond.SessionNotFound) as gone:
        client.save(session, {"a": 2})
    assert gone.value.reason == "SESSION_NOT_FOUND"
    assert all(isinstance(error.value, sessiond.SessiondError) for error in (too_large, invalid, gone))


def test_nothing_prints_an_id(client):
    session = client.save(None, {"a": 1})
    secret = session.id.expose().split(".")[1]
    client.destroy(session)
    with pytest.raises(sessiond.SessionNotFound) as gone:
        client.save(session, {"a": 2})
    printed = [repr(session), str(session), repr(session.id), str(session.id), f"{session.id}", repr(gone.value)]
    assert not any(secret in text for text in printed)
    assert repr(session.id) == "SessionId(..)"
    assert session.handle in repr(session)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"address": "not an address"}, "is no address"),
        ({"timeout": 0}, "a deadline of 0"),
        ({"timeout": -1}, "a timeout cannot be -1"),
        ({"token": "ä"}, "visible ASCII"),
        ({"address": "sessions.example.com:50051", "token": "t"}, "can be read on the way"),
        ({"certificate_authority": b"x"}, "PEM"),
    ],
)
def test_what_can_be_no_client_is_refused_at_once(arguments, said):
    with pytest.raises(ValueError, match=said):
        Client(**arguments)


def test_what_is_no_session_is_refused(client):
    for wrong in [4711, b"x", None]:
        with pytest.raises(TypeError, match="say which session"):
            client.open(wrong)
    with pytest.raises(TypeError, match="unchanged=True"):
        client.destroy(FOREIGN, unchanged=True)


# ---- threads, connections ----------------------------------------------------------------


def test_threads_share_a_client(client):
    id = client.save(None, {"n": 0}).id
    failures = []

    def write(name):
        try:
            for round in range(50):
                session = client.open(id)
                session.data[name] = round
                client.save(session)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert client.open(id).data == {"n": 0, **{f"t{n}": 49 for n in range(8)}}


def test_other_threads_run_while_one_waits(fragile):
    client = Client(fragile.address, timeout=5)
    id = client.save(None, {}).id
    fragile.sessiond.pause()
    opened = []
    waiting = threading.Thread(target=lambda: opened.append(client.open(id)))
    waiting.start()
    # Without this thread's help it would wait in vain.
    fragile.sessiond.resume()
    waiting.join()
    assert len(opened) == 1


@pytest.mark.skipif(not TASKS.exists(), reason="the system does not show its threads in /proc")
def test_there_is_no_thread_behind_it(client):
    before = len(list(TASKS.iterdir()))
    client.open(client.save(None, {}).id)
    assert len(list(TASKS.iterdir())) == before


def test_a_server_that_was_restarted_between_two_calls_costs_no_error(fragile):
    client = Client(fragile.address)
    id = client.save(None, {"a": 1}).id
    for _ in range(5):
        fragile.stop()
        fragile.start()
        assert client.open(id).data == {"a": 1}


def test_a_closed_client_connects_anew(client):
    id = client.save(None, {"a": 1}).id
    client.close()
    client.close()
    assert client.open(id).data == {"a": 1}


def test_a_client_can_be_thrown_away(service):
    for _ in range(20):
        client = Client(service.address)
        client.open(FOREIGN)
        del client
    gc.collect()


def test_an_id_is_told_from_another():
    one, same = SessionId.parse(FOREIGN), SessionId.parse(FOREIGN)
    assert one == same
    assert one.handle == FOREIGN[:32]
    assert SessionId.parse("x") is None
