"""A model's requests as they might go on for years: hourly, with a day, a week and weather that lasts; and what the monitors see of them.

Each feature's level moves with the hour of the day, the day of the week, and an autoregressive part of which some is common to all; so do
class shares and errors. Nothing drifts, unless a `Drift` is planted. Windows are looked at each hour, by the functions that a real look
uses (`perdure.monitoring`), on the counts that a real look makes: only the rows themselves are never drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.special import expit, ndtr, ndtri

from perdure.monitoring import drift
from perdure.monitoring.bins import NUMBERS, Bins
from perdure.monitoring.reference import WEEK, Normal, phase
from perdure.monitoring.statistics import Floats, between_days, block_bootstrap, holm
from perdure.spec.monitor import Monitor

DAY, YEAR = 24, 8_760
BLOCK = 6  # hours that the block bootstrap draws together
MONITORS = ("requests", "labels", "predictions", "quality")


@dataclass(frozen=True, kw_only=True)
class World:
    """How requests vary without drift. Sizes are in standard deviations of a feature within an hour."""

    features: int = 50
    rows: int = 200  # an hour
    daily: float = 0.3  # amplitude over a day
    weekly: float = 0.3  # amplitude over a week
    lasting: float = 0.1  # standard deviation of the autoregressive part
    memory: float = 0.95  # its correlation from one hour to the next
    common: float = 0.3  # share of its variance that all features have together
    weeks: int = 8  # that the reference was taken from
    error: float = 0.10  # mean share of wrong predictions


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What changes from hour *start* on: a shift of some features, in standard deviations, or more errors."""

    start: int
    features: int = 0
    shift: float = 0.0
    error: float = 0.0


@dataclass(frozen=True)
class Looks:
    """Looks at windows of `DAY` hours. ``ends`` are hours since the start of the simulation; arrays have a place for each look."""

    ends: np.ndarray[Any, np.dtype[np.int64]]
    drifted: dict[str, np.ndarray[Any, np.dtype[np.bool_]]]
    severity: dict[str, Floats]


@dataclass
class _Hours:
    """Counts by hour."""

    features: Floats  # (hours, features + 1, bins), the last one is the prediction
    labels: Floats  # (hours, 2)
    errors: Floats  # (hours,)


