"""Counts of a window of the inference log, or of any table: one pass, in batches, so that memory does not grow with the rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from perdure.monitoring.drift import Counted, Span
from perdure.monitoring.reference import WEEK, Normal, phase
from perdure.monitoring.statistics import Floats

BATCH = 65_536  # rows
Places = np.ndarray[Any, np.dtype[np.int64]]
_SECONDS = {"day": 86_400, "hour": 3_600}


class Window:
    """Rows counted by the bins of their references."""

    def __init__(self, normals: Mapping[str, Normal]) -> None:
        self._normals = dict(normals)
        self._counts = {name: np.zeros(normal.bins.size + 1) for name, normal in self._normals.items()}  # the last place: no value
        self._outside = dict.fromkeys(self._normals, 0.0)
        self._weights = np.zeros(WEEK)
        self.rows = 0

    def read(self, rows: pl.LazyFrame, time: str | None = None) -> None:
        """Count all *rows*; *time* is the column that says when each was."""
        known = set(rows.collect_schema())
        names = [name for name in self._normals if name in known]
        self._normals = {name: self._normals[name] for name in names}
        for batch in rows.select([*names, *([time] if time else [])]).collect_batches(chunk_size=BATCH, maintain_order=False):
            self.add(batch, None if time is None else batch.get_column(time))

    def add(self, frame: pl.DataFrame, times: pl.Series | None = None) -> None:
        """Count the rows of *frame*."""
        self.rows += frame.height
        if times is not None:
            self._weights += np.bincount(phase(since_epoch(times.drop_nulls(), "day")), minlength=WEEK)
        for name, normal in self._normals.items():
            series = frame.get_column(name)
            counts, missing = normal.bins.count(series)
            self._counts[name] += [*counts, missing]
            self._outside[name] += _outside(series, normal)

    def counted(self) -> dict[str, Counted]:
        """Each column's counts."""
        return {name: Counted(self._counts[name][:-1], float(self._counts[name][-1]), self._outside[name]) for name in self._normals}

    def span(self, days: float) -> Span:
        """What the window, *days* long, is made of."""
        return Span(days, self._weights)


def _outside(series: pl.Series, normal: Normal) -> float:
    """Rows with a value that the reference never held."""
    if normal.bins.kind != "number" or normal.low is None or normal.high is None or not series.dtype.is_numeric():
        return 0.0
    low, high = series.min(), series.max()
    if low is None or high is None or (normal.low <= low and high <= normal.high):  # type: ignore[operator]
        return 0.0
    outside = (series < normal.low) | (series > normal.high)
    return float((outside & series.is_not_nan() if series.dtype.is_float() else outside).sum())


def since_epoch(times: pl.Series, unit: str) -> Places:
    """Whole days or hours since 1970-01-01 UTC. A time without a zone counts as UTC, text is read as ISO 8601, numbers are seconds."""
    if times.dtype == pl.String:
        times = times.str.to_datetime(strict=False, time_unit="us", time_zone="UTC")
    seconds = times.cast(pl.Int64) if times.dtype.is_numeric() else times.cast(pl.Datetime("us")).dt.epoch("s")
    return np.asarray(seconds.to_numpy() // _SECONDS[unit], dtype=np.int64)


def hourly(errors: pl.DataFrame, start: datetime, end: datetime) -> tuple[Floats, Floats]:
    """Sums and numbers of the errors in each hour from *start* to *end*. *errors* has the columns ``time`` and ``error``."""
    first = int(start.timestamp() // _SECONDS["hour"])
    hours = max(1, int(-(-end.timestamp() // _SECONDS["hour"])) - first)
    at = since_epoch(errors.get_column("time"), "hour") - first
    sums = np.bincount(at, weights=errors.get_column("error").to_numpy(), minlength=hours)
    return sums.astype(np.float64), np.bincount(at, minlength=hours).astype(np.float64)
