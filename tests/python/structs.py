"""Reads google.protobuf.Struct messages as Python's protobuf library (upb) does, for the differential test in it/readers.rs.

Standard input carries batches: the length of the batch in bytes (four bytes, big-endian), then its messages, each behind
its own length. Each batch is answered by one batch on standard output: for each message its canonical form, or "!" if the
library refuses the message. The canonical form is described in it/readers/forms.rs.
"""

import struct
import sys

from google.protobuf import struct_pb2
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError

LENGTH = struct.Struct(">I")
DOUBLE, BITS = struct.Struct(">d"), struct.Struct(">Q")


def text(content):
    encoded = content.encode()
    return b"s%d:%b" % (len(encoded), encoded)


def number(content):
    (bits,) = BITS.unpack(DOUBLE.pack(content))
    return b"d%x;" % bits


def items(message):
    return b"[%b]" % b"".join(value(item) for item in message.values)


def entries(message):
    # Strings sort by code points, and so do their UTF-8 bytes.
    fields = message.fields
    return b"{%b}" % b"".join(text(key) + value(fields[key]) for key in sorted(fields))


KINDS = {
    None: lambda message: b"?",
    "null_value": lambda message: b"n%d;" % message.null_value,
    "number_value": lambda message: number(message.number_value),
    "string_value": lambda message: text(message.string_value),
    "bool_value": lambda message: b"t" if message.bool_value else b"f",
    "struct_value": lambda message: entries(message.struct_value),
    "list_value": lambda message: items(message.list_value),
}


def value(message):
    return KINDS[message.WhichOneof("kind")](message)


def read(message):
    try:
        return items(struct_pb2.ListValue.FromString(message))
    except DecodeError:
        return b"!"


def answer(batch):
    at, answers = 0, []
    while at < len(batch):
        (length,) = LENGTH.unpack_from(batch, at)
        at += LENGTH.size + length
        form = read(batch[at - length : at])
        answers += LENGTH.pack(len(form)), form
    return b"".join(answers)


def main():
    assert api_implementation.Type() == "upb", "this test is about upb, which is another implementation than this one"
    while head := sys.stdin.buffer.read(LENGTH.size):
        forms = answer(sys.stdin.buffer.read(*LENGTH.unpack(head)))
        sys.stdout.buffer.write(LENGTH.pack(len(forms)) + forms)
        sys.stdout.buffer.flush()


main()
