"""What a row is worth by itself: its digest, and the split that it falls into. Neither depends on the rows or partitions around it."""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl

from perdure.jobs.preparation.columns import FAILURES, Failures, failing, from_moment, instant, typed
from perdure.messages.common import Json
from perdure.spec.pipeline import Data, Split

TRAIN, TEST = "train", "test"


def digests(frame: pl.DataFrame, seed: int, size: int) -> list[bytes]:
    """A digest of *size* bytes of each row's values; equal for equal rows, in any process, partition and order."""
    start = hashlib.blake2b(digest_size=size, key=str(seed).encode())
    made = []
    for text in frame.select(_canonical(frame)).to_series():
        hasher = start.copy()
        hasher.update(text.encode())
        made.append(hasher.digest())
    return made


def membership(frame: pl.DataFrame, split: Split, target: str, cut: Any) -> pl.Series:
    """The split of each row of *frame*; null where the time or group column is null.

    By hash, the target does not count: rows that differ in their label only stay together, also when people correct a label.
    """
    if split.by == "time":
        times = frame.get_column(split.column or "")
        late = pl.lit(from_moment(cut, times.dtype), times.dtype)
        chosen = pl.select(pl.when(times >= late).then(pl.lit(TEST)).when(times < late).then(pl.lit(TRAIN))).to_series()
        return chosen.alias("split")
    values = frame.drop(target) if split.by == "hash" else frame.select(split.column or "")
    bound = split.test * 2**64
    chosen = pl.Series(
        "split", [TEST if int.from_bytes(d, "big") < bound else TRAIN for d in digests(values, split.seed, 8)], dtype=pl.String
    )
    if split.by == "group":
        known = frame.get_column(split.column or "").is_not_null()
        chosen = pl.select(pl.when(known).then(chosen)).to_series().alias("split")
    return chosen


def in_time(raw: pl.DataFrame, data: Data, columns: list[Json]) -> pl.DataFrame:
    """*raw* without the rows that are later than the data cut-off. A row without a time stays: it is set aside for that.

    Raises SchemaBroken where the time column holds numbers.
    """
    if data.until is None:
        return raw
    times = typed(raw, [column for column in columns if column["name"] == data.split.column])[0].to_series()
    later = times > pl.lit(instant(data.until, times.dtype), times.dtype)
    return raw.filter(~pl.select(later).to_series().fill_null(value=False))


def unsplittable(frame: pl.DataFrame, split: Split) -> Failures:
    """Rows that belong to no split."""
    if split.column is None:
        return pl.DataFrame(schema=FAILURES)
    missing = frame.get_column(split.column).is_null()
    return failing(missing, split.column, f"is missing, but the split is by {split.by}")


def _canonical(frame: pl.DataFrame) -> pl.Expr:
    """A row as text that no other values give: each value with its length."""
    parts = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if dtype == pl.Binary:
            value = column.bin.encode("hex")
        elif dtype.is_nested():
            value = pl.struct(column).struct.json_encode()
        else:
            value = column.cast(pl.String)
        parts += [pl.when(column.is_null()).then(pl.lit("-")).otherwise(pl.concat_str(value.str.len_bytes(), pl.lit(":"), value))]
    return pl.concat_str(parts)
