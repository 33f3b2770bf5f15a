"""Which rows to ask people about: where the model is least sure, spread over the data, with a random slice that stays unbiased.

Strategies: Settles (2009), "Active Learning Literature Survey", section 3.1. Diversity: the greedy k-center of Sener and Savarese (2018),
"Active Learning for Convolutional Neural Networks: A Core-Set Approach", among the least sure rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

POOL = 5  # rows that diversity chooses from, for each one wanted


class Strategy(StrEnum):
    """What counts as unsure."""

    MARGIN = "margin"  # the two most likely classes are close
    ENTROPY = "entropy"
    LEAST_CONFIDENCE = "least_confidence"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Positions of the chosen rows: the unsure ones, least sure first, and those of the random slice, which alone may judge a model."""

    unsure: Integers
    random: Integers


def uncertainty(probabilities: Floats, strategy: Strategy) -> Floats:
    """How unsure a model with these class *probabilities* (rows x classes) is about each row, from 0 (sure) to 1."""
    classes = probabilities.shape[1]
    if strategy is Strategy.MARGIN:
        top = np.partition(probabilities, classes - 2, axis=1)
        return np.asarray(1 - (top[:, -1] - top[:, -2]))
    if strategy is Strategy.ENTROPY:
        logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
        return np.asarray(-(probabilities * logs).sum(axis=1) / np.log(classes))
    if strategy is Strategy.LEAST_CONFIDENCE:
        return np.asarray((1 - probabilities.max(axis=1)) * classes / (classes - 1))
    return np.zeros(len(probabilities))


def select(
    probabilities: Floats, batch: int, strategy: Strategy, *, features: Floats | None = None, random_share: float = 0.1, seed: int = 0
) -> Selection:
    """*batch* different rows (all, where there are fewer). With *features* (rows x numbers) the unsure ones are spread over the data.

    The random slice is drawn first, from all rows alike: what it says about the data is not bent by what the model finds hard.
    """
    rows = len(probabilities)
    batch = min(batch, rows)
    generator = np.random.default_rng(seed)
    wanted = batch if strategy is Strategy.RANDOM else round(batch * random_share)
    chance = generator.choice(rows, size=wanted, replace=False)
    left = np.setdiff1d(np.arange(rows), chance)
    unsure = uncertainty(probabilities, strategy)[left]
    ranked = left[np.argsort(-unsure, kind="stable")]
    count = batch - wanted
    if features is None or count == 0:
        return Selection(unsure=ranked[:count], random=chance)
    pool = ranked[: count * POOL]
    return Selection(unsure=pool[spread(features[pool], count)], random=chance)


def spread(points: Floats, count: int) -> Integers:
    """Positions of *count* of the *points*, each as far as can be from those before; the first is the first. Columns are scaled alike."""
    scale = points.std(axis=0)
    points = (points - points.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    chosen = [0]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        nearest[chosen[-1]] = -1.0  # equal points are at distance 0, and still different rows
        chosen.append(int(nearest.argmax()))
    return np.array(chosen, dtype=np.int64)
