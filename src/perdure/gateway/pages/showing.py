"""A task's payload as what a page shows: texts, images, tables. What it holds comes from outside, and is never markup."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from perdure.labeling.ports import Lease
from perdure.labeling.spec import Campaign, Shows
from perdure.messages.common import Json

# https, pictures within the address, and our own host; not `//host`, which is another one
_IMAGE = re.compile(r"https://|data:image/(png|jpeg|gif|webp|avif|svg\+xml)[;,]|/(?![/\\])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One thing to look at: a ``text``, an ``image`` or a table (``row``). ``refused`` is an address of an image that is not loaded."""

    text: str | None = None
    image: str | None = None
    refused: str | None = None
    row: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is to be seen of one task. ``pair`` holds the two sides, ``context`` the rest of the payload."""

    blocks: list[Block] = field(default_factory=list)
    pair: tuple[Block, Block] | None = None
    context: list[tuple[str, str]] = field(default_factory=list)


def shown(spec: Campaign, payload: Json) -> Shown:
    """The payload as the campaign wants it shown; whatever does not fit is shown as a table."""
    match spec.shows:
        case Shows.PAIR if "left" in payload and "right" in payload:
            return Shown(pair=(_block(payload["left"]), _block(payload["right"])), context=_rest(payload, "left", "right"))
        case Shows.IMAGE if isinstance(payload.get("image"), str):
            return Shown(blocks=[_image(payload["image"])], context=_rest(payload, "image"))
        case Shows.ROW:
            return Shown(blocks=[_table(payload)])
        case _ if "text" in payload or "image" in payload:
            return Shown(blocks=_blocks(payload), context=_rest(payload, "text", "image"))
    return Shown(blocks=[_table(payload)])


def predicted(lease: Lease) -> tuple[Any, float | None] | None:
    """What the model says about a leased task and how sure it is, where the labeler may see it."""
    if lease.prediction is None or (label := lease.prediction.get("label")) is None:
        return None
    score = lease.prediction.get("score")
    return label, score if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1 else None


def _blocks(payload: Json) -> list[Block]:
    found = []
    if isinstance(payload.get("image"), str):
        found.append(_image(payload["image"]))
    if "text" in payload:
        found.append(Block(text=_plain(payload["text"])))
    return found or [_table(payload)]


def _block(value: Any) -> Block:
    """One side of a pair."""
    if not isinstance(value, dict):
        return Block(text=_plain(value))
    if isinstance(value.get("image"), str):
        return _image(value["image"])
    return Block(text=_plain(value["text"])) if set(value) == {"text"} else _table(value)


def _image(address: str) -> Block:
    return Block(image=address) if _IMAGE.match(address) else Block(refused=address[:200])


def _table(payload: Json) -> Block:
    return Block(row=[(str(name), _plain(value)) for name, value in payload.items()])


def _rest(payload: Json, *told: str) -> list[tuple[str, str]]:
    return [(str(name), _plain(value)) for name, value in payload.items() if name not in told]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
