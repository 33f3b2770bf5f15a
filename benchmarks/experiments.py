"""Experiments that are looked at daily: how often they find what is not there, and how soon what is.

Each simulated experiment runs through `perdure.rollout.comparison.judge`, as a real one does, with a look a day for four weeks. Units come
by chance, some once, some daily, and what their rows are worth hangs together. A/A: both arms are alike, so every winner is false.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.common import record
from perdure.messages.experiment import ExperimentState
from perdure.rollout.comparison import judge
from perdure.spec.experiment import Experiment

DAYS, UNITS = 28, 8_000
Floats = NDArray[np.float64]
Draw = Callable[[Generator, int, Floats], Floats]
"""What *n* rows are worth, given something between 0 and 1 of each row's unit."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What comes in: rows worth *draw*; *returning*: the share of units that come back, up to daily; *lift* is added in the first arm."""

    name: str
    draw: Draw
    returning: float = 0.0
    lift: float = 0.0
    share: float = 50
    units: int = UNITS
    spec: dict[str, Any] = field(default_factory=dict)


def rare(rate: float) -> Draw:
    """True with so small a probability, which varies among units."""
    return lambda random, n, of: (random.random(n) < 2 * rate * of).astype(np.float64)


def gaussian(random: Generator, n: int, of: Floats) -> Floats:
    """Bell-shaped, a third of the variance among units."""
    return random.standard_normal(n) + 2.5 * of


def lognormal(random: Generator, n: int, of: Floats) -> Floats:
    """Revenue: most rows nothing, few a lot, by a factor of thousands."""
    return (random.random(n) < 0.2 * of) * np.exp(2 * random.standard_normal(n))


def pareto(random: Generator, n: int, of: Floats) -> Floats:
    """Tails so heavy that the third moment is infinite."""
    return random.pareto(2.2, n) * (0.5 + of)


def loyal(random: Generator, n: int, of: Floats) -> Floats:
    """Rows of a unit are nearly all alike."""
    return (of < 0.3).astype(np.float64) + 0.05 * random.standard_normal(n)


def simulate(world: World, seed: int) -> tuple[ExperimentState, int]:
    """How one experiment ends, and after how many days."""
    random = np.random.default_rng(seed)
    spec = Experiment(metric="reward", share=world.share, max_duration=f"{DAYS}d", **world.spec)
    units = random.poisson(world.units)
    first, of, arm = random.integers(0, DAYS, units), random.random(units), random.random(units) < world.share / 100
    often = np.where(random.random(units) < world.returning, random.random(units), 0.0)
    total, rows = np.zeros(units), np.zeros(units)
    for day in range(DAYS):
        here = np.flatnonzero((first == day) | ((first < day) & (random.random(units) < often)))
        total[here] += world.draw(random, len(here), of[here]) + world.lift * arm[here]
        rows[here] += 1
        figures = {name: _arm(total, rows, which) for name, which in (("challenger", arm), ("champion", ~arm))}
        judged = judge(spec, figures, over=day == DAYS - 1)
        if judged.state is not ExperimentState.RUNNING:
            return judged.state, day + 1
    raise AssertionError("the last look decides")


def _arm(total: Floats, rows: Floats, which: NDArray[np.bool_]) -> dict[str, Any]:
    seen = which & (rows > 0)
    means = total[seen] / rows[seen]
    some = len(means) > 1
    return {
        "seen": len(means),
        "units": len(means),
        "mean": float(means.mean()) if some else None,
        "variance": float(means.var(ddof=1)) if some else None,
    }


ALIKE = [
    World(name="bell-shaped, one row a unit", draw=gaussian),
    World(name="bell-shaped, units come back", draw=gaussian, returning=0.6),
    World(name="rows of a unit nearly alike, units come back", draw=loyal, returning=0.8),
    World(name="rate of 5 %", draw=rare(0.05), returning=0.3),
    World(name="rate of 1 %", draw=rare(0.01)),
    World(name="rate of 0.2 %", draw=rare(0.002)),
    World(name="rate of 1 %, 10 % of the units", draw=rare(0.01), share=10),
    World(name="rate of 0.2 %, 90 % of the units", draw=rare(0.002), share=90),
    World(name="revenue, units come back", draw=lognormal, returning=0.3),
    World(name="revenue, 10 % of the units", draw=lognormal, share=10),
    World(name="infinite third moment", draw=pareto, returning=0.3),
    World(name="100 units at the first verdict, rate of 2 %", draw=rare(0.02), spec={"min_units": 100}),
]
UNLIKE = [
    World(name="rate of 5 % against 6.5 %", draw=rare(0.05), lift=0.015, units=40_000),
    World(name="a tenth of a standard deviation", draw=gaussian, lift=0.12, returning=0.3),
    World(name="a fifth of a standard deviation", draw=gaussian, lift=0.25, returning=0.3),
    World(name="worse by a tenth of a standard deviation", draw=gaussian, lift=-0.12, returning=0.3),
]


def daily_test(world: World, seed: int) -> bool:
    """Whether a test for one look, repeated daily, would have found something."""
    random = np.random.default_rng(seed)
    units = random.poisson(world.units)
    day, of, arm = random.integers(0, DAYS, units), random.random(units), random.random(units) < world.share / 100
    worth = world.draw(random, units, of)
    for last in range(DAYS):
        one, other = (worth[(day <= last) & which] for which in (arm, ~arm))
        if min(len(one), len(other)) >= 500:
            error = np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
            if abs(one.mean() - other.mean()) > 1.96 * error > 0:
                return True
    return False


def main(experiments: int = 2_000) -> None:
    """All worlds."""
    alike = []
    for world in ALIKE:
        ends = [simulate(world, seed)[0] for seed in range(experiments)]
        counts = {state: ends.count(state) for state in (ExperimentState.CHALLENGER, ExperimentState.CHAMPION)}
        alike.append({"world": world.name, **{f"false_{name}": count / experiments for name, count in counts.items()}})
        print(alike[-1], flush=True)
    unlike = []
    for world in UNLIKE:
        wanted = ExperimentState.CHALLENGER if world.lift > 0 else ExperimentState.CHAMPION
        found = [simulate(world, seed) for seed in range(experiments // 10)]
        days = [day for state, day in found if state is wanted]
        unlike.append({"world": world.name, "found": len(days) / len(found), "days": statistics.median(days) if days else None})
        print(unlike[-1], flush=True)
    naive = sum(daily_test(ALIKE[0], seed) for seed in range(experiments)) / experiments
    worst = max(each["false_challenger"] + each["false_champion"] for each in alike)
    record(
        "experiments",
        {
            "experiments": experiments,
            "looks": DAYS,
            "alike": alike,
            "unlike": unlike,
            "daily_test_false": naive,
            "worst_false": worst,
            "aim": "<= 0.05",
        },
    )


if __name__ == "__main__":
    main(*[int(argument) for argument in sys.argv[1:]])
