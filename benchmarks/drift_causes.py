"""``python -m benchmarks.drift_causes [YEARS]``: what each part of the statistics keeps quiet in years without drift (docs/adr/0010).

The same worlds (`benchmarks.drift_world`) are looked at with parts left out: days of the week, the effective number of rows, Student's p.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from benchmarks.common import record
from benchmarks.drift_world import YEAR, Simulation, World, confirmed
from perdure.monitoring.reference import Normal
from perdure.spec.monitor import Effect, Monitor


class _Limit(Normal):
    """Distances are judged by Kolmogorov's limit, also where days differ."""

    def freedom(self, test: str = "shape") -> int:
        return 0


def _rows(normal: Normal) -> Normal:
    return replace(normal, variance={"shape": 0.0, "missing": 0.0})


def _rows_of_any_day(normal: Normal) -> Normal:
    whole = {name: getattr(normal, name).sum(axis=0, keepdims=True) for name in ("counts", "missing", "days")}
    return replace(_rows(normal), **whole)


def _limit(normal: Normal) -> Normal:
    return _Limit(**{each.name: getattr(normal, each.name) for each in fields(normal)})


PARTS: dict[str, Callable[[Normal], Normal]] = {
    "rows are independent, days of the week are not told apart": _rows_of_any_day,
    "rows are independent": _rows,
    "effective rows, by Kolmogorov's limit": _limit,
    "effective rows, by Student's t (as it is)": lambda normal: normal,
}
WORLDS = {
    "default": (World(), Monitor()),
    "weather half as strong again, effect.ks 0.1": (World(lasting=0.15), Monitor(effect=Effect(ks=0.1))),
}


def alarms(part: Callable[[Normal], Normal], world: World, monitor: Monitor, years: int) -> dict[str, Any]:
    """The share of looks at requests that drifted, and years in which three windows in a row did."""
    shares, believed = [], 0
    for seed in range(years):
        simulation = Simulation(seed, world, monitor)
        simulation._normals = [part(normal) for normal in simulation._normals]
        (looks,) = simulation.looks(YEAR, chunk=YEAR)
        shares.append(float(looks.drifted["requests"].mean()))
        believed += confirmed(looks, "requests", 3) is not None
    return {"looks": round(float(np.mean(shares)), 4), "years_confirmed": believed}


if __name__ == "__main__":
    years = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    told = {name: {what: alarms(part, world, monitor, years) for what, part in PARTS.items()} for name, (world, monitor) in WORLDS.items()}
    record("drift_causes", {"years": years, "drifted": told})
