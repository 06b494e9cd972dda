"""The client for asyncio: a future of the running loop for each call, which a thread of the extension module drives."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import weakref
from datetime import timedelta
from typing import Any, Callable, Optional, Union

from ._sessiond import Call, Caller, Session, SessionId

#: All that may have a thread.
_clients: weakref.WeakSet[AsyncClient] = weakref.WeakSet()


@atexit.register
def _end_threads() -> None:
    """Before the interpreter ends: a thread must not come to deliver an answer to one that is half taken down."""
    for client in list(_clients):
        client._caller.close()


class AsyncClient:
    """A client of sessiond for asyncio: cheap calls, any number at once, in any loop of any thread.

    Nothing connects until the first call. A call that is cancelled is given up; what it asked for may have been done, or may
    still be. See :class:`Client` for what the calls do.
    """

    def __init__(
        self,
        address: Optional[str] = None,
        *,
        timeout: Optional[float] = None,
        token: Optional[str] = None,
        allow_plaintext_token: bool = False,
        certificate_authority: Optional[bytes] = None,
    ) -> None:
        self._caller = Caller(
            address,
            timeout=timeout,
            token=token,
            allow_plaintext_token=allow_plaintext_token,
            certificate_authority=certificate_authority,
        )
        _clients.add(self)

    async def open(self, id: Union[SessionId, str], *, renew: bool = True) -> Optional[Session]:
        """The session with this id; ``None`` if it opens nothing (any more)."""
        opened: Optional[Session] = await _answer(lambda done: self._caller.open(done, id, renew))
        return opened

    async def save(
        self,
        session: Union[Session, SessionId, str, None] = None,
        data: Optional[dict[str, Any]] = None,
        *,
        changed_keys: Optional[list[str]] = None,
        removed_keys: Optional[list[str]] = None,
        replace: bool = False,
        rotate: bool = False,
        subject: Optional[str] = None,
        idle_timeout: Union[timedelta, float, None] = None,
        lifetime: Union[timedelta, float, None] = None,
    ) -> Session:
        """Creates a session or changes one, and returns it as it is stored now. See :meth:`Client.save`."""
        asked = session, data, changed_keys, removed_keys, replace, rotate, subject, idle_timeout, lifetime
        saved: Session = await _answer(lambda done: self._caller.save(done, *asked))
        return saved

    async def destroy(self, session: Union[Session, SessionId, str], *, unchanged: bool = False) -> None:
        """Ends a session."""
        await _answer(lambda done: self._caller.destroy(done, session, unchanged))

    async def was_replaced(self, id: Union[SessionId, str]) -> bool:
        """Whether this id, which opens nothing, was replaced by a new one within the last minute."""
        replaced: bool = await _answer(lambda done: self._caller.was_replaced(done, id))
        return replaced

    async def aclose(self) -> None:
        """Ends the connections and the thread. A later call makes new ones."""
        self._caller.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _answer(begin: Callable[[Callable[[Any, Optional[BaseException]], None]], Call]) -> Any:
    """Begins a call and waits for what comes of it; gives it up when whoever waits is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(answer: Any, error: Optional[BaseException]) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    def done(answer: Any, error: Optional[BaseException]) -> None:
        # If the loop was closed meanwhile, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, answer, error)

    call = begin(done)
    try:
        return await future
    finally:
        # After its end it does nothing.
        call.cancel()
