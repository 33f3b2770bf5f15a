"""Statistics of raw columns as plain JSON that can be merged: batch with batch, partition with partition, later month with month.

Personal columns are counted and their lengths measured; none of their values is kept. The distribution of numbers is a sketch whose
buckets grow by a constant factor (DDSketch, Masson et al., VLDB 2019): merging adds counts, and a quantile is off by at most `ACCURACY`
of its value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np
import polars as pl

from perdure.messages.common import Json

ACCURACY = 0.01
CATEGORIES = 1_000  # different values above which a text column is no category
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_GROWTH = math.log((1 + ACCURACY) / (1 - ACCURACY))
_SMALLEST, _LARGEST = 1e-9, 1e150  # nearer to zero is zero; beyond counts as infinite, as squares would be
_LONGEST = 100  # characters of a category


def measure(frame: pl.DataFrame, personal: set[str]) -> Json:
    """Statistics of each column of *frame*."""
    return {series.name: _column(series, series.name in personal) for series in frame}


def merge(profiles: Iterable[Json]) -> Json:
    """The statistics of all rows, from those of parts of them with the same columns."""
    return reduce(lambda one, other: {name: _merge_columns(one[name], other[name]) for name in one}, profiles)


def summary(profile: Json) -> Json:
    """*profile* with standard deviations and quantiles, for people and as a reference."""
    made = {}
    for name, column in profile.items():
        made[name] = {key: _summed(value) if key in ("numbers", "lengths") else value for key, value in column.items()}
    return made


def quantile(numbers: Json, share: float) -> float | None:
    """The value below which *share* of the numbers lie, within `ACCURACY`."""
    rank = share * (numbers["count"] - 1)
    buckets = [(-_middle(int(key)), n) for key, n in sorted(numbers["negative"].items(), key=lambda item: -int(item[0]))]
    buckets += [(0.0, numbers["zero"])]
    buckets += [(_middle(int(key)), n) for key, n in sorted(numbers["positive"].items(), key=lambda item: int(item[0]))]
    for value, n in buckets:
        rank -= n
        if n and rank < 0:
            return float(min(max(value, numbers["min"]), numbers["max"]))
    largest: float | None = numbers["max"]
    return largest


def _column(series: pl.Series, personal: bool) -> Json:
    dtype, valid = series.dtype, series.drop_nulls()
    made: Json = {"dtype": str(dtype), "count": len(series), "nulls": series.null_count()}
    if dtype == pl.String:
        made["lengths"] = _numbers(valid.str.len_chars())
    if personal:
        return {**made, "personal": True}
    if dtype == pl.String or dtype == pl.Boolean:
        made["categories"] = _categories(valid)
    elif dtype.is_temporal():
        made["numbers"], made["unit"] = _numbers(_seconds(valid)), "seconds"
    elif dtype.is_numeric():
        made["numbers"] = _numbers(valid)
    return made


def _seconds(series: pl.Series) -> pl.Series:
    if series.dtype == pl.Date:
        return series.cast(pl.Int32).cast(pl.Float64) * 86_400
    if series.dtype == pl.Time:
        return series.cast(pl.Int64) / 1e9
    return series.dt.cast_time_unit("us").cast(pl.Int64) / 1e6


def _categories(valid: pl.Series) -> Json | None:
    text = valid.cast(pl.String)
    if text.n_unique() > CATEGORIES or (text.str.len_chars() > _LONGEST).any():
        return None
    counts = text.value_counts(name="n").sort(text.name)
    return dict(zip(counts.get_column(text.name).to_list(), counts.get_column("n").to_list(), strict=True))


def _numbers(series: pl.Series) -> Json:
    values = series.cast(pl.Float64).to_numpy()
    finite = values[np.abs(values) <= _LARGEST]
    count = len(finite)
    mean = float(finite.mean()) if count else 0.0
    return {
        "count": count,
        "infinite": len(values) - count,
        "min": float(finite.min()) if count else None,
        "max": float(finite.max()) if count else None,
        "mean": mean,
        "m2": float(((finite - mean) ** 2).sum()),
        "zero": int((np.abs(finite) <= _SMALLEST).sum()),
        "positive": _buckets(finite[finite > _SMALLEST]),
        "negative": _buckets(-finite[finite < -_SMALLEST]),
    }


def _buckets(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, int]:
    keys, counts = np.unique(np.ceil(np.log(values) / _GROWTH).astype(np.int64), return_counts=True)
    return {str(key): int(n) for key, n in zip(keys, counts, strict=True)}


def _middle(bucket: int) -> float:
    return 2 * math.exp(bucket * _GROWTH) / (1 + math.exp(_GROWTH))


def _merge_columns(one: Json, other: Json) -> Json:
    made = {**one, "count": one["count"] + other["count"], "nulls": one["nulls"] + other["nulls"]}
    for key in ("numbers", "lengths"):
        if key in one:
            made[key] = _merge_numbers(one[key], other[key])
    if "categories" in one:
        both = None if one["categories"] is None or other["categories"] is None else add_counts(one["categories"], other["categories"])
        made["categories"] = both if both is None or len(both) <= CATEGORIES else None
    return made


def _merge_numbers(one: Json, other: Json) -> Json:
    if not one["count"] or not other["count"]:
        filled = one if one["count"] else other
        return {**filled, "infinite": one["infinite"] + other["infinite"]}
    count, apart = one["count"] + other["count"], other["mean"] - one["mean"]
    return {
        "count": count,
        "infinite": one["infinite"] + other["infinite"],
        "min": min(one["min"], other["min"]),
        "max": max(one["max"], other["max"]),
        "mean": one["mean"] + apart * other["count"] / count,
        "m2": one["m2"] + other["m2"] + apart**2 * one["count"] * other["count"] / count,
        "zero": one["zero"] + other["zero"],
        "positive": add_counts(one["positive"], other["positive"]),
        "negative": add_counts(one["negative"], other["negative"]),
    }


def add_counts(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """Counts by key, added."""
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted(one.keys() | other.keys())}


def _summed(numbers: Json) -> Json:
    if not numbers["count"]:
        return numbers
    spread = {"std": math.sqrt(numbers["m2"] / numbers["count"])}
    return {**numbers, **spread, "quantiles": {f"{share:g}": quantile(numbers, share) for share in QUANTILES}}
