"""A data set's profile counted by the bins of a reference: no row has to be read again."""

from __future__ import annotations

import math

import numpy as np

from perdure.messages.common import Json
from perdure.monitoring.drift import Counted, Span
from perdure.monitoring.reference import WEEK, Normal


def counted(normal: Normal, column: Json, accuracy: float = 0.01) -> Counted | None:
    """The counts of a profile's *column*; None where it holds none that fit. Numbers are off by at most *accuracy* of their value."""
    if normal.bins.kind == "category":
        told = column.get("categories")
        if told is None:
            return None
        of = np.array([*(told.get(name, 0) for name in normal.bins.categories), 0], dtype=np.float64)
        of[-1] = sum(told.values()) - of.sum()
        return Counted(of, float(column["nulls"]))
    sketch = column.get("numbers" if normal.bins.kind == "number" else "lengths")
    if sketch is None:
        return None
    growth = math.log((1 + accuracy) / (1 - accuracy))
    middle = 2 / (1 + math.exp(growth))
    values = [
        (sign * middle * math.exp(int(key) * growth), n)
        for sign, name in ((1, "positive"), (-1, "negative"))
        for key, n in sketch[name].items()
    ]
    values.append((0.0, sketch["zero"]))
    at, numbers = np.array(values, dtype=np.float64).T
    places = np.searchsorted(normal.bins.edges, at, side="left")
    of = np.bincount(places, weights=numbers, minlength=normal.bins.size).astype(np.float64)
    return Counted(of, float(column["nulls"]))


def rows(profile: Json) -> int:
    """How many rows a profile tells of."""
    return max((int(column["count"]) for column in profile.values()), default=0)


def whole(days: float) -> Span:
    """A data set is compared with the whole of another, not by the day of the week."""
    return Span(days, np.zeros(WEEK))
