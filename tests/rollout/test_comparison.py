"""What figures of an experiment come to, and how often looking daily finds what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.experiments import World, gaussian, rare, simulate
from perdure.messages.common import Json
from perdure.messages.experiment import ExperimentState
from perdure.messages.rollout import Verdict
from perdure.rollout.comparison import Judged, judge, stage_look
from perdure.spec.experiment import Experiment

RUNNING, CHALLENGER, CHAMPION, INCONCLUSIVE, STOPPED = ExperimentState


def spec(metric: str = "reward", **changed: Any) -> Experiment:
    return Experiment.model_validate({"metric": metric, **changed})


def figures(one: float, other: float, units: int = 5_000, variance: float = 0.25, **changed: Json) -> Json:
    arms = {"challenger": one, "champion": other}
    return {
        name: {"seen": units, "units": units, "mean": mean, "variance": variance, **changed.get(name, {})} for name, mean in arms.items()
    }


@pytest.mark.parametrize(
    ("given", "found", "over", "state", "told"),
    [
        ({}, figures(0.60, 0.50), False, CHALLENGER, "the candidate is better: reward 0.6 of 5,000 units against 0.5 of 5,000; gain +0.1"),
        ({}, figures(0.50, 0.60), False, CHAMPION, "the candidate is worse"),
        ({"metric": "error"}, figures(0.50, 0.60), False, CHALLENGER, "the candidate is better: error 0.5 of"),
        ({"metric": "error"}, figures(0.60, 0.50), False, CHAMPION, "gain -0.1"),
        ({}, figures(0.51, 0.50), False, RUNNING, "not decided yet"),
        ({}, figures(0.51, 0.50), True, INCONCLUSIVE, "time is over and neither is better"),
        ({"min_effect": 0.1}, figures(0.51, 0.50), False, INCONCLUSIVE, "no difference that matters (min_effect 0.1)"),
        ({"min_effect": 0.02}, figures(0.51, 0.50), False, RUNNING, "not decided yet"),
        ({"min_effect": 0.5}, figures(0.60, 0.50), False, CHALLENGER, "the candidate is better"),
        ({}, figures(0.9, 0.1, units=499), False, RUNNING, "499 and 499 units with an outcome; 500 are needed in each arm"),
        ({}, figures(0.9, 0.1, units=499), True, INCONCLUSIVE, "500 are needed"),
        ({}, figures(0.9, 0.1, challenger={"seen": 4_000}), False, INCONCLUSIVE, "no fair samples: 4,000 and 5,000 units came"),
        ({"share": 80}, figures(0.9, 0.1, challenger={"seen": 20_000}), False, CHALLENGER, "the candidate is better"),
    ],
)
def test_a_look_says_which_is_better_and_why(given: Json, found: Json, over: bool, state: ExperimentState, told: str) -> None:
    judged = judge(spec(**given), found, over=over)
    assert judged.state is state
    assert told in judged.reason


def test_an_arm_without_any_unit_is_waited_for() -> None:
    nobody: Json = {"seen": 0, "units": 0, "mean": None, "variance": None}
    assert judge(spec(), {"challenger": nobody, "champion": nobody}, over=False).state is RUNNING


def test_what_follows_for_the_rollout() -> None:
    compared = judge(spec(), figures(0.51, 0.50), over=True)
    assert stage_look(compared, spec()).verdict is Verdict.FAILED
    assert stage_look(compared, spec(on_inconclusive="release")).verdict is Verdict.PASSED
    too_few = judge(spec(), figures(0.9, 0.1, units=10), over=True)
    assert stage_look(too_few, spec(on_inconclusive="release")).verdict is Verdict.FAILED
    for state, verdict in {RUNNING: Verdict.GO_ON, CHALLENGER: Verdict.PASSED, CHAMPION: Verdict.FAILED, STOPPED: Verdict.FAILED}.items():
        assert stage_look(Judged(state=state, reason="so"), spec(on_inconclusive="release")).verdict is verdict


ALIKE = [
    World(name="units come back", draw=gaussian, returning=0.6, units=4_000),
    World(name="a small rate", draw=rare(0.02), units=4_000, spec={"min_units": 100}),
]


@pytest.mark.parametrize("world", ALIKE, ids=lambda world: world.name)
def test_two_arms_alike_are_seldom_told_apart_whatever_the_looks(world: World) -> None:
    """The same in twelve worlds, 2,000 times each, is benchmarks/experiments.py."""
    ends = [simulate(world, seed)[0] for seed in range(100)]
    assert sum(end in (CHALLENGER, CHAMPION) for end in ends) <= 5


@pytest.mark.parametrize(("lift", "state"), [(0.3, CHALLENGER), (-0.3, CHAMPION)])
def test_a_difference_is_found(lift: float, state: ExperimentState) -> None:
    world = World(name="a quarter of a standard deviation", draw=gaussian, returning=0.3, units=8_000, lift=lift)
    found = [simulate(world, seed) for seed in range(10)]
    assert all(end is state and days < 14 for end, days in found)