@dataclass
class Simulation:
    """One model's requests, made hour by hour from *seed*, and the reference of the weeks before."""

    seed: int
    world: World = field(default_factory=World)
    monitor: Monitor = field(default_factory=Monitor)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        columns = self.world.features + 3  # the features, the prediction, the label, the error
        self._columns = columns
        self._angles = self._random.uniform(0, 2 * np.pi, (2, columns))
        self._state = self._random.normal(size=columns + 1)  # of the autoregressive parts; the last one is the common one
        self._hour = 0
        spread = np.sqrt(1 + self.world.daily**2 / 2 + self.world.weekly**2 / 2 + self.world.lasting**2)
        self._edges = ndtri(np.arange(1, NUMBERS) / NUMBERS) * spread
        self._learn(self._hours(self.world.weeks * WEEK * DAY, None))
        self._hour = self._start = self.world.weeks * WEEK * DAY
        self._held: _Hours | None = None

    def looks(self, hours: int, planted: Drift | None = None, chunk: int = 8 * WEEK * DAY) -> Iterator[Looks]:
        """All hourly looks of the next *hours* hours, in pieces; hours count from the end of the reference."""
        left = hours
        while left > 0:
            step = min(left, chunk)
            left -= step
            made = self._hours(step, planted)
            if self._held is not None:
                pairs = zip(
                    (self._held.features, self._held.labels, self._held.errors), (made.features, made.labels, made.errors), strict=True
                )
                made = _Hours(*(np.concatenate([held[-(DAY - 1) :], new]) for held, new in pairs))
            self._held = made
            yield self._look(made)

    def _levels(self, hours: int, planted: Drift | None) -> Floats:
        """(hours, columns): how far each column stands from its mean."""
        world, at = self.world, np.arange(self._hour, self._hour + hours)
        noise = self._random.normal(size=(hours, self._columns + 1)) * np.sqrt(1 - world.memory**2)
        walk, _ = lfilter([1.0], [1.0, -world.memory], noise, axis=0, zi=world.memory * self._state[None, :])
        self._state = walk[-1]
        lasting = np.sqrt(1 - world.common) * walk[:, :-1] + np.sqrt(world.common) * walk[:, -1:]
        level = world.lasting * lasting
        level += world.daily * np.sin(2 * np.pi * at[:, None] / DAY + self._angles[0])
        level += world.weekly * np.sin(2 * np.pi * at[:, None] / (WEEK * DAY) + self._angles[1])
        if planted is not None and planted.features:
            level[at >= self._start + planted.start, : planted.features] += planted.shift
        return level

    def _hours(self, hours: int, planted: Drift | None) -> _Hours:
        world, level = self.world, self._levels(hours, planted)
        below = ndtr(self._edges - level[:, : world.features + 1, None])
        places = np.diff(np.concatenate([np.zeros((*below.shape[:2], 1)), below, np.ones((*below.shape[:2], 1))], axis=2), axis=2)
        counts = self._random.multinomial(world.rows, places).astype(np.float64)
        positive = self._random.binomial(world.rows, expit(-1 + 0.5 * level[:, -2])).astype(np.float64)
        rate = world.error * (1 + 0.2 * level[:, -1])
        if planted is not None and planted.error:
            rate[np.arange(self._hour, self._hour + hours) >= self._start + planted.start] += planted.error
        errors = self._random.binomial(world.rows, np.clip(rate, 0, 1)).astype(np.float64)
        self._hour += hours
        return _Hours(counts, np.stack([positive, world.rows - positive], axis=1), errors)

    def _learn(self, hours: _Hours) -> None:
        days = len(hours.errors) // DAY
        of_day = phase(np.arange(days))
        numbers = [Bins(str(index), "number", edges=self._edges) for index in range(self.world.features + 1)]
        self._normals = [_normal(bins, hours.features[:, index], of_day) for index, bins in enumerate(numbers)]
        self._label = _normal(Bins("label", "category", categories=("yes", "no")), hours.labels, of_day)
        self._usual, self._usual_error = block_bootstrap(hours.errors, np.full(len(hours.errors), self.world.rows), BLOCK)

    def _look(self, made: _Hours) -> Looks:
        """Every window of a day in *made*, by what a real look does with its counts."""
        last = self._hour
        first = last - len(made.errors) + DAY  # the end of the first whole window
        ends = np.arange(first, last + 1)
        weights = np.stack([np.bincount(phase(np.arange(end - DAY, end) // DAY), minlength=WEEK) for end in ends]).astype(np.float64)
        rows = self.world.rows * DAY
        windows = _rolling(made.features)
        moved = [
            drift.numbers(windows[:, index], normal.expected(weights), normal.noise(rows, 1.0, weights), normal.freedom(), self.monitor)
            for index, normal in enumerate(self._normals)
        ]
        told = self._label
        label = drift.categories(
            _rolling(made.labels), told.expected(weights), told.noise(rows, 1.0, weights), told.freedom(), self.monitor
        )
        found = {"requests": moved[:-1], "predictions": moved[-1:], "labels": [label]}
        drifted = {name: self._decided(each) for name, each in found.items()}
        severity = {name: np.max([one.severity for one in each], axis=0) for name, each in found.items()}
        hourly = np.lib.stride_tricks.sliding_window_view(made.errors, DAY)
        mean, error = block_bootstrap(hourly, np.full_like(hourly, self.world.rows), BLOCK)
        rise, large, p = drift.worse(mean, error, self._usual, self._usual_error, "classification", self.monitor)
        drifted["quality"], severity["quality"] = large & (p < self.monitor.alpha), np.clip(rise, 0, 1)
        return Looks(ends - self._start, drifted, severity)

    def _decided(self, moved: list[drift.Moved]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        corrected = holm(np.stack([each.p for each in moved], axis=-1))
        found: np.ndarray[Any, np.dtype[np.bool_]] = (
            np.stack([each.large for each in moved], axis=-1) & (corrected < self.monitor.alpha)
        ).any(axis=-1)
        return found


def _normal(bins: Bins, hours: Floats, of_day: Any) -> Normal:
    """The reference of one column's hours."""
    days = hours.reshape(-1, DAY, hours.shape[-1]).sum(axis=1)
    counts = np.zeros((WEEK, days.shape[1]))
    np.add.at(counts, of_day, days)
    variance = between_days(days, of_day, "chi2" if bins.kind == "category" else "ks")
    return Normal(bins, counts, np.zeros(WEEK), np.bincount(of_day, minlength=WEEK).astype(float), {"shape": variance, "missing": 0.0})


def _rolling(hours: Floats) -> Floats:
    """Sums over each `DAY` hours."""
    total = np.cumsum(np.concatenate([np.zeros((1, *hours.shape[1:])), hours]), axis=0)
    made: Floats = total[DAY:] - total[:-DAY]
    return made


def confirmed(looks: Looks, monitor: str, confirm: int, since: int = 0) -> int | None:
    """The end of the window that is the *confirm*-th drifted one in a row of windows that share no data; None where there is none.

    As a policy counts, in its simplest form: a quiet window that begins after the last counted one starts again. For the power; false
    actions are counted by the policy itself (`benchmarks.false_actions`).
    """
    hits, counted = 0, -DAY
    for end, drifted in zip(looks.ends, looks.drifted[monitor], strict=True):
        if end - DAY < max(since, counted):
            continue
        hits, counted = (hits + 1 if drifted else 0), end
        if hits == confirm:
            return int(end)
    return None
