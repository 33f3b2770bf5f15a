"""A manifest of tasks: lines of JSON, one task each. What is wrong is told by its line."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from perdure.errors import InvalidInput
from perdure.labeling.ports import NewTask
from perdure.labeling.spec import Campaign

LONGEST = 256 << 10
"""Bytes of a line. What is larger belongs into an object, and its address into the payload."""
FIELDS = {"key", "payload", "priority", "gold", "prediction"}


def task(line: bytes, number: int, spec: Campaign) -> NewTask:
    """The task that a line describes. Raises InvalidInput naming the line."""
    if len(line) > LONGEST + 1:  # with its end
        raise _wrong(number, f"is longer than {LONGEST:,} bytes")
    try:
        raw = json.loads(line.decode(), parse_constant=_no_number)  # strictly: of bytes, json takes half a surrogate pair, too
        if b"\\u" in line:
            json.dumps(raw, ensure_ascii=False).encode()  # half a surrogate pair is no text, and Postgres takes none
    except RecursionError:
        raise _wrong(number, "is nested too deeply") from None
    except UnicodeError:
        raise _wrong(number, "is no UTF-8 text") from None
    except ValueError as err:
        raise _wrong(number, f"is no JSON: {err}") from None
    if not isinstance(raw, dict):
        raise _wrong(number, "is no JSON object")
    if unknown := raw.keys() - FIELDS:
        raise _wrong(number, f"has unknown fields: {', '.join(sorted(unknown))}")
    key, priority, gold = raw.get("key"), raw.get("priority", 0), raw.get("gold")
    if not isinstance(key, str) or not 0 < len(key) <= 500 or any(char < " " for char in key):
        raise _wrong(number, "needs a `key`, a text of at most 500 characters without control characters")
    if not isinstance(raw.get("payload"), dict):
        raise _wrong(number, "needs a `payload`, an object")
    if isinstance(priority, bool) or not isinstance(priority, int | float) or not abs(priority) <= sys.float_info.max:
        raise _wrong(number, "has a `priority` that is no number")
    if gold is not None and (why := spec.check(gold)):
        raise _wrong(number, f"has a `gold` that is no answer: {why}")
    if not isinstance(raw.get("prediction"), dict | None):
        raise _wrong(number, "has a `prediction` that is no object")
    return NewTask(key=key, payload=raw["payload"], priority=float(priority), gold=gold, prediction=raw.get("prediction"))


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _wrong(number: int, what: str) -> InvalidInput:
    return InvalidInput(
        f"line {number:,} {what}",
        field="tasks",
        remedy='write one object a line, such as {"key": "m1", "payload": {"text": "hello"}}, and import the mended manifest',
    )
