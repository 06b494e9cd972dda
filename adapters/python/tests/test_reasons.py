"""Which exception each status becomes: by the reason that sessiond gives, in its details or in the trailer, and without one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import sessiond
from sessiond import AsyncClient, Client

REASONS = {
    "SESSION_NOT_FOUND": (grpc.StatusCode.NOT_FOUND, sessiond.SessionNotFound),
    "SESSION_CHANGED": (grpc.StatusCode.ABORTED, sessiond.SessionChanged),
    "OUTCOME_UNKNOWN": (grpc.StatusCode.ABORTED, sessiond.OutcomeUnknown),
    "INVALID_FIELD": (grpc.StatusCode.INVALID_ARGUMENT, sessiond.InvalidField),
    "SESSION_TOO_LARGE": (grpc.StatusCode.INVALID_ARGUMENT, sessiond.SessionTooLarge),
    "STORE_FULL": (grpc.StatusCode.RESOURCE_EXHAUSTED, sessiond.StoreFull),
    "STORE_UNAVAILABLE": (grpc.StatusCode.UNAVAILABLE, sessiond.Unavailable),
    "OVERLOADED": (grpc.StatusCode.UNAVAILABLE, sessiond.Unavailable),
    "DEADLINE": (grpc.StatusCode.DEADLINE_EXCEEDED, sessiond.Unavailable),
    "CALLER_UNKNOWN": (grpc.StatusCode.UNAUTHENTICATED, sessiond.CallerRefused),
    "CALLER_NOT_ALLOWED": (grpc.StatusCode.PERMISSION_DENIED, sessiond.CallerRefused),
    "INTERNAL": (grpc.StatusCode.INTERNAL, sessiond.InternalError),
}

ERRORS = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


def field(number, content):
    """A field of bytes, or of a small number, as protobuf encodes it."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def details(code, reason, domain):
    """A google.rpc.Status with one google.rpc.ErrorInfo."""
    info = field(1, reason.encode()) + field(2, domain.encode())
    packed = field(1, b"type.googleapis.com/google.rpc.ErrorInfo") + field(2, info)
    return "grpc-status-details-bin", field(1, code.value[0]) + field(2, b"in words") + field(3, packed)


class Scripted(grpc.GenericRpcHandler):
    """A service that refuses every call with the same status."""

    def __init__(self, code, *trailers):
        self.code, self.trailers, self.calls = code, trailers, 0

    def service(self, _):
        def refuse(_, context):
            self.calls += 1
            context.set_trailing_metadata(self.trailers)
            context.abort(self.code, "in words")

        return grpc.unary_unary_rpc_method_handler(refuse)

    def __enter__(self):
        self.server = grpc.server(ThreadPoolExecutor(2), handlers=[self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()


def save(address):
    with Client(address, timeout=20) as client:
        return client.save(None, {"a": 1})


def save_later(address):
    async def call():
        async with AsyncClient(address, timeout=20) as client:
            return await client.save(None, {"a": 1})

    return asyncio.run(call())


@pytest.mark.parametrize("call", [save, save_later])
@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_in_the_details_or_only_in_the_trailer_is_the_same_error(reason, call):
    code, expected = REASONS[reason]
    trailer = ("sessiond-reason", reason)
    for trailers in [
        [details(code, reason, "sessiond"), trailer],
        [details(code, reason, "sessiond")],
        [trailer],
        # A proxy's own details hide nothing.
        [details(code, "THEIRS", "example.com"), trailer],
    ]:
        with Scripted(code, *trailers) as server, pytest.raises(sessiond.SessiondError) as error:
            call(server.address)
        assert (type(error.value), error.value.reason) == (expected, reason)


@pytest.mark.parametrize("call", [save, save_later])
@pytest.mark.parametrize("code", ERRORS, ids=lambda code: code.name)
def test_an_error_without_sessionds_reason_is_an_outage(code, call):
    # A killed server or a broken connection shows as one of these.
    is_repeated = code.name in {"CANCELLED", "UNKNOWN", "ABORTED", "INTERNAL", "UNAVAILABLE"}
    for trailers in [[], [details(code, "SESSION_NOT_FOUND", "example.com")]]:
        with Scripted(code, *trailers) as server, pytest.raises(sessiond.SessiondError) as error:
            call(server.address)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            assert type(error.value) is sessiond.InternalError
            assert "not sessiond, or an older version" in str(error.value)
        else:
            assert type(error.value) is sessiond.Unavailable
        assert error.value.reason is None
        assert "in words" in str(error.value)
        assert server.calls == (3 if is_repeated else 1)
