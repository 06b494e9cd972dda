"""The client for asyncio."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
import sessiond
from processes import free_port
from sessiond import AsyncClient

FOREIGN = "0123456789abcdef0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


def test_a_sessions_life(service):
    async def life():
        async with AsyncClient(service.address) as client:
            created = await client.save(None, {"cart": ["tea"]})
            opened = await client.open(created.id)
            assert opened.data == {"cart": ["tea"]}
            opened.data["cart"].append("milk")
            saved = await client.save(opened)
            assert await client.save(saved) is saved
            signed_in = await client.save(saved, rotate=True, subject="ada")
            assert await client.open(created.id) is None
            assert await client.was_replaced(created.id)
            await client.destroy(await client.open(signed_in.id), unchanged=True)
            assert await client.open(signed_in.id.expose(), renew=False) is None
            await client.destroy(FOREIGN)

    asyncio.run(life())


def test_calls_go_on_at_once(service):
    async def many():
        client = AsyncClient(service.address, timeout=10)
        id = (await client.save(None, {})).id

        async def write(n):
            session = await client.open(id)
            session.data[f"k{n}"] = n
            await client.save(session)

        # The service tells the repeats of 64 writers of one session from each other, and of no more.
        await asyncio.gather(*(write(n) for n in range(50)))
        assert (await client.open(id)).data == {f"k{n}": n for n in range(50)}

    asyncio.run(many())


def test_errors_are_those_of_the_other_client(service):
    async def errors():
        client = AsyncClient(service.address)
        session = await client.save(None, {"a": 1})
        await client.destroy(session)
        with pytest.raises(sessiond.SessionNotFound):
            await client.save(session, {"a": 2})
        with pytest.raises(sessiond.UnsupportedValue):
            await client.save(None, {"a": object()})
        with pytest.raises(sessiond.Unavailable):
            await AsyncClient(f"127.0.0.1:{free_port()}").open(FOREIGN)

    asyncio.run(errors())


def test_the_loop_goes_on_while_a_call_waits(fragile):
    async def waiting():
        client = AsyncClient(fragile.address, timeout=30)
        id = (await client.save(None, {"a": 1})).id
        fragile.sessiond.pause()
        call = asyncio.ensure_future(client.open(id))
        await asyncio.sleep(0)
        assert not call.done()
        fragile.sessiond.resume()
        assert (await call).data == {"a": 1}

    asyncio.run(waiting())


def test_a_cancelled_call_is_given_up(fragile):
    async def cancelled():
        client = AsyncClient(fragile.address, timeout=30)
        id = (await client.save(None, {"a": 1})).id
        fragile.sessiond.pause()
        call = asyncio.ensure_future(client.open(id))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.open(id), 0.01)
        fragile.sessiond.resume()
        assert (await client.open(id)).data == {"a": 1}

    asyncio.run(cancelled())


def test_calls_are_cancelled_at_every_moment(service):
    async def every_moment():
        client = AsyncClient(service.address)
        id = (await client.save(None, {"a": 1})).id
        for n in range(200):
            call = asyncio.ensure_future(client.open(id))
            await asyncio.sleep(n * 5e-6)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert (await client.open(id)).data == {"a": 1}

    asyncio.run(every_moment())


def test_a_loop_that_is_closed_in_the_middle_of_a_call_harms_nobody(fragile):
    client = AsyncClient(fragile.address, timeout=30)
    id = asyncio.run(client.save(None, {"a": 1})).id
    fragile.sessiond.pause()
    loop = asyncio.new_event_loop()

    async def begin():
        call = asyncio.ensure_future(client.open(id))
        await asyncio.sleep(0)
        return call

    call = loop.run_until_complete(begin())
    call._log_destroy_pending = False
    loop.close()
    fragile.sessiond.resume()
    assert asyncio.run(client.open(id)).data == {"a": 1}
    del call
    gc.collect()


def test_loops_in_several_threads_share_a_client(service):
    client = AsyncClient(service.address, timeout=10)
    id = asyncio.run(client.save(None, {"a": 1})).id
    seen = []

    async def look():
        for _ in range(20):
            seen.append((await client.open(id)).data)

    threads = [threading.Thread(target=lambda: asyncio.run(look())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{"a": 1}] * 80


def test_a_closed_client_connects_anew(service):
    client = AsyncClient(service.address)
    id = asyncio.run(client.save(None, {"a": 1})).id
    asyncio.run(client.aclose())
    assert asyncio.run(client.open(id)).data == {"a": 1}
