"""The short version of `python -m benchmarks.drift`: no alarms in weeks without drift, planted drift is found."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift_world import DAY, Drift, Simulation, World, confirmed
from perdure.spec.monitor import Effect, Monitor

MONTH = 28 * DAY
SMALL = World(features=12)


def test_a_month_without_drift_confirms_nothing() -> None:
    for seed in (1, 2):
        (looks,) = Simulation(seed, SMALL).looks(MONTH, chunk=MONTH)
        assert len(looks.ends) == MONTH - DAY + 1
        assert {name: confirmed(looks, name, 3) for name in looks.drifted} == dict.fromkeys(looks.drifted)
        assert max(found.mean() for found in looks.drifted.values()) < 0.05


@pytest.mark.parametrize(("planted", "monitor"), [({"features": 3, "shift": 0.5}, "requests"), ({"error": 0.05}, "quality")])
def test_planted_drift_is_confirmed_within_four_windows(planted: dict[str, float], monitor: str) -> None:
    for seed in range(2):
        start = 48 + 70 * seed
        looks = next(Simulation(seed, World(weeks=6)).looks(start + 4 * DAY, Drift(start=start, **planted)))  # type: ignore[arg-type]
        assert confirmed(looks, monitor, 3, since=start) is not None


def test_without_what_days_say_the_same_weeks_are_full_of_alarms() -> None:
    simulation = Simulation(1, World(lasting=0.15, features=12), Monitor(effect=Effect(ks=0.1)))
    for normal in simulation._normals:
        normal.variance["shape"] = 0.0
    (looks,) = simulation.looks(MONTH, chunk=MONTH)
    assert looks.drifted["requests"].mean() > 0.1


def test_pieces_of_a_simulation_join_without_a_gap() -> None:
    pieces = list(Simulation(3, SMALL).looks(200, chunk=70))
    ends = np.concatenate([each.ends for each in pieces])
    assert ends.tolist() == list(range(DAY, 201))
