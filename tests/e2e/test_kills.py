"""kill -9 of every part, on the real stack: the short form of `make chaos`. Each run must end like an undisturbed one."""

from __future__ import annotations

import random

import pytest

from tests.chaos.cells import World


@pytest.fixture(scope="module", autouse=True)
def _undisturbed(world: World) -> None:
    assert world.run({}, random.Random(0)).good


@pytest.mark.parametrize(
    "kills",
    [
        {"train": "all"},
        *(
            pytest.param(kills, marks=pytest.mark.long)
            for kills in (
                {"prepare": "temporal-server", "train": "ray-worker", "evaluate": "postgres", "promote": "temporal-worker"},
                {"prepare": "s3", "train": "ray-driver", "evaluate": "mlflow", "promote": "temporal-server"},
                {"prepare": "temporal-worker", "train": "ray-head"},
            )
        ),
    ],
    ids=lambda kills: "+".join(kills.values()),
)
def test_a_run_survives(world: World, kills: dict[str, str]) -> None:
    for attempt in range(3):
        outcome = world.run(kills, random.Random(f"{kills}/{attempt}"))
        if not outcome.missed:
            break
    assert outcome.good, outcome
