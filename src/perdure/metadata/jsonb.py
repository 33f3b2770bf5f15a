"""JSON and text as Postgres takes them: no NaN, no NUL."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def dumps(value: Any) -> str:
    """*value* as JSON. NaN and infinity become null, a NUL character U+FFFD: a job's odd figure must not stop the rows about it."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=str)
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False, default=str)
    return _NUL.sub(r"\1\\ufffd", text)


def plain(text: str) -> str:
    """*text* as a text column takes it."""
    return text.replace("\x00", "\ufffd")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
