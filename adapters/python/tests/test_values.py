"""`tests/vectors/values.json`: what is written for Python's objects, and what is read, seen by a reader that is not ours."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from enum import Enum, IntEnum
from uuid import UUID

import pytest
from markupsafe import Markup
from sessiond import Client, UnsupportedValue
from vectors import vectors
from wire import Wire, as_doubles


@pytest.fixture(scope="module")
def client(service):
    with Client(service.address) as client:
        yield client


@pytest.fixture(scope="module")
def wire(service):
    wire = Wire(service.address)
    yield wire
    wire.close()


def told(case):
    """The object that `kind` and `value` tell."""
    value = case.get("value")
    kinds = {
        "null": lambda: None,
        "bool": lambda: value,
        "integer": lambda: int(value),
        "float": lambda: float(value),
        "string": lambda: value,
        "list": lambda: [told(item) for item in value],
        "tuple": lambda: tuple(told(item) for item in value),
        "map": lambda: {name: told(item) for name, item in value.items()},
        "bytes": lambda: bytes.fromhex(value),
        "markup": lambda: Markup(value),
        "uuid": lambda: UUID(value),
        "datetime": lambda: moment(value),
    }
    return kinds[case["kind"]]()


def moment(text):
    """`datetime.fromisoformat`, which before Python 3.11 reads less."""
    text = text.replace("Z", "+00:00")
    whole, dot, rest = text.partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{whole}.{rest[:digits]:0<6}{rest[digits:]}"
    return datetime.fromisoformat(text)


def same(a, b):
    """Equal, type for type, with the sign of zero."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return math.isnan(a) and math.isnan(b) or a.hex() == b.hex()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, datetime):
        return a == b and a.utcoffset() == b.utcoffset()
    return a == b


@pytest.mark.parametrize("case", vectors("values.json", "values"), ids=lambda case: case["name"])
def test_every_value_is_written_and_read_as_in_every_language(client, wire, case):
    value = told(case)
    ours = client.save(None, {"k": value}).id
    written = wire.data(ours.expose())["k"]
    if case["kind"] == "datetime" and isinstance(case["wire"], dict) and written != as_doubles(case["wire"]):
        # The same moment in the one way in which Python spells it.
        assert same(moment(written[" d"]), value)
    else:
        assert written == as_doubles(case["wire"])
    assert same(client.open(ours).data["k"], value)
    assert same(client.open(wire.create({"k": case["wire"]})).data["k"], value)


@pytest.mark.parametrize("case", vectors("values.json", "read_only"), ids=lambda case: case["name"])
def test_what_only_raw_callers_write_is_read_as_in_every_language(client, wire, case):
    session = client.open(wire.create({"k": case["wire"]}))
    assert same(session.data["k"], told(case))
    # What was read lasts.
    again = client.save(None, session.data).id
    assert same(client.open(again).data["k"], told(case))


@pytest.mark.parametrize("case", vectors("values.json", "data"), ids=lambda case: case["name"])
def test_the_sessions_own_names_are_no_tags(client, wire, case):
    data = {name: told(value) for name, value in case["value"].items()}
    id = client.save(None, data).id
    assert wire.data(id.expose()) == as_doubles(case["wire"])
    assert same(client.open(id).data, data)


def test_an_integer_of_too_many_digits_is_refused(client):
    longest = 10**4299
    assert client.open(client.save(None, {"k": longest}).id).data["k"] == longest
    for too_long in [10**4300, -(10**4300)]:
        with pytest.raises(UnsupportedValue, match="more than 4300 digits"):
            client.save(None, {"k": too_long})


class Colour(str, Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 3
    HUGE = 2**70


class Words(list):
    pass


class Html:
    def __html__(self):
        return "<b>tea</b>"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (Colour.RED, "red"),
        (Size.BIG, 3),
        (Size.HUGE, 2**70),
        (Words([1]), [1]),
        (Html(), Markup("<b>tea</b>")),
        (datetime(2026, 5, 1, tzinfo=timezone.utc), datetime(2026, 5, 1, tzinfo=timezone.utc)),
    ],
)
def test_a_subclass_is_kept_as_what_it_is_below(client, given, kept):
    assert same(client.open(client.save(None, {"k": given}).id).data["k"], kept)


LOOP: list = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"k": {1, 2}}, r'session\["k"\]: a session keeps .*, and no set: make it one of these'),
        ({"k": [0, {"a": date(2026, 5, 1)}]}, r'session\["k"\]\[1\]\["a"\]: a session keeps .* and no date'),
        ({"k": timedelta(1)}, "no timedelta"),
        ({"k": object}, "no type"),
        ({"k": {1: 2}}, r'session\["k"\]: a key must be a str, and not int'),
        ({1: 2}, "session: a key must be a str, and not int"),
        ({"k": LOOP}, "holds itself"),
        ({"k": "\ud800"}, "half a surrogate pair"),
        ({"k": bytearray(b"x")}, "no bytearray"),
        ({"k": 1j}, "no complex"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(client, given, said):
    with pytest.raises(UnsupportedValue, match=said) as refused:
        client.save(None, given)
    assert isinstance(refused.value, TypeError)


def test_what_python_raises_on_the_way_is_raised(client):
    class Broken:
        def __html__(self):
            raise LookupError("no such template")

    with pytest.raises(LookupError, match="no such template"):
        client.save(None, {"k": Broken()})
