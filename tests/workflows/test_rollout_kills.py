"""Everything is killed in the middle of a rollout: the short form of `python -m benchmarks.rollout_kills`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from perdure.config import Settings
from perdure.local import stack as local
from perdure.local.files import Home
from perdure.messages.promotion import PromoteRequest, PromotionResult
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.temporal import connect
from perdure.workflows.policies import MAIN
from tests.chaos import parts
from tests.metadata.world import World
from tests.workflows.test_rollout import spec

PARTS = {"postgres", "s3", "temporal", "worker"}


@pytest.fixture
def home(new_home: Callable[[], Path]) -> Iterator[Path]:
    home = new_home()
    local.up(home, only=PARTS, echo=lambda _: None, tied=True)
    yield home
    local.down(home)


@pytest.mark.long
async def test_a_rollout_is_never_left_between(home: Path) -> None:
    settings, chosen = Settings(home=home), random.Random(5)
    with Database.open(settings) as database:
        world = World(database)
        champion = world.released("1")
        promotion = world.promotion(world.run("2", spec=spec({"shadow": "2s"}, {"canary": 10, "bake": "2s"})), champion=champion)
        request = PromoteRequest(
            run_id=world.detail(promotion.id).run_id,
            model="moderation",
            model_version=promotion.model_version,
            evaluation=promotion.evaluation.id,
            patience=timedelta(minutes=2),
        )
    client = await connect(settings)
    await client.start_workflow("ModelPromotion", request, id="promote/moderation/2", task_queue=MAIN)
    for _ in range(2):
        await asyncio.sleep(chosen.uniform(0.3, 2.5))
        await asyncio.to_thread(_kill_and_start_again, home)
    client = await connect(settings)
    handle = client.get_workflow_handle("promote/moderation/2", result_type=PromotionResult)
    assert (await asyncio.wait_for(handle.result(), 60)).released
    with Database.open(settings) as database, database.transaction() as session:
        stages = session.scalars(select(t.Traffic).order_by(t.Traffic.since)).all()
        assert [(row.kind.value, row.outcome) for row in stages] == [("standby", "passed"), ("shadow", "passed"), ("canary", "passed")]
        serving = session.scalars(select(t.Release.model_version_id).where(t.Release.until.is_(None))).all()
        assert serving == [promotion.model_version]


def _kill_and_start_again(home: Path) -> None:
    assert parts.kill(home, "all", list)
    deadline = time.monotonic() + 30
    while local.running(Home(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    local.up(home, only=PARTS, echo=lambda _: None, tied=False)
