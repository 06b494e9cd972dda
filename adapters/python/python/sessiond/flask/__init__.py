"""Flask's sessions, kept by sessiond.

    from flask import Flask, session
    from sessiond.flask import SessiondInterface

    app = Flask(__name__)
    app.session_interface = SessiondInterface("127.0.0.1:50051")

``session`` is then used as always. See :class:`SessiondInterface` for what can be set, and :class:`SessiondSession` for what a
session can do beyond Flask's.
"""

from ._failures import SessionConflict, SessionReadOnly, SessionUnavailable
from ._interface import SessiondInterface
from ._session import SessiondSession

__all__ = ["SessionConflict", "SessionReadOnly", "SessionUnavailable", "SessiondInterface", "SessiondSession"]
