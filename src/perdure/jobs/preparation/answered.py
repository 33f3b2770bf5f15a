"""Predictions that people have labeled, as rows of the source: what was asked about, with what they say that it is.

They are one partition more. Its one range is the snapshot; as in a file of text, every value is text, and gets its column's type later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import polars as pl

from perdure.errors import InvalidInput
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.pool import RANDOM
from perdure.messages.common import ArtifactRef, Json
from perdure.spec.feedback import Ask

FAIR = "__fair"
"""The column beside the raw ones that says whether chance alone chose a row: on others nothing is tested."""
_ROWS = 2_000  # read at once


def learned(ask: Ask | None, columns: list[Json], target: str, personal: list[str]) -> bool:
    """Whether labeled predictions can be learned from: people are shown whole rows. Raises InvalidInput where they must be, and are not.

    Without *ask* (a data set that is made again) they are: they were.
    """
    if ask is None:
        return True
    there = [column["name"] for column in columns if column["name"] != target]
    missing = [name for name in there if name in personal or (ask.payload is not None and name not in ask.payload)]
    if missing and ask.learn:
        raise InvalidInput(
            f"what people say about predictions cannot be learned from: {', '.join(missing)} would be missing in these rows",
            field="ask.learn",
            remedy="name these columns in ask.payload (a personal one is never kept), or leave out learn",
        )
    return not missing and ask.learn is not False


def is_one(each: Json) -> bool:
    """Whether a range of a plan is a snapshot."""
    return bool(each.get("answered"))


def partition_of(snapshot: Json, index: int) -> Json:
    """The partition of a snapshot."""
    size = int(snapshot["size"])
    return {"index": index, "ranges": [{**snapshot, "answered": True}], "bytes": size}


def rows(job: JobContext, each: Json, names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of a snapshot in batches: text columns *names*, and `FAIR`. Raises InvalidInput for a label that is none of this target."""
    target = job.spec.data.target
    path = job.objects.download(ArtifactRef(uri=each["uri"], sha256=each["sha256"], size=each["size"]), job.scratch / "answered.ndjson")
    try:
        with path.open("rb") as lines:
            while batch := [json.loads(line) for line in islice(lines, _ROWS)]:
                given = [{**line["payload"], target.column: _checked(line["label"], line["key"], target.task)} for line in batch]
                found = {name: pl.Series(name, [_text(row.get(name)) for row in given], dtype=pl.String) for name in names}
                fair = [(line.get("prediction") or {}).get("chosen") == RANDOM for line in batch]
                yield pl.DataFrame([*found.values(), pl.Series(FAIR, fair, dtype=pl.Boolean)])
    finally:
        path.unlink()


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _checked(value: Any, key: str, task: str) -> Any:
    fits = isinstance(value, str) if task == "classification" else isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        raise InvalidInput(
            f"people labeled the prediction {key} {value!r}, which is {'no class' if task == 'classification' else 'no number'}",
            field="ask.question",
            remedy="see that what people are asked fits the target, or set ask.learn: false",
        )
    return value
