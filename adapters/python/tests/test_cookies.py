"""`tests/vectors/cookies.json`, through Flask's response and request."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest
from flask import Flask
from sessiond import SessionId
from sessiond._sessiond import CookieReader, check_cookie
from sessiond.flask import SessiondInterface
from sessiond.flask._session import SessiondSession
from vectors import vectors

# A cookie's size is the vectors' own business.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' cookie is too large")

#: Werkzeug writes what is odd in a path as %XX, which browsers compare otherwise: it is Werkzeug's path that counts.
REWRITTEN = {"odd path"}


def text(told):
    """A TEXT, as its bytes: a string, or pieces in a row."""
    if isinstance(told, str):
        return told.encode()
    return b"".join(piece(part) for part in told)


def piece(part):
    if isinstance(part, str):
        return part.encode()
    return bytes.fromhex(part["hex"]) if "hex" in part else part["repeat"].encode() * part["times"]


def settings(told):
    known = {"name": "__Host-id", "domain": None, "path": "/", "same_site": "Lax", "secure": True, "partitioned": False}
    told = {key: text(value).decode() if key in ("name", "domain", "path") else value for key, value in told.items()}
    return {**known, **told}


def parts(header):
    """The pair, and the attributes, which may come in any order."""
    pair, *attributes = header.split("; ")
    assert len(set(attributes)) == len(attributes)
    return pair, set(attributes)


def app_with(told):
    known = settings(told)
    app = Flask(__name__)
    app.config.update(
        {f"SESSION_COOKIE_{key.replace('_', '').upper()}": value for key, value in known.items() if key != "max_age"}
    )
    session = SessiondSession()
    if "max_age" in known:
        app.permanent_session_lifetime = timedelta(seconds=known["max_age"])
        session.permanent = True
    return app, session


@pytest.mark.parametrize("case", vectors("cookies.json", "policies"), ids=lambda case: case["name"])
def test_flasks_settings_write_exactly_this_cookie_and_exactly_this_removal(case):
    if case["name"] in REWRITTEN:
        pytest.skip("Werkzeug writes this path as %XX")
    app, session = app_with(case["settings"])
    interface = SessiondInterface()

    response = app.response_class()
    interface._set_cookie(app, session, response, SessionId.parse(case["id"]))
    pair, attributes = parts(response.headers["Set-Cookie"])
    expected_pair, expected = parts(text(case["set"]).decode())
    if "max_age" in case["settings"]:
        # Flask tells the same as a moment.
        expires = next(attribute for attribute in attributes if attribute.startswith("Expires="))
        attributes.remove(expires)
        expected.remove(f"Max-Age={case['settings']['max_age']}")
        moment = datetime.now(timezone.utc) + app.permanent_session_lifetime
        assert abs(parsedate_to_datetime(expires.partition("=")[2]) - moment) < timedelta(seconds=60)
    assert (pair, attributes) == (expected_pair, expected)
    name = settings(case["settings"])["name"]
    assert CookieReader(name).read(pair).expose() == case["id"]

    removal = app.response_class()
    interface._remove_cookie(app, removal)
    assert parts(removal.headers["Set-Cookie"]) == parts(text(case["remove"]).decode())


#: By reason, what is said of nothing else.
SAID = {
    "name": "a cookie cannot be named",
    "name-too-long": "a cookie's name of .* is too long",
    "prefix-spelling": "begins like .* in other letters",
    "prefix-needs-secure": "in a cookie's name needs Secure",
    "prefix-needs-root-path": "in a cookie's name needs the path /",
    "prefix-forbids-domain": "in a cookie's name forbids a domain",
    "same-site-none-needs-secure": "SameSite=None needs Secure",
    "partitioned-needs-secure": "Partitioned needs Secure",
    "domain": "a cookie's domain cannot be",
    "path": "a cookie's path cannot be",
    "path-too-long": "a cookie's path of .* is too long",
}


@pytest.mark.parametrize("case", vectors("cookies.json", "refused"), ids=lambda case: case["about"])
def test_what_browsers_would_not_keep_is_refused(case):
    known = settings(case["settings"])
    if known.pop("max_age", None) is not None:
        pytest.skip("Flask tells a moment (Expires), and browsers cut it to 400 days")
    with pytest.raises(ValueError, match=SAID[case["reason"]]):
        check_cookie(**known)


@pytest.mark.parametrize("case", vectors("cookies.json", "reads"), ids=lambda case: case["about"])
def test_a_request_reads_as_one_session_or_none(case):
    policy = next(one for one in vectors("cookies.json", "policies") if one["name"] == case["policy"])
    # As WSGI servers have it: joined, and each byte a character.
    header = b"; ".join(text(field) for field in case["cookie"]).decode("latin-1")
    read = CookieReader(settings(policy["settings"])["name"]).read(header if case["cookie"] else None)
    assert ({"id": read.expose()} if isinstance(read, SessionId) else read) == case["read"]
