"""What is normal: a column's distribution in the data that a model was trained or tested on, by day of the week where days are known.

A window is compared with the same days of the week, each weighing as much as in the window, so that a season of a week is no drift. And
the days of the reference differ from each other: that is how much a window may differ before it means anything (`between_days`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from perdure.messages.common import Json
from perdure.monitoring.bins import Bins
from perdure.monitoring.statistics import Floats, between_days, shares

WEEK = 7
_SEASONS = 2  # weeks that must be known before a day is compared with its like
_THURSDAY = 3  # the weekday of day 0, 1970-01-01, where Monday is 0


@dataclass(frozen=True)
class Normal:
    """One column's reference. Arrays have a row for each phase of the season (one row: no season is known).

    ``variance`` is by how much single days differ, by test: ``shape`` of the distribution, ``missing`` values.
    """

    bins: Bins
    counts: Floats  # (phases, bins)
    missing: Floats  # (phases,)
    days: Floats  # (phases,) how many days there were; 0: not known
    variance: dict[str, float]
    low: float | None = None
    high: float | None = None

    def freedom(self, test: str = "shape") -> int:
        """From how many days the variance was estimated, less the means of the phases; 0 where days do not differ, or are not known."""
        return max(1, int(self.days.sum()) - len(self.days)) if self.variance[test] > 0 else 0

    def expected(self, weights: Floats) -> Floats:
        """Shares by bin of a window whose rows lie in the days of the week as *weights* (..., 7) say."""
        made: Floats = self._weights(weights) @ shares(self.counts)
        return made

    def expected_missing(self, weights: Floats) -> float:
        """The share of rows without a value."""
        rows = self.counts.sum(axis=1) + self.missing
        return float(self._weights(weights) @ (self.missing / np.maximum(rows, 1)))

    def noise(self, rows: Any, days: float, weights: Floats, test: str = "shape") -> Floats:
        """The variance of a window of *rows* rows over *days* days against this reference, as statistics take it."""
        variance = self.variance[test]
        per_day = np.divide(variance, self.days, out=np.zeros_like(self.days), where=self.days > 0)
        own = 1 / np.maximum(self.counts.sum(axis=1) + (self.missing if test == "missing" else 0), 1) + per_day
        made: Floats = 1 / np.maximum(rows, 1) + variance / max(days, 1.0) + (self._weights(weights) ** 2) @ own
        return made

    def _weights(self, weights: Floats) -> Floats:
        """*weights* of the phases, adding up to 1; where the reference lacks one of them, its own shares."""
        rows, weights = self.counts.sum(axis=1), np.asarray(weights, dtype=np.float64)
        if len(rows) == weights.shape[-1] and (rows > 0).all() and weights.sum() > 0:
            return shares(weights)
        return np.broadcast_to(shares(rows), (*weights.shape[:-1], len(rows)))

    def as_json(self) -> Json:
        """As plain data."""
        arrays = {name: getattr(self, name).tolist() for name in ("counts", "missing", "days")}
        return {"bins": self.bins.as_json(), **arrays, "variance": self.variance, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """What `as_json` made."""
        arrays = {name: np.asarray(data[name], dtype=np.float64) for name in ("counts", "missing", "days")}
        return cls(Bins.from_json(data["bins"]), variance=data["variance"], low=data["low"], high=data["high"], **arrays)


def phase(day: Any) -> Any:
    """The day of the week, Monday being 0, of days since 1970-01-01."""
    return (np.asarray(day) + _THURSDAY) % WEEK


class Counting:
    """Counts the rows of a reference, batch by batch, by day where days are known."""

    def __init__(self, bins: Iterable[Bins]) -> None:
        self._bins = list(bins)
        self._dated = False
        self._rows: dict[int, int] = {}  # day → row of the arrays
        self._counts = {each.name: np.zeros((0, each.size + 1)) for each in self._bins}  # the last place: no value

    def add(self, frame: pl.DataFrame, days: pl.Series | None = None) -> None:
        """Take *frame* in; *days* are those of its rows since 1970-01-01; rows without one are left out."""
        if days is not None:
            self._dated = True
            if days.null_count():
                frame, days = frame.filter(days.is_not_null()), days.drop_nulls()
        known = np.zeros(frame.height, dtype=np.int64) if days is None else days.to_numpy().astype(np.int64)
        present, inverse = np.unique(known, return_inverse=True)
        for day in present:
            self._rows.setdefault(int(day), len(self._rows))
        row = np.array([self._rows[int(day)] for day in present], dtype=np.int64)[inverse]
        for each in self._bins:
            held = self._counts[each.name]
            if len(held) < len(self._rows):
                held = np.concatenate([held, np.zeros((len(self._rows) - len(held), each.size + 1))])
            if len(present) == 1:
                counts, missing = each.count(frame.get_column(each.name))
                held[self._rows[int(present[0])]] += [*counts, missing]
            else:
                places = each.places(frame.get_column(each.name)) % held.shape[1]  # -1 becomes the last
                held += np.bincount(row * held.shape[1] + places, minlength=held.size).reshape(held.shape)
            self._counts[each.name] = held

    def normals(self, ranges: dict[str, tuple[float | None, float | None]] | None = None) -> dict[str, Normal]:
        """The reference of each column, by its name."""
        days = np.array(sorted(self._rows, key=lambda day: self._rows[day]), dtype=np.int64)
        dated, phases = self._dated, phase(days)
        seasonal = dated and np.bincount(phases, minlength=WEEK).min() >= _SEASONS
        phases, total = (phases, WEEK) if seasonal else (np.zeros(len(days), dtype=np.int64), 1)
        made = {}
        for each in self._bins:
            counts = self._counts[each.name]
            sums = np.zeros((total, counts.shape[1]))
            np.add.at(sums, phases, counts)
            low, high = (ranges or {}).get(each.name, (None, None))
            made[each.name] = Normal(
                each,
                sums[:, :-1],
                sums[:, -1],
                np.bincount(phases, minlength=total).astype(np.float64) if dated else np.zeros(total),
                _variance(each, counts, phases) if dated else {"shape": 0.0, "missing": 0.0},
                low,
                high,
            )
        return made


def _variance(bins: Bins, days: Floats, phases: Any) -> dict[str, float]:
    values = days[:, :-1]
    absent = np.stack([values.sum(axis=1), days[:, -1]], axis=1)
    return {
        "shape": between_days(values, phases, "chi2" if bins.kind == "category" else "ks"),
        "missing": between_days(absent, phases, "chi2"),
    }
