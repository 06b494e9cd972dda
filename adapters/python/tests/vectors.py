"""The vectors that hold every language's library to the same behaviour."""

from __future__ import annotations

import json
from typing import Any

from processes import REPOSITORY


def vectors(file: str, part: str) -> list[dict[str, Any]]:
    """One list of them, which must hold some: a test of nothing passes."""
    cases = json.loads((REPOSITORY / "tests" / "vectors" / file).read_text("utf-8"))[part]
    assert cases
    return cases
