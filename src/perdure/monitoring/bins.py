"""Bins of a column: how a frame's values become counts, the same way for the reference and for every window."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import numpy as np
import polars as pl

from perdure.messages.common import Json
from perdure.monitoring.statistics import Floats

NUMBERS = 20
"""Bins of a number, each of about the same share of the reference."""
CATEGORIES = 50
"""The most frequent categories have a bin each; the rest share one."""
_OTHER = "(other)"
_CHUNK = 65_536  # values that are compared with the edges at once: they stay in the processor's cache


@dataclass(frozen=True)
class Bins:
    """The bins of one column. ``kind``: a number, the length of a text, or a category."""

    name: str
    kind: str  # number | length | category
    edges: Floats = field(default_factory=lambda: np.empty(0))
    categories: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, profile: Json, quantile: Any) -> Self | None:
        """The bins of a column with this *profile*; None: it is not to be compared.

        Profile and *quantile* are those of `perdure.jobs.preparation.profile`. Times go on by themselves, personal columns are not looked
        at, nor is a column without a value.
        """
        if profile.get("personal") or profile.get("unit") == "seconds":
            return None
        if categories := profile.get("categories"):
            most = sorted(sorted(categories), key=lambda each: -categories[each])[:CATEGORIES]
            return cls(name, "category", categories=tuple(most))
        kind = "number" if "numbers" in profile else "length"
        sketch = profile.get("numbers") or profile.get("lengths")
        if not sketch or not sketch["count"]:
            return None
        return cls(name, kind, edges=np.unique([quantile(sketch, share) for share in np.arange(1, NUMBERS) / NUMBERS]))

    @classmethod
    def of_values(cls, name: str, values: pl.Series) -> Self:
        """The bins of *values* themselves, which fit into memory."""
        if not values.dtype.is_numeric():
            counted = values.cast(pl.String).drop_nulls().value_counts(name="n").sort("n", values.name, descending=[True, False])
            return cls(name, "category", categories=tuple(counted.get_column(values.name).head(CATEGORIES)))
        known = values.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
        return cls(name, "number", edges=np.unique(np.quantile(known, np.arange(1, NUMBERS) / NUMBERS)) if len(known) else np.empty(0))

    @property
    def size(self) -> int:
        """How many bins there are."""
        return len(self.categories) + 1 if self.kind == "category" else len(self.edges) + 1

    @property
    def labels(self) -> list[str]:
        """The bins' names, for people."""
        if self.kind == "category":
            return [*self.categories, _OTHER]
        texts = [f"{edge:.4g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(texts)]
        return [f"≤ {texts[0]}", *between, f"> {texts[-1]}"] if texts else ["all"]

    def count(self, series: pl.Series) -> tuple[Floats, int]:
        """Rows of *series* by bin, and how many have no value (NaN is none)."""
        if self.kind == "category":
            return self._categories(series)
        values = _numbers(series, self.kind)
        above, known = np.zeros(len(self.edges), dtype=np.int64), 0
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            known += int(np.count_nonzero(part == part))
            for index, edge in enumerate(self.edges):
                above[index] += np.count_nonzero(part > edge)
        return -np.diff(np.concatenate([[known], above, [0]])).astype(np.float64), len(values) - known

    def places(self, series: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The bin of each row; -1 for no value."""
        if self.kind == "category":
            known = {name: index for index, name in enumerate(self.categories)}
            found = series.cast(pl.String).replace_strict(known, default=len(known), return_dtype=pl.Int64)
            return found.set(series.is_null(), -1).to_numpy()
        values = _numbers(series, self.kind)
        return np.where(values == values, np.searchsorted(self.edges, values, side="left"), -1).astype(np.int64)

    def _categories(self, series: pl.Series) -> tuple[Floats, int]:
        counted = series.cast(pl.String).drop_nulls().value_counts(name="n")
        found = dict(zip(counted.get_column(series.name).to_list(), counted.get_column("n").to_list(), strict=True))
        made = np.array([*(found.pop(name, 0) for name in self.categories), 0], dtype=np.float64)
        made[-1] = sum(found.values())
        return made, series.null_count()

    def as_json(self) -> Json:
        """As plain data."""
        return {"name": self.name, "kind": self.kind, "edges": self.edges.tolist(), "categories": list(self.categories)}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """What `as_json` made."""
        return cls(data["name"], data["kind"], np.asarray(data["edges"], dtype=np.float64), tuple(data["categories"]))


def _numbers(series: pl.Series, kind: str) -> Floats:
    """Values as numbers, NaN for none."""
    if kind == "length":
        series = series.cast(pl.String).str.len_chars()
    return series.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
