"""The name of a prediction: which model and version made it, and when, can be read off it.

``{model}.{version}.{request}``; the request is a UUID of version 7 in hex (RFC 9562), so names sort by time and their day needs no index.
Versions that score one request beside each other (a shadow) share its request: one outcome is the truth for all of them.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from perdure.errors import InvalidInput

_FORM = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})\.([1-9][0-9]{0,8})\.([0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15})")
REQUEST = 32
"""Characters at the end of a prediction's id that name its request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a prediction's id says. ``at`` is exact to the millisecond."""

    id: str
    model: str
    version: int
    request: str
    at: datetime


def new_request(now: float | None = None) -> str:
    """The name of a request, made at *now* (seconds since 1970)."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    chance = int.from_bytes(os.urandom(10))
    number = milliseconds << 80 | 7 << 76 | (chance >> 68 & 0xFFF) << 64 | 2 << 62 | chance & (1 << 62) - 1
    return f"{number:032x}"


def first_request(at: datetime) -> str:
    """What the names of all requests since *at* sort behind, and those of before do not."""
    return f"{int(at.timestamp() * 1000):012x}" + "0" * (REQUEST - 12)


def prediction_id(model: str, version: int, request: str) -> str:
    """The id of what *version* of *model* said to a row; each row of a call is a request of its own."""
    return f"{model}.{version}.{request}"


def parse(id: str) -> Prediction:
    """What the id says. Raises InvalidInput where it is none."""
    match = _FORM.fullmatch(id)
    seconds = int(match[3][:12], 16) / 1000 if match else 0.0
    if match is None or seconds > 253_402_300_799:  # the year 9999
        raise InvalidInput(
            f"{id[:120]!r} is no prediction's id",
            field="prediction_id",
            remedy="send the `id` that came with the prediction: model.version and 32 hexadecimal digits",
        )
    return Prediction(id=id, model=match[1], version=int(match[2]), request=match[3], at=datetime.fromtimestamp(seconds, UTC))
