"""A caller that is not ours: Google's protobuf and gRPC for Python, and the schema as it is published.

Started by it/stranger.rs with the server's address and the folder of the schema. It reads one JSON object a line from
stdin, does what it says, and answers with one a line on stdout. A number travels as the hexadecimal digits of its
double, so that nobody rounds on the way: {"number": "bff0000000000000"}; an object as {"object": {...}}.
"""

import contextlib
import json
import struct
import sys
import tempfile
from pathlib import Path

import grpc
from grpc_tools import protoc
from google.protobuf import struct_pb2


def stubs(schema):
    """The messages and the stub, generated from the schema into a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(str(path.relative_to(schema)) for path in Path(schema).glob("sessiond/v1/*.proto"))
        known_types = str(Path(protoc.__file__).parent / "_proto")
        arguments = [f"-I{schema}", f"-I{known_types}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
        if protoc.main(["protoc", *arguments, *files]) != 0:
            sys.exit("protoc refuses the schema")
        sys.path.insert(0, folder)
        from sessiond.v1 import session_service_pb2, session_service_pb2_grpc

        return session_service_pb2, session_service_pb2_grpc


def spell(value):
    """A google.protobuf.Value as JSON that rounds nothing."""
    kind = value.WhichOneof("kind")
    if kind == "null_value":
        return None
    if kind == "number_value":
        return {"number": struct.pack(">d", value.number_value).hex()}
    if kind == "list_value":
        return [spell(item) for item in value.list_value.values]
    if kind == "struct_value":
        return spell_object(value.struct_value)
    if kind is None:
        raise ValueError("a value without a kind")
    return getattr(value, kind)


def spell_object(data):
    return {"object": {key: spell(value) for key, value in data.fields.items()}}


def fill(value, spelled):
    """Makes a google.protobuf.Value what the JSON says."""
    if spelled is None:
        value.null_value = struct_pb2.NULL_VALUE
    elif isinstance(spelled, bool):
        value.bool_value = spelled
    elif isinstance(spelled, str):
        value.string_value = spelled
    elif isinstance(spelled, list):
        value.list_value.SetInParent()
        for item in spelled:
            fill(value.list_value.values.add(), item)
    elif "number" in spelled:
        (value.number_value,) = struct.unpack(">d", bytes.fromhex(spelled["number"]))
    else:
        value.struct_value.SetInParent()
        fill_object(value.struct_value, spelled)


def fill_object(data, spelled):
    for key, value in spelled["object"].items():
        fill(data.fields[key], value)


class Stranger:
    def __init__(self, address, schema):
        self.messages, services = stubs(schema)
        self.stub = services.SessionServiceStub(grpc.insecure_channel(address))

    def told(self, session):
        return {"id": session.id, "etag": session.etag, "data": spell_object(session.data)}

    def open(self, order):
        answer = self.stub.Open(self.messages.OpenRequest(id=order["id"]))
        assert answer.session.HasField("data"), "Open always sets data"
        return self.told(answer.session)

    def save(self, order):
        how = {name: order[name] for name in ("changed_keys", "removed_keys", "replace_all") if name in order}
        request = self.messages.SaveRequest(**how)
        request.session.id, request.session.etag = order.get("id", ""), order.get("etag", "")
        if order["data"] is not None:
            request.session.data.SetInParent()
            fill_object(request.session.data, order["data"])
        return self.told(self.stub.Save(request).session)

    def reads_a_key_that_is_missing(self, order):
        """As an application would by mistake: reading raises, and leaves a value without a kind behind all the same."""
        session = self.stub.Open(self.messages.OpenRequest(id=order["id"])).session
        held = len(session.data.fields)
        if order["careful"]:
            assert "no such key" not in session.data
        else:
            with contextlib.suppress(ValueError):
                session.data["no such key"]
        inserted = len(session.data.fields) - held
        request = self.messages.SaveRequest(session=session, replace_all=True)
        return {"inserted": inserted, **self.told(self.stub.Save(request).session)}


def main():
    # Pipes may have been opened for another alphabet than the one that JSON travels in.
    sys.stdin.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    stranger = Stranger(*sys.argv[1:])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(stranger, order["do"])(order)
        except grpc.RpcError as error:
            answer = {"refused": error.code().name, "says": error.details()}
        print(json.dumps(answer), flush=True)


main()
