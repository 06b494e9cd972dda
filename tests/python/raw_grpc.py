"""Runs the Python of docs/raw-grpc.md, exactly as it stands there.

Started by it/raw_grpc.rs with the folder that holds the page's files and the stubs as the working directory, the
repository as the argument, and the address of a sessiond in the variable SESSIOND. It ends with an error if a check fails.
"""

import concurrent.futures
import json
import re
import sys
import uuid
from pathlib import Path

import grpc
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

sys.path.insert(0, "")
import repeat
import sessions
from sessiond.v1 import session_service_pb2_grpc
from sessiond.v1.session_service_pb2 import DestroyRequest, OpenRequest, OpenResponse, SaveRequest, SaveResponse, Session

REPOSITORY = Path(sys.argv[1])
PAGE = (REPOSITORY / "docs/raw-grpc.md").read_text(encoding="utf-8")


def rows(heading):
    """The cells of the first table below a heading, without the line of dashes."""
    below = PAGE.split(f"\n{heading}\n")[1]
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def data(session):
    return json_format.MessageToDict(session.data)


def opened(session):
    return sessions.stub.Open(OpenRequest(id=session.id)).session


def created():
    session = sessions.stub.Open(OpenRequest()).session
    session.data.update({"cart": ["tea"], "theme": "dark", "kept": 1})
    return sessions.save(session, changed_keys=["cart", "theme", "kept"])


def every_row_of_the_table_of_changes_does_what_it_says():
    results = {
        "store some keys, keep all others": {"cart": ["milk"], "theme": "light", "kept": 1},
        "remove keys": {"theme": "dark", "kept": 1},
        "both in one step": {"theme": "light", "kept": 1},
        "store the whole map, if nobody changed the session since": {"cart": ["milk"], "theme": "light", "kept": 2},
    }
    sent = 0
    for want, send in rows("## What you send with Save"):
        code = re.fullmatch("`(save.*)`", send)
        if not code:
            continue
        session = created()
        session.data.update({"cart": ["milk"], "theme": "light", "kept": 2})
        saved = eval(code[1], {"save": sessions.save, "session": session, "Duration": Duration})
        unchanged = {"cart": ["tea"], "theme": "dark", "kept": 1}
        assert data(saved) == results.pop(want, unchanged), (want, data(saved))
        assert data(opened(saved)) == data(saved), want
        assert (saved.id == session.id) == ("rotate" not in send), want
        sent += 1
    assert sent == 8 and not results, (sent, results)


def the_rules_below_the_table_hold():
    def refused(request):
        try:
            sessions.stub.Save(request)
        except grpc.RpcError as error:
            return error.code()
        raise AssertionError("it was not refused")

    invalid, aborted = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ABORTED
    session = created()
    session.data["cart"] = ["milk"]
    assert refused(SaveRequest(session=session)) is invalid
    assert refused(SaveRequest(session=session, rotate=True)) is invalid
    assert refused(SaveRequest(session=session, changed_keys=["no such key"])) is invalid
    no_etag = Session(id=session.id, data=session.data)
    assert refused(SaveRequest(session=no_etag, replace_all=True)) is invalid
    other = sessions.stub.Save(SaveRequest(session=no_etag, changed_keys=["cart"])).session
    assert other.etag != session.etag
    assert refused(SaveRequest(session=session, replace_all=True)) is aborted
    session.data["theme"] = "light"
    merged = sessions.save(session, changed_keys=["theme"])
    assert data(merged) == {"cart": ["milk"], "theme": "light", "kept": 1}, "a stale etag has no effect on a merge"
    no_etag.etag = "*"
    sessions.save(no_etag, replace_all=True)


