"""How much labelers agree: raw share of agreeing pairs, and Krippendorff's alpha with a bootstrap interval.

Krippendorff, K. (2011), "Computing Krippendorff's Alpha-Reliability": alpha = 1 - observed / expected disagreement over all pairs of
opinions within units, each unit's pairs weighted by 1 / (opinions - 1). Units with one opinion say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perdure.keys import canonical

Floats = NDArray[np.float64]
SEED = 7  # the interval of the same opinions is the same


class Level(StrEnum):
    """What differences between values mean."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    INTERVAL = "interval"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """``raw``: share of agreeing pairs. ``alpha`` none: no two opinions, or no two values, were there to compare."""

    units: int
    raw: float | None
    alpha: float | None
    low: float | None
    high: float | None


def agreement(units: Iterable[Sequence[Any]], level: Level = Level.NOMINAL, *, samples: int = 1_000, confidence: float = 0.95) -> Agreement:
    """The agreement of *units*, each with all opinions on one task. The interval is that of a bootstrap over units.

    Units with the same opinions are resampled together, so its cost grows with the kinds of units and not with their number.
    """
    values, patterns, times = _patterns(units)
    if not len(times):
        return Agreement(units=0, raw=None, alpha=None, low=None, high=None)
    sizes = patterns.sum(axis=1)
    pairs = (patterns**2).sum(axis=1) - sizes  # ordered pairs that agree
    raw = float((times * pairs).sum() / (times * sizes * (sizes - 1)).sum())
    alpha = float(_alpha(times[None, :], patterns, values, level)[0])
    if np.isnan(alpha):
        return Agreement(units=int(times.sum()), raw=raw, alpha=None, low=None, high=None)
    resampled = np.random.default_rng(SEED).multinomial(int(times.sum()), times / times.sum(), size=samples).astype(np.float64)
    spread = _alpha(resampled, patterns, values, level)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(spread, [tail, 1 - tail])
    return Agreement(units=int(times.sum()), raw=raw, alpha=alpha, low=float(low), high=float(high))


def _patterns(units: Iterable[Sequence[Any]]) -> tuple[list[Any], Floats, Floats]:
    """Distinct values in order; counts of values by kind of unit (kinds x values); how many units are of each kind."""
    kinds: dict[tuple[bytes, ...], int] = {}
    named: dict[bytes, Any] = {}
    for unit in units:
        if len(unit) < 2:
            continue
        keys = sorted(canonical(value) for value in unit)
        named |= {canonical(value): value for value in unit}
        kinds[tuple(keys)] = kinds.get(tuple(keys), 0) + 1
    ordered = sorted(named, key=lambda key: (0, named[key], "") if isinstance(named[key], int | float) else (1, 0, str(named[key])))
    column = {key: index for index, key in enumerate(ordered)}
    counts = np.zeros((len(kinds), len(ordered)))
    for row, kind in enumerate(kinds):
        for key in kind:
            counts[row, column[key]] += 1
    return [named[key] for key in ordered], counts, np.array(list(kinds.values()), dtype=np.float64)


def _alpha(times: Floats, patterns: Floats, values: list[Any], level: Level) -> Floats:
    """Alpha for each row of *times* (samples x kinds); nan where only one value is there."""
    margins = times @ patterns  # samples x values
    total = margins.sum(axis=1)
    within = patterns / (patterns.sum(axis=1, keepdims=True) - 1)
    out = np.empty(len(times))
    shared = None if level is Level.ORDINAL else _distances(values, level, margins[0])
    per_kind = None if shared is None else ((within @ shared) * patterns).sum(axis=1)
    for sample in range(len(times)):
        distances = _distances(values, level, margins[sample]) if shared is None else shared
        observed = times[sample] @ (per_kind if per_kind is not None else ((within @ distances) * patterns).sum(axis=1))
        expected = margins[sample] @ distances @ margins[sample] / (total[sample] - 1)
        out[sample] = 1 - observed / expected if expected > 0 else np.nan
    return out


def _distances(values: list[Any], level: Level, margins: Floats) -> Floats:
    """Squared differences between values. Ordinal ones depend on how often the values between them occur."""
    if level is Level.NOMINAL:
        return 1 - np.eye(len(values))
    if level is Level.INTERVAL:
        numbers = np.array(values, dtype=np.float64)
        return (numbers[:, None] - numbers[None, :]) ** 2
    ranks = np.cumsum(margins) - margins / 2
    return (ranks[:, None] - ranks[None, :]) ** 2
