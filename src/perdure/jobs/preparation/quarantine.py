"""Rows that are set aside: each with the reasons why, and how often each reason was met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from perdure.adapters.s3 import ObjectStore
from perdure.jobs.preparation.columns import FAILURES, Failures
from perdure.jobs.preparation.tables import KIND, TableWriter
from perdure.jobs.preparation.text import RAW, REASON
from perdure.messages.common import Json

_FAILURES = 50  # kinds of failure that are told
_EXAMPLE = 100  # characters


class Quarantine:
    """The rows of one part of a source that cannot be used. Values of *personal* columns are in the rows, but never told as examples."""

    def __init__(self, folder: Path, personal: set[str]) -> None:
        self._table, self._personal = TableWriter(folder, "quarantine.parquet"), personal
        self._kinds: dict[tuple[str, str], Json] = {}

    @property
    def rows(self) -> int:
        """How many there are so far."""
        return self._table.rows

    def add(self, raw: pl.DataFrame, failures: Failures) -> None:
        """Set the rows of *raw* aside that have *failures*."""
        if not failures.height:
            return
        reasons = _reasons(failures)
        self._table.write(raw[reasons["row"].to_list()].with_columns(pl.lit(None, pl.String).alias(RAW), reasons[REASON]))
        self._count(failures)

    def unreadable(self, records: pl.DataFrame) -> None:
        """Set records aside that could not be read as columns; they carry their reasons."""
        if not records.height:
            return
        self._table.write(records)
        self._count(
            records.select(
                pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
                pl.lit("").alias("column"),
                pl.col(REASON).alias("check"),
                pl.col(RAW).alias("example"),
            )
        )

    def store(self, objects: ObjectStore, kind: str = KIND) -> Json | None:
        """The stored file with its ``rows``, or None for no rows."""
        return self._table.store(objects, kind)

    def kinds(self) -> list[Json]:
        """Kinds of failure, the most frequent first: column, check, count, and an example."""
        return sorted(self._kinds.values(), key=lambda failure: -failure["count"])[:_FAILURES]

    def _count(self, failures: Failures) -> None:
        """Count kinds of failure, with an example of each; never one of a personal column, nor of a whole row that may have one."""
        for (column, check), group in failures.group_by("column", "check", maintain_order=True):
            kind = (str(column), str(check))
            hidden = column in self._personal or (not column and self._personal)
            example = None if hidden else group["example"].drop_nulls().first()
            known = self._kinds.setdefault(kind, {"column": kind[0], "check": kind[1], "count": 0, "example": None})
            known["count"] += group.height
            known["example"] = known["example"] or (None if example is None else str(example)[:_EXAMPLE])


def without(frame: pl.DataFrame, failures: Failures) -> pl.Series:
    """A mask of the rows that have no failure."""
    mask = np.ones(frame.height, dtype=bool)
    mask[failures["row"].to_numpy()] = False
    return pl.Series(mask)


def _reasons(failures: Failures) -> pl.DataFrame:
    """One line a row: each column with the checks that it breaks."""
    told = pl.when(pl.col("column") == "").then(pl.col("check")).otherwise(pl.concat_str("column", pl.lit(": "), "check"))
    reasons = failures.group_by("row").agg(told.unique(maintain_order=True).str.join("; ").alias(REASON))
    return reasons.sort("row").cast({"row": FAILURES["row"]})
