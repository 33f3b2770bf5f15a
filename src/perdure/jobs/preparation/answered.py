"""Predictions that people have labeled, as rows of the source: what was asked about, with what they say that it is.

They are partitions more, one for each campaign, whose one range is its snapshot. As in a file of text, every value is text, and gets its
column's type later.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from perdure.errors import InvalidInput
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.reading import Reader
from perdure.jobs.preparation.snapshots import batches, misfit
from perdure.labeling.chosen import RANDOM
from perdure.messages.common import Json
from perdure.predictor import parse_dtype
from perdure.spec.feedback import Ask

FAIR = "__fair"
"""The column beside the raw ones that says whether chance alone chose a row: on others nothing is tested."""


def learned(ask: Ask | None, columns: list[Json], target: str, personal: list[str]) -> bool:
    """Whether labeled predictions can be learned from: people are shown whole rows. Raises InvalidInput where they must be, and are not.

    Without *ask* (a data set that is made again) they are: they were.
    """
    if ask is None:
        return True
    missing = [each["name"] for each in columns if each["name"] != target and _is_missing(each, ask, personal)]
    if missing and ask.learn:
        raise InvalidInput(
            f"what people say about predictions cannot be learned from: {', '.join(missing)} would be missing in these rows",
            field="ask.learn",
            remedy="name these columns in ask.payload (one that is personal, or no plain value, is never kept), or leave out learn",
        )
    return not missing and ask.learn is not False


def _is_missing(column: Json, ask: Ask, personal: list[str]) -> bool:
    dtype = parse_dtype(column["dtype"])
    plain = dtype is not None and (dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Date) or isinstance(dtype, pl.Datetime))
    return not plain or column["name"] in personal or (ask.payload is not None and column["name"] not in ask.payload)


def partitions_of(snapshots: Sequence[Json], first: int) -> list[Json]:
    """The partitions of *snapshots* (oldest first), which are numbered from *first*. A prediction in several counts in the last."""
    return [
        {
            "index": first + number,
            "ranges": [{**snapshot, "answered": True, "later": list(snapshots[number + 1 :])}],
            "bytes": int(snapshot["size"]),
        }
        for number, snapshot in enumerate(snapshots)
    ]


def is_one(each: Json) -> bool:
    """Whether a range of a plan is a snapshot."""
    return bool(each.get("answered"))


def read(job: JobContext, source: Reader, each: Json, plan: Json) -> Iterator[tuple[pl.DataFrame, pl.DataFrame | None]]:
    """The rows of a range of *plan* in batches, and what is unreadable in them: of the *source*, or of a snapshot, then with `FAIR`.

    Of predictions that were shown in part nothing is learned. Raises what the reader does; InvalidInput for a label that is none of
    this target.
    """
    if is_one(each):
        yield from ((rows, None) for rows in _rows(job, each, plan["fields"], plan["columns"]))
    else:
        yield from ((parsed.rows, parsed.unreadable) for parsed in source.read(each, plan["fields"]))


def _rows(job: JobContext, each: Json, names: Sequence[str], columns: list[Json]) -> Iterator[pl.DataFrame]:
    """The rows of a snapshot: text columns *names*, and `FAIR`. *columns* are those that are kept, with their types."""
    target = job.spec.data.target
    dtypes = {column["name"]: parse_dtype(column["dtype"]) for column in columns}
    wanted = dtypes.keys() - {target.column}
    again = {line["key"] for later in each["later"] for batch in batches(job, later) for line in batch}
    for batch in batches(job, each):
        whole = [line for line in batch if line["key"] not in again and wanted <= set((line.get("prediction") or {}).get("shown", []))]
        given = [{**line["payload"], target.column: _checked(line["label"], line["key"], target.task)} for line in whole]
        found = [pl.Series(name, [_text(row.get(name), dtypes.get(name)) for row in given], dtype=pl.String) for name in names]
        fair = [line["prediction"].get("chosen") == RANDOM for line in whole]
        yield pl.DataFrame([*found, pl.Series(FAIR, fair, dtype=pl.Boolean)])


def _text(value: Any, dtype: Any) -> str | None:
    """As it would stand in a file. The log keeps times with a zone, and numbers of a column in its widest type."""
    if value is None:
        return None
    if isinstance(value, float) and dtype is not None and dtype.is_integer() and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return _zoneless(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _zoneless(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() if moment.tzinfo else text


def _checked(value: Any, key: str, task: str) -> Any:
    if what := misfit(value, task):
        raise InvalidInput(
            f"people labeled the prediction {key} {value!r}, which is {what}",
            field="ask.question",
            remedy="see that what people are asked fits the target, or set ask.learn: false",
        )
    return value
