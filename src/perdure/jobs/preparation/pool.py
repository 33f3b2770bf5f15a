"""Rows without a label: their keys, under which people are asked about them, and the labels that people gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from perdure.errors import InvalidInput
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.columns import Failures, typed
from perdure.jobs.preparation.rows import digests
from perdure.jobs.preparation.snapshots import batches, misfit
from perdure.labeling.chosen import UNSURE
from perdure.messages.common import Json
from perdure.spec.label import ONE_COLUMN, Label
from perdure.spec.pipeline import Pipeline

POOL = "pool"
KEY, SIDE = "__key", "__split"
"""Columns of the pool beside the raw ones: the row's key, and the split into which it falls once it has a label."""


def keys(frame: pl.DataFrame, target: str) -> pl.Series:
    """The key of each row: a digest of all that it holds but its label, so that it is the same before and after."""
    return pl.Series(KEY, [digest.hex() for digest in digests(frame.drop(target), 0, 16)], dtype=pl.String)


def empty(frame: pl.DataFrame, target: str, unlabeled: Failures) -> pl.Series:
    """A mask of the rows whose label is empty; one that is there and cannot be used is another matter."""
    mask = np.zeros(frame.height, dtype=bool)
    mask[unlabeled["row"].to_numpy()] = True
    return pl.Series(mask) & frame.get_column(target).is_null()


def without_blanks(raw: pl.DataFrame, target: str) -> pl.DataFrame:
    """*raw*, in which a label of white space only is none."""
    if raw.schema.get(target) != pl.String:
        return raw
    return raw.with_columns(pl.when(pl.col(target).str.strip_chars() != "").then(pl.col(target)).alias(target))


class Labels:
    """What people said about rows, by key; where several snapshots name a row, the last one counts."""

    def __init__(self, job: JobContext, snapshots: list[Json], columns: list[Json]) -> None:
        """Read *snapshots* (artifacts, oldest first). Raises InvalidInput where a label is none of this target."""
        target = job.spec.data.target
        self._target = target.column
        values: dict[str, Any] = {}
        unsure: set[str] = set()
        for line in (line for snapshot in snapshots for batch in batches(job, snapshot) for line in batch):
            values[line["key"]] = _checked(line["label"], line["key"], job.spec)
            (unsure.add if (line.get("prediction") or {}).get("chosen") == UNSURE else unsure.discard)(line["key"])
        given = pl.Series(self._target, list(values.values()), dtype=pl.Float64 if target.task == "regression" else pl.String)
        column = [column for column in columns if column["name"] == self._target]
        made, unfit = typed(pl.DataFrame([given]), column)
        if unfit.height:
            key = list(values)[unfit["row"][0]]
            raise _wrong(values[key], key, f"no {column[0]['dtype']}")
        self._known = made.with_columns(pl.Series(KEY, list(values), dtype=pl.String))
        self._unsure = pl.Series(sorted(unsure), dtype=pl.String)

    def of(self, named: pl.Series) -> pl.Series:
        """The label of each key, null where people have not said any."""
        found = pl.DataFrame([named]).join(self._known, on=KEY, how="left", maintain_order="left")
        return found.get_column(self._target)

    def unsure(self, named: pl.Series) -> pl.Series:
        """A mask of the keys whose label was asked for because a model was unsure: nothing is tested on it, whatever the split is now."""
        return named.is_in(self._unsure.implode()).fill_null(False)


def _checked(value: Any, key: str, spec: Pipeline) -> Any:
    if what := misfit(value, spec.data.target.task, spec.label.choices if spec.label else []):
        raise _wrong(value, key, what)
    return value


def _wrong(value: Any, key: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"people labeled the row {key} {value!r}, which is {what}",
        field="label.choices",
        remedy="see that label.choices and the question fit the target; a new campaign asks again",
    )


def shown(label: Label, columns: list[Json], target: str, personal: list[str]) -> list[str]:
    """The columns of a row that people are shown: a personal one only where `payload` names it.

    Raises InvalidInput where the source has none of them, or too many.
    """
    there = [column["name"] for column in columns if column["name"] != target]
    wanted = label.payload or [name for name in there if name not in personal]
    if missing := [name for name in wanted if name not in there]:
        raise InvalidInput(
            f"people are to be shown {', '.join(missing)}, but a row has: {', '.join(there)}",
            field="label.payload",
            remedy="name columns that the source has and the schema keeps",
        )
    if label.shows in ONE_COLUMN and len(wanted) != 1:
        raise InvalidInput(
            f"{label.shows} shows one column, but there are {len(wanted)} that are not personal: {', '.join(wanted)}",
            field="label.payload",
            remedy="name the column in label.payload, or set label.shows: row",
        )
    if not wanted:
        raise InvalidInput(
            f"every column is personal: {', '.join(there)}",
            field="label.payload",
            remedy="name in label.payload those that people may see",
        )
    return wanted
