"""Divides source files into ranges of whole records, and ranges into partitions; every range carries the sha256 of its bytes."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

from perdure.errors import SourceChanged
from perdure.jobs.preparation.records import blocks
from perdure.jobs.preparation.source import FIELD, SourceFile, Sources, hashed
from perdure.messages.common import Json

BLOCK = 4 << 20  # bytes of text that are looked at together


@dataclass(frozen=True)
class Layout:
    """Files with their digests, and the ranges that their rows lie in, in order."""

    files: list[Json]
    ranges: list[Json]


def shares(files: list[SourceFile], partitions: int) -> list[int]:
    """Into how many ranges each file is divided: about *partitions* in all, at least one each."""
    total = sum(file.size for file in files)
    return [max(1, round(partitions * file.size / total)) for file in files]


def text_ranges(sources: Sources, file: SourceFile, first: int, count: int, delimiter: str, quoting: bool) -> tuple[Json, list[Json]]:
    """The file with its digest, and about *count* ranges of its records, which begin at byte *first*.

    Raises SourceMissing, SourceChanged, SchemaBroken.
    """
    whole = hashlib.sha256()
    for _ in hashed(sources.read(file.uri, 0, first), whole):
        pass
    wanted = max(1, math.ceil((file.size - first) / count))
    step = math.ceil(wanted / math.ceil(wanted / BLOCK))
    ranges: list[Json] = []
    start = end = first
    part: Any = hashlib.sha256()
    for block in blocks(hashed(sources.read(file.uri, first, file.size), whole), step, delimiter=delimiter, quoting=quoting):
        part.update(block)
        end += len(block)
        if end - start >= wanted:
            ranges.append({"uri": file.uri, "start": start, "end": end, "sha256": part.hexdigest()})
            start, part = end, hashlib.sha256()
    if end > start:
        ranges.append({"uri": file.uri, "start": start, "end": end, "sha256": part.hexdigest()})
    if end != file.size:
        raise SourceChanged(f"{file.uri} became shorter while it was read", field=FIELD, remedy="start again when nobody writes to it")
    return {"uri": file.uri, "sha256": whole.hexdigest(), "bytes": file.size}, ranges


def partitioned(ranges: list[Json], count: int) -> list[Json]:
    """*ranges* in at most *count* partitions of about the same size, in order; none is empty."""
    total = sum(_size(each) for each in ranges)
    made: dict[int, list[Json]] = {}
    before = 0
    for each in ranges:
        middle = before + _size(each) / 2
        made.setdefault(min(count - 1, int(count * middle / total)), []).append(each)
        before += _size(each)
    return [{"index": index, "ranges": part, "bytes": sum(map(_size, part))} for index, part in enumerate(made.values())]


def _size(each: Json) -> int:
    return int(each["end"] - each["start"])