def a_save_whose_answer_was_lost_is_applied_once():
    class LosesTheFirstAnswer:
        saves = 0

        def Save(self, request, timeout, metadata=()):
            session = sessions.stub.Save(request, timeout=timeout, metadata=metadata)
            self.saves += 1
            if self.saves == 1:
                raise Lost()
            assert dict(metadata) == {"grpc-previous-rpc-attempts": "1"}, "a repeat says that it is one"
            return session

    class Lost(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNKNOWN

        def trailing_metadata(self):
            return ()

    repeat.stub = LosesTheFirstAnswer()
    session = created()
    session.data["cart"] = ["milk"]
    request = SaveRequest(session=session, changed_keys=["cart"], rotate=True, request_id=str(uuid.uuid4()))
    saved = repeat.save_twice(request)
    assert repeat.stub.saves == 2
    now = opened(saved)
    assert (now.id, now.etag, data(now)) == (saved.id, saved.etag, data(saved))
    assert not opened(session).id, "the first id was replaced"


class Scripted(session_service_pb2_grpc.SessionServiceServicer):
    """A server that gives scripted errors, and keeps what it was sent."""

    def __init__(self):
        self.errors = []
        self.saves = []

    def Open(self, request, context):
        self.fail(context)
        return OpenResponse()

    def Save(self, request, context):
        metadata = dict(context.invocation_metadata())
        self.saves.append((request.request_id, metadata.get("grpc-previous-rpc-attempts")))
        self.fail(context)
        return SaveResponse()

    def fail(self, context):
        if self.errors:
            code, reason = self.errors.pop(0)
            if reason:
                context.set_trailing_metadata([("sessiond-reason", reason)])
            context.abort(code, "as the script says")


def scripted():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    script = Scripted()
    session_service_pb2_grpc.add_SessionServiceServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=list(sessions.OPTIONS.items()))
    return server, script, session_service_pb2_grpc.SessionServiceStub(channel)


def the_channel_repeats_a_save_with_its_request_id_and_says_so():
    server, script, stub = scripted()
    script.errors = [(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"), (grpc.StatusCode.UNAVAILABLE, None)]
    stub.Save(SaveRequest(request_id="the same"))
    assert script.saves == [("the same", None), ("the same", "1"), ("the same", "2")], script.saves
    server.stop(None)


def errors_without_a_reason_are_outages():
    server, script, stub = scripted()
    codes = grpc.StatusCode
    expected = [
        (codes.UNKNOWN, None, 503),
        (codes.ABORTED, None, 503),
        (codes.CANCELLED, None, 503),
        (codes.NOT_FOUND, None, 503),
        (codes.INTERNAL, None, 503),
        (codes.UNIMPLEMENTED, None, 500),
        (codes.NOT_FOUND, "SESSION_NOT_FOUND", 409),
        (codes.ABORTED, "SESSION_CHANGED", 409),
        (codes.DEADLINE_EXCEEDED, "DEADLINE", 503),
        (codes.RESOURCE_EXHAUSTED, "STORE_FULL", 503),
        (codes.INVALID_ARGUMENT, "INVALID_FIELD", 500),
        (codes.INTERNAL, "INTERNAL", 500),
    ]
    for code, reason, status in expected:
        script.errors = [(code, reason)]
        try:
            stub.Open(OpenRequest())
        except grpc.RpcError as error:
            assert sessions.status_for(error) == status, (code, reason)
        else:
            raise AssertionError((code, reason))
    server.stop(None)


def every_tag_of_the_page_is_one_of_the_vectors():
    vectors = json.loads((REPOSITORY / "tests/vectors/values.json").read_text(encoding="utf-8"))
    wires = [vector["wire"] for vector in vectors["values"]]
    table = rows("## Values")
    for tag, _, example in table:
        example = json.loads(example.strip("`"))
        assert example in wires, example
        assert list(example) == [json.loads(tag.strip("`"))], tag
    tags = {name for wire in wires if isinstance(wire, dict) and len(wire) == 1 for name in wire if name.startswith(" ")}
    assert {json.loads(tag.strip("`")) for tag, _, _ in table} == tags, tags


def a_destroyed_session_is_gone():
    session = created()
    sessions.stub.Destroy(DestroyRequest(id=session.id))
    assert not opened(session).id


checks = [
    every_row_of_the_table_of_changes_does_what_it_says,
    the_rules_below_the_table_hold,
    a_save_whose_answer_was_lost_is_applied_once,
    the_channel_repeats_a_save_with_its_request_id_and_says_so,
    errors_without_a_reason_are_outages,
    every_tag_of_the_page_is_one_of_the_vectors,
    a_destroyed_session_is_gone,
]
for check in checks:
    check()
    print(f"ok: {check.__name__}", flush=True)
