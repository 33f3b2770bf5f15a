"""How much labelers agree: raw share of agreeing pairs, and Krippendorff's alpha with a bootstrap interval.

Krippendorff, K. (2011), "Computing Krippendorff's Alpha-Reliability": alpha = 1 - observed / expected disagreement over all pairs of
opinions within units, each unit's pairs weighted by 1 / (opinions - 1). Units with one opinion say nothing.

Both disagreements are made of sums over units, so units go by and only sums stay. The bootstrap resamples blocks of units: one unit each
while there are few, random groups when there are many. No numpy: a campaign's tick and a bare worker compute it, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import mul
from random import Random
from typing import Any

from perdure.labeling.fields import answer_bytes

SEED = 7  # the interval of the same opinions is the same
BLOCKS = 500  # what is resampled, and in memory, at most


class Level(StrEnum):
    """What differences between values mean."""

    NOMINAL = "nominal"
    INTERVAL = "interval"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """``raw``: share of agreeing pairs. ``alpha`` none: no two opinions, or no two values, were there to compare."""

    units: int
    raw: float | None
    alpha: float | None
    low: float | None
    high: float | None


def agreement(units: Iterable[Sequence[Any]], level: Level = Level.NOMINAL, *, samples: int = 1_000) -> Agreement:
    """The agreement of *units*, each with all opinions on one task."""
    gathered = Reliability(level)
    for unit in units:
        gathered.add(unit)
    return gathered.agreement(samples=samples)


class Reliability:
    """Takes units one by one; its memory does not grow with their number. The same units in the same order give the same figures."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self.units = self.pairs = self.agreeing = 0
        self._blocks: list[list[float]] = []  # of each: opinions, observed disagreement, then what expected disagreement is made of
        self._columns: dict[bytes, int] = {}
        self._origin: float | None = None  # numbers are counted from the first one: sums of squares stay exact
        self._random = Random(SEED)

    def add(self, values: Sequence[Any]) -> None:
        """Take the opinions on one task into account."""
        size = len(values)
        if size < 2:
            return
        counts = Counter(answer_bytes(value) for value in values)
        self.pairs += size * (size - 1) // 2
        self.agreeing += sum(count * (count - 1) // 2 for count in counts.values())
        block = self._block()
        self.units += 1
        block[0] += size
        if self._level is Level.NOMINAL:
            for value, count in counts.items():
                column = self._columns.setdefault(value, 2 + len(self._columns))
                block.extend([0.0] * (column + 1 - len(block)))
                block[1] += count * (size - count) / (size - 1)
                block[column] += count
        else:
            self._add_numbers(block, [float(value) for value in values])

    def _add_numbers(self, block: list[float], values: list[float]) -> None:
        if self._origin is None:
            self._origin = values[0]
        moved = [value - self._origin for value in values]
        total = sum(moved)
        squares = sum(map(mul, moved, moved))
        mean = total / len(moved)
        spread = sum((value - mean) * (value - mean) for value in moved)
        block.extend([0.0] * (4 - len(block)))
        block[1] += 2 * len(moved) * spread / (len(moved) - 1)
        block[2] += total
        block[3] += squares

    def _block(self) -> list[float]:
        if self.units >= BLOCKS:
            return self._blocks[self._random.randrange(BLOCKS)]
        self._blocks.append([0.0, 0.0])
        return self._blocks[-1]

    def agreement(self, *, samples: int = 1_000, confidence: float = 0.95) -> Agreement:
        """The figures of all units so far."""
        raw = self.agreeing / self.pairs if self.pairs else None
        width = max(map(len, self._blocks), default=0)
        columns = [[block[n] if n < len(block) else 0.0 for block in self._blocks] for n in range(width)]
        alpha = self._alpha([sum(column) for column in columns]) if columns else None
        if alpha is None:
            return Agreement(units=self.units, raw=raw, alpha=None, low=None, high=None)
        random, blocks = Random(SEED), range(len(self._blocks))
        spread = []
        for _ in range(samples):
            times = Counter(random.choices(blocks, k=len(blocks)))
            drawn = [times[block] for block in blocks]
            found = self._alpha([sum(map(mul, drawn, column)) for column in columns])
            if found is not None:
                spread.append(found)
        tail = (1 - confidence) / 2
        return Agreement(units=self.units, raw=raw, alpha=alpha, low=_quantile(spread, tail), high=_quantile(spread, 1 - tail))

    def _alpha(self, sums: list[float]) -> float | None:
        """None where only one value is there, or where numbers are too large to be squared."""
        opinions, observed, *rest = sums
        if self._level is Level.NOMINAL:
            expected = (opinions * opinions - sum(map(mul, rest, rest))) / (opinions - 1)
        else:
            total, squares = rest
            expected = 2 * (opinions * squares - total * total) / (opinions - 1)
        alpha = 1 - observed / expected if expected > 0 else math.nan
        return alpha if math.isfinite(alpha) else None


def _quantile(values: list[float], share: float) -> float | None:
    """By linear interpolation between the two nearest."""
    if not values:
        return None
    values = sorted(values)
    at = share * (len(values) - 1)
    below = math.floor(at)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (at - below)
