"""A promotion with an experiment, on real rows; what the job would find in the inference log is said by the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select
from temporalio import workflow
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from perdure.activities.experiment import ExperimentActivities
from perdure.activities.guard import Guard, stop_if_asked
from perdure.activities.jobs import JobEnd, JobRunner, Watched
from perdure.activities.promotion import PromotionActivities
from perdure.activities.rollout import RolloutActivities
from perdure.adapters.outcome_files import ParquetOutcomes
from perdure.adapters.s3 import ObjectStore
from perdure.messages.common import Json
from perdure.messages.experiment import ExperimentState
from perdure.messages.jobs import JobKind, Latest
from perdure.messages.promotion import PromoteRequest, PromotionResult
from perdure.metadata import tables as t
from perdure.metadata.repository import ExperimentRows, OutcomeRows, TrafficRows
from perdure.temporal import connect
from perdure.workflows.policies import DATA, MAIN
from perdure.workflows.promotion import ModelPromotion
from tests.metadata.world import World
from tests.servers import Stack

Promotion = WorkflowHandle[Any, PromotionResult]


@dataclass
class Figures:
    """What the jobs of the looks find, one after the other; None: one that never ends."""

    gains: list[float | None]
    asked: list[Watched] = field(default_factory=list)

    def run(self, job: Watched) -> JobEnd:
        self.asked.append(job)
        gain = self.gains[min(len(self.asked), len(self.gains)) - 1]
        while gain is None:
            stop_if_asked()
            time.sleep(0.02)
        arm = {"seen": 5_000, "rows": 9_000, "judged": 9_000, "units": 5_000, "variance": 0.25}
        found = {"champion": {**arm, "version": 1, "mean": 0.5}, "challenger": {**arm, "version": 2, "mean": 0.5 + gain}}
        return JobEnd(result={**found, "mixed": 0, "unreadable": 0}, latest=Latest(), submissions=1)


@asynccontextmanager
async def promoted(stack: Stack, world: World, figures: Figures, *rollout: Json) -> AsyncIterator[Promotion]:
    """A promotion under way, with workers on both queues."""
    data = {"source": {"uri": "sms.tsv", "format": "tsv"}, "target": {"column": "label"}}
    spec = {"name": "moderation", "data": data, "promote": {"rollout": list(rollout)}}
    promotion = world.promotion(world.run("new", spec=spec), champion=world.released("1"))
    acts, stages = PromotionActivities(world.runs, world.steps, world.models, world.promotions), TrafficRows(world.database)
    rolling = RolloutActivities(world.runs, stages)
    files = ParquetOutcomes(ObjectStore(stack.settings.s3))
    comparing = ExperimentActivities(
        world.runs, ExperimentRows(world.database), OutcomeRows(world.database), files, cast(JobRunner, figures), "s3://perdure"
    )
    request = PromoteRequest(
        run_id=world.detail(promotion.id).run_id,
        model="moderation",
        model_version=promotion.model_version,
        evaluation=promotion.evaluation.id,
        patience=timedelta(seconds=20),
    )
    client = await connect(stack.settings)
    with ThreadPoolExecutor(4) as threads:
        common: Json = {"activity_executor": threads, "interceptors": [Guard()]}
        rows: list[Any] = [acts.open, acts.close, rolling.open, rolling.look, rolling.withdraw, rolling.command, comparing.plan]
        async with (
            Worker(client, task_queue=MAIN, workflows=[ModelPromotion], activities=rows, **common),
            Worker(client, task_queue=DATA, activities=[comparing.look], max_heartbeat_throttle_interval=timedelta(seconds=0.1), **common),
        ):
            yield await client.start_workflow(ModelPromotion.run, request, id=f"promote/{world.database.tenant}/2", task_queue=MAIN)


def experiment(**changed: Any) -> Json:
    return {"experiment": {"metric": "reward", "peek": "1s", "max_duration": "10m", **changed}}


def kept(world: World) -> tuple[t.Experiment, list[t.ExperimentLook]]:
    with world.database.transaction() as session:
        [row] = session.scalars(select(t.Experiment).where(t.Experiment.tenant == world.database.tenant))
        looks = session.scalars(select(t.ExperimentLook).where(t.ExperimentLook.experiment_id == row.id).order_by(t.ExperimentLook.number))
        return row, list(looks)


async def asked(figures: Figures, looks: int) -> None:
    async with asyncio.timeout(20):
        while len(figures.asked) < looks:
            await asyncio.sleep(0.02)


async def test_the_better_version_is_released_and_every_look_is_kept(stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow.Info, "is_continue_as_new_suggested", lambda info: info.get_current_history_length() > 30)
    figures = Figures([0.01, 0.02, 0.1])
    async with promoted(stack, world, figures, experiment(source="shop")) as handle:
        result = await handle.result()
        assert (await handle.describe()).run_id != handle.first_execution_run_id
    assert result.released
    assert "experiment of 50 %: the candidate is better: reward 0.6 of 5,000 units" in result.reason
    row, looks = kept(world)
    assert (row.state, row.ended_at is not None) == (ExperimentState.CHALLENGER, True)
    assert [look.verdict for look in looks] == [ExperimentState.RUNNING, ExperimentState.RUNNING, ExperimentState.CHALLENGER]
    assert [(look.at - row.started_at) / timedelta(seconds=1) for look in looks] == [look.number for look in looks]
    first = figures.asked[0].request
    assert (first.kind, first.inputs["champion"], first.inputs["challenger"]) == (JobKind.EXPERIMENT, 1, 2)
    assert (first.inputs["until"], first.inputs["experiment"]["source"]) == (looks[0].at.isoformat(), "shop")
    assert len({each.request.job for each in figures.asked}) == 3


async def test_the_worse_version_is_not_released(stack: Stack, world: World) -> None:
    async with promoted(stack, world, Figures([-0.1]), experiment(), {"canary": 50, "bake": "1h"}) as handle:
        result = await handle.result()
    assert not result.released
    assert "the candidate is worse" in result.reason
    assert kept(world)[0].state is ExperimentState.CHAMPION


async def test_what_is_alike_at_the_end_follows_the_specification(stack: Stack, world: World) -> None:
    async with promoted(stack, world, Figures([0.0]), experiment(max_duration="1s", on_inconclusive="release")) as handle:
        result = await handle.result()
    assert result.released
    assert kept(world)[0].state is ExperimentState.INCONCLUSIVE


async def test_probes_end_an_experiment_at_once_whatever_its_look_does(stack: Stack, world: World) -> None:
    figures = Figures([None])
    async with promoted(stack, world, figures, experiment()) as handle:
        await asked(figures, 1)
        row, _ = kept(world)
        instance, mine = uuid4(), {"tenant": world.database.tenant}
        window = {
            "role": "arm",
            "by_id": row.id,
            "minute": func.date_trunc("minute", func.now()),
            "requests": 100,
            "rows": 100,
            "errors": 7,
        }
        with world.database.transaction() as session:
            session.execute(insert(t.ServingInstance).values(**mine, id=instance, address="x", loaded=[], failed={}))
            counted = insert(t.ServingWindow).values(**mine, instance_id=instance, model_version_id=row.challenger_id, **window)
            session.execute(counted.values(latency=[100], disagreements=0))
        await handle.signal("poke")
        began = time.monotonic()
        result = await handle.result()
        assert time.monotonic() - began < 20, "the look would never have ended"
    assert not result.released
    row, looks = kept(world)
    assert (row.state, looks) == (ExperimentState.STOPPED, [])
    assert "7.00% of the requests failed" in row.reason


async def test_a_cancelled_promotion_stops_its_experiment(stack: Stack, world: World) -> None:
    figures = Figures([None])
    async with promoted(stack, world, figures, experiment()) as handle:
        await asked(figures, 1)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    row, _ = kept(world)
    assert (row.state, row.reason) == (ExperimentState.STOPPED, "cancelled")
