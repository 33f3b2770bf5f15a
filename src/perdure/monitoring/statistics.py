"""Distances of two distributions given as counts, and how likely chance makes them. Counts have the shape (..., bins).

Hourly requests are not independent: an hour, and a day, is like itself. So every test takes ``noise``, the variance that one row of a
perfectly independent sample would have, added up for both samples: ``1 / n`` for the window's own rows, and what `between_days` found
the days of the reference to differ by. Its inverse is the effective sample size. ``freedom`` is from how many days that was estimated, less
the means that were taken off; 0: days are not known, and rows count as independent.

Where days differ, they differ in one way (all numbers a little higher), and that has a heavier tail than the many ways in which rows
scatter. So a p-value is then Student's, of the distance as a multiple of its root mean square: the heaviest that it can have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

Floats = np.ndarray[Any, np.dtype[np.float64]]
_KOLMOGOROV = np.pi**2 / 12  # mean of the square of Kolmogorov's limit
_HALF = 0.5  # added to every count of a PSI: an empty bin would make it infinite


def shares(counts: Any) -> Floats:
    """Counts as shares of their sum; zero where there are none."""
    counts = np.asarray(counts, dtype=np.float64)
    made: Floats = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)
    return made


def psi(window: Any, reference: Any, noise: Any) -> Floats:
    """Population stability index without its bias, at least 0.

    Without drift its mean is ``(bins - 1) (1/n + 1/m)`` (Yurdakul 2018, "Statistical Properties of Population Stability Index"), which is
    taken off. *noise* stands for ``1/n + 1/m``.
    """
    p, q = shares(np.asarray(window) + _HALF), shares(np.asarray(reference) + _HALF)
    raw = ((p - q) * np.log(p / q)).sum(axis=-1)
    return np.asarray(np.maximum(0.0, raw - (p.shape[-1] - 1) * np.asarray(noise)))


def ks(window: Any, reference: Any) -> Floats:
    """Largest distance of the cumulative distributions at the edges of the bins: at most the true Kolmogorov-Smirnov distance."""
    gaps: Floats = np.abs(np.cumsum(shares(window) - shares(reference), axis=-1)).max(axis=-1)
    return gaps


def ks_p(distance: Any, noise: Any, freedom: int = 0) -> Floats:
    """How likely chance makes such a `ks`. For independent rows by Kolmogorov's limit, which errs on the safe side for binned numbers."""
    ratio = np.asarray(distance, dtype=np.float64) ** 2 / np.maximum(noise, 1e-300)
    if freedom:
        return _student(ratio / _KOLMOGOROV, freedom)
    return np.asarray(special.kolmogorov(np.sqrt(ratio)), dtype=np.float64)


def squares(window: Any, reference: Any) -> Floats:
    """Pearson's chi-squared of two samples, divided by what `chi2_p` takes as noise: the sum of ``(p - q)^2 / r`` over the bins.

    ``r`` is the share of both together, each weighing the same, so that a bin that only one of them knows is measured too.
    """
    p, q = shares(window), shares(reference)
    both = (p + q) / 2
    found: Floats = np.divide((p - q) ** 2, both, out=np.zeros_like(both), where=both > 0).sum(axis=-1)
    return found


def chi2_p(square: Any, bins: Any, noise: Any, freedom: int = 0) -> Floats:
    """How likely chance makes such `squares` with *bins* bins: for independent rows by chi-squared."""
    ways, ratio = np.maximum(np.asarray(bins) - 1, 1), np.asarray(square, dtype=np.float64) / np.maximum(noise, 1e-300)
    if freedom:
        return _student(ratio / ways, freedom)
    return np.asarray(special.chdtrc(ways, ratio), dtype=np.float64)


def _student(ratio: Floats, freedom: int) -> Floats:
    """How likely Student's t is as far from 0 as the root of *ratio*."""
    return np.asarray(2 * special.stdtr(freedom, -np.sqrt(ratio)), dtype=np.float64)


def cramers_v(window: Any, reference: Any) -> Floats:
    """Cramér's V of two samples by category, each weighing the same: 0 for equal shares, 1 for nothing in common."""
    return np.sqrt(squares(window, reference)) / 2


def holm(p: Any) -> Floats:
    """p-values corrected for their number along the last axis (Holm 1979)."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, axis=-1)
    ranked = np.take_along_axis(p, order, axis=-1) * np.arange(p.shape[-1], 0, -1)
    ranked = np.minimum(1.0, np.maximum.accumulate(ranked, axis=-1))
    corrected: Floats = np.empty_like(p)
    np.put_along_axis(corrected, order, ranked, axis=-1)
    return corrected


def between_days(days: Any, phases: Any, test: str) -> float:
    """By how much the days of a reference differ more than chance makes independent rows differ.

    *days* are counts (days, bins), *phases* the day of the week of each. Each day is compared with the others of its phase; a squared
    distance, divided by its mean under Kolmogorov's limit (``ks``) or its degrees of freedom (``chi2``), is ``1/n + 1/m`` for independent
    rows, and what it is more is days that differ: an estimate by moments. 0 where no phase has two days.
    """
    days, phases = np.asarray(days, dtype=np.float64), np.asarray(phases)
    filled = days.sum(axis=-1) > 0
    days, phases = days[filled], phases[filled]
    if not len(days):
        return 0.0
    sums, counts = np.zeros((phases.max() + 1, days.shape[-1])), np.bincount(phases)
    np.add.at(sums, phases, days)
    usable = counts[phases] > 1
    if not usable.any():
        return 0.0
    ours, others = days[usable], (sums[phases] - days)[usable]
    square = ks(ours, others) ** 2 / _KOLMOGOROV if test == "ks" else squares(ours, others) / max(1, days.shape[-1] - 1)
    chance = 1 / ours.sum(axis=-1) + 1 / others.sum(axis=-1)
    return max(0.0, float(np.mean((square - chance) / (1 + 1 / (counts[phases][usable] - 1)))))


def block_bootstrap(sums: Any, counts: Any, block: int) -> tuple[Floats, Floats]:
    """Mean of the rows behind *sums* and *counts* (..., hours), and its standard error by a block bootstrap over the hours.

    The circular block bootstrap (Politis and Romano 1992) draws runs of *block* hours. Of a mean, linear in the runs, its variance has a
    closed form, which is what infinitely many draws give: the mean square of a run's deviation, times the number of runs drawn.
    """
    sums, counts = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    hours, rows = sums.shape[-1], np.maximum(counts.sum(axis=-1), 1e-300)
    mean = sums.sum(axis=-1) / rows
    block = max(1, min(block, hours // 2))
    deviation = sums - mean[..., None] * counts
    wrapped = np.concatenate([deviation, deviation[..., : block - 1]], axis=-1) if block > 1 else deviation
    total = np.cumsum(np.concatenate([np.zeros((*wrapped.shape[:-1], 1)), wrapped], axis=-1), axis=-1)
    runs = total[..., block:] - total[..., :-block]
    return mean, np.sqrt((runs**2).mean(axis=-1) * hours / block) / rows


def rise_p(rise: Any, error: Any) -> Floats:
    """How likely chance makes a mean rise by as much, given its standard error: one-sided, normal."""
    return np.asarray(special.ndtr(-np.asarray(rise) / np.maximum(error, 1e-300)), dtype=np.float64)
