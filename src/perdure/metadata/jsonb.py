"""JSON as jsonb takes it: no NaN, no NUL."""

from __future__ import annotations

import json
import re
from typing import Any

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def dumps(value: Any) -> str:
    r"""*value* as JSON. A NUL character, which jsonb refuses, becomes U+FFFD. Raises ValueError for NaN and infinity."""
    return _NUL.sub(r"\1\\ufffd", json.dumps(value, separators=(",", ":"), allow_nan=False, default=str))


def plain(text: str) -> str:
    """*text* as a text column takes it: without NUL."""
    return text.replace("\x00", "�")
