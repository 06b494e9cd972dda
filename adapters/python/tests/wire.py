"""The service as somebody with raw stubs sees it: Google's protobuf and gRPC, and the contract's own descriptors."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from processes import REPOSITORY

_DESCRIPTORS = REPOSITORY / "proto" / "src" / "generated" / "sessiond_v1.bin"


class Wire:
    """Raw sessions: ids and data, whose values are as JSON has them."""

    def __init__(self, address: str) -> None:
        pool = descriptor_pool.DescriptorPool()
        files = descriptor_pb2.FileDescriptorSet.FromString(_DESCRIPTORS.read_bytes())
        for file in files.file:
            pool.Add(file)
        names = ["OpenRequest", "OpenResponse", "SaveRequest", "SaveResponse"]
        found = {name: pool.FindMessageTypeByName(f"sessiond.v1.{name}") for name in names}
        self._types: dict[str, Any] = {name: message_factory.GetMessageClass(found[name]) for name in names}
        self._channel = grpc.insecure_channel(address)

    def _call(self, rpc: str, request: Any) -> Any:
        call = self._channel.unary_unary(
            f"/sessiond.v1.SessionService/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._types[f"{rpc}Response"].FromString,
        )
        return call(request, timeout=10)

    def data(self, id: str) -> Any:
        """What is stored, as a `google.protobuf.Struct` has it."""
        session = self._call("Open", self._types["OpenRequest"](id=id)).session
        return {name: plain(value) for name, value in session.data.fields.items()}

    def create(self, data: dict[str, Any]) -> str:
        """A session with this data; its id."""
        request = self._types["SaveRequest"]()
        request.session.data.SetInParent()
        for name, value in data.items():
            # By its bytes: this pool's Struct is another class than the library's.
            encoded = struct_value(value).SerializeToString()
            request.session.data.fields[name].MergeFromString(encoded)
        return self._call("Save", request).session.id

    def close(self) -> None:
        self._channel.close()


def struct_value(value: Any) -> struct_pb2.Value:
    made = struct_pb2.Value()
    if value is None:
        made.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, (int, float)):
        made.number_value = float(value)
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, list):
        made.list_value.SetInParent()
        made.list_value.values.extend(struct_value(item) for item in value)
    else:
        made.struct_value.SetInParent()
        for name, item in value.items():
            made.struct_value.fields[name].CopyFrom(struct_value(item))
    return made


def plain(value: Any) -> Any:
    """JSON's value, with each number as the double's own spelling, so that -0.0 is not 0."""
    kind = value.WhichOneof("kind")
    if kind == "null_value":
        return None
    if kind == "number_value":
        return number(value.number_value)
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {name: plain(item) for name, item in value.struct_value.fields.items()}
    return getattr(value, kind)


def number(value: float) -> Any:
    return ("number", float(value).hex())


def as_doubles(value: Any) -> Any:
    """JSON as it was read, in the words of :func:`plain`."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, list):
        return [as_doubles(item) for item in value]
    return {name: as_doubles(item) for name, item in value.items()}
