"""What the readers of all senders share."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from perdure.labeling.deliveries import Meaning, Unusable


class Malformed(Exception):
    """The message lacks what its sender's convention demands of every message."""


class Unproven(Exception):
    """Nothing shows that the message is from who may send it."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message as it is read. ``body`` is what may be kept of it; ``key`` names it where its sender does not."""

    key: str | None
    body: bytes
    meaning: Meaning | Unusable


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


def parse(body: bytes) -> Any:
    """The JSON in *body*. Raises ValueError for what is none, or is no text that can be kept."""
    try:
        data = json.loads(body)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if rb"\u0000" in body:
        raise ValueError("it holds a NUL character")
    return data


def told(error: ValueError) -> str:
    """Why a body cannot be used, in one line."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)[:5])
    return str(error)
