"""A promotion goes through the stages of its rollout, on real rows; what serving processes would count is written by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import CancelledError
from temporalio.service import RPCError
from temporalio.worker import Worker

from perdure.activities.guard import Guard
from perdure.activities.promotion import PromotionActivities
from perdure.activities.rollout import RolloutActivities
from perdure.messages.common import Json
from perdure.messages.promotion import PromoteRequest, PromotionResult
from perdure.metadata import tables as t
from perdure.metadata.repository import RollbackRows, TrafficRows
from perdure.spec.pipeline import load
from perdure.temporal import connect
from perdure.workflows.policies import MAIN
from perdure.workflows.promotion import ModelPromotion
from tests.metadata.world import World
from tests.servers import Stack

Rolling = WorkflowHandle[Any, PromotionResult]


def spec(*rollout: Json, **promote: Any) -> Json:
    data = {"source": {"uri": "sms.tsv", "format": "tsv"}, "target": {"column": "label"}}
    return {
        "name": "moderation",
        "owner": "trust@example.org",
        "data": data,
        "promote": {"rollout": list(rollout), "probes": {"too_few": "go_on"}, **promote},
    }


@dataclass(frozen=True)
class Promoting:
    """A promotion of the newest version, beside those released before."""

    client: Client
    request: PromoteRequest
    id: str

    async def start(self) -> Rolling:
        return await self.client.start_workflow(ModelPromotion.run, self.request, id=self.id, task_queue=MAIN)


@asynccontextmanager
async def promoting(stack: Stack, world: World, spec: Json, *, released: int = 1) -> AsyncIterator[Promoting]:
    champion = None
    for number in range(released):
        champion = world.released(str(number), champion=champion)
    required = spec["promote"].get("approval", {}).get("required", 0)
    promotion = world.promotion(world.run("new", spec=spec), required=required, champion=champion)
    request = PromoteRequest(
        run_id=world.detail(promotion.id).run_id,
        model="moderation",
        model_version=promotion.model_version,
        evaluation=promotion.evaluation.id,
        patience=timedelta(seconds=20),
    )
    client = await connect(stack.settings)
    async with working(client, world), asyncio.timeout(60):
        yield Promoting(client, request, f"promote/{world.database.tenant}/{released + 1}")


@asynccontextmanager
async def working(client: Client, world: World) -> AsyncIterator[None]:
    promotion = PromotionActivities(world.runs, world.steps, world.models, world.promotions)
    rollout = RolloutActivities(world.runs, TrafficRows(world.database))
    acts: list[Any] = [promotion.open, promotion.vote, promotion.approval, promotion.remind, promotion.close]
    acts += [rollout.open, rollout.look, rollout.staged, rollout.withdraw, rollout.command]
    with ThreadPoolExecutor(4) as threads:
        async with Worker(
            client, task_queue=MAIN, workflows=[ModelPromotion], activities=acts, activity_executor=threads, interceptors=[Guard()]
        ):
            yield


def stages(world: World) -> list[t.Traffic]:
    with world.database.transaction() as session:
        return list(session.scalars(select(t.Traffic).where(t.Traffic.tenant == world.database.tenant).order_by(t.Traffic.since)))


def serves(world: World) -> int:
    champion = world.models.champion("moderation")
    assert champion is not None
    return champion.number


async def until(world: World, kind: str, share: float = 10) -> t.Traffic:
    """The stage of this kind, once it is open."""
    async with asyncio.timeout(20):
        while True:
            for row in stages(world):
                if row.until is None and (row.kind, row.share) == (kind, share):
                    return row
            await asyncio.sleep(0.02)


def counted(world: World, row: t.Traffic, *, errors: int) -> None:
    """A process has counted a hundred requests of the candidate."""
    instance = uuid4()
    mine = {"tenant": world.database.tenant}
    with world.database.transaction() as session:
        session.execute(insert(t.ServingInstance).values(**mine, id=instance, address="x", loaded=[], failed={}))
        session.execute(
            insert(t.ServingWindow).values(
                **mine,
                instance_id=instance,
                model_version_id=row.model_version_id,
                role=str(row.kind),
                by_id=row.id,
                minute=func.date_trunc("minute", func.now()),
                requests=100,
                rows=100,
                errors=errors,
                latency=[100],
                disagreements=0,
            )
        )


async def test_a_version_is_released_after_its_last_stage(stack: Stack, world: World) -> None:
    rollout = spec({"shadow": "0.2s"}, {"canary": 10, "bake": "0.2s"}, {"canary": 50, "bake": "1h"})
    async with promoting(stack, world, rollout) as promotion:
        handle = await promotion.start()
        counted(world, await until(world, "canary", 50), errors=1)
        assert await handle.execute_update("advance", {"actor": "ann", "reason": "in a hurry"}) == "canary of 50 %"
        result = await handle.result()
        with pytest.raises(RPCError):
            await handle.execute_update("abort", {"actor": "ann"})
    assert (result.released, result.reason) == (True, "all gates passed; canary of 50 %: skipped by ann: in a hurry")
    seen = [(row.kind.value, row.share, row.outcome) for row in stages(world)]
    assert seen == [("standby", 0, "passed"), ("shadow", 100, "passed"), ("canary", 10, "passed"), ("canary", 50, "passed")]
    assert serves(world) == 2


async def test_failed_probes_roll_back(stack: Stack, world: World) -> None:
    async with promoting(stack, world, spec({"canary": 10, "bake": "1m"})) as promotion:
        handle = await promotion.start()
        counted(world, await until(world, "canary"), errors=7)
        result = await handle.result()
    said = "canary of 10 %: 7.00% of the requests failed, 1.00% may (100 requests, 7 failed)"
    assert (result.released, result.reason, stages(world)[-1].outcome) == (False, said, said)
    assert serves(world) == 1


async def test_who_aborts_a_rollout_keeps_the_released_version(stack: Stack, world: World) -> None:
    async with promoting(stack, world, spec({"canary": 10, "bake": "1h"})) as promotion:
        handle = await promotion.start()
        await until(world, "canary")
        assert await handle.execute_update("abort", {"actor": "ann", "reason": "odd"}) == "canary of 10 %"
        result = await handle.result()
    assert (result.released, result.reason) == (False, "canary of 10 %: aborted by ann: odd")
    assert serves(world) == 1


@pytest.mark.parametrize("required", [0, 1])
async def test_a_rollback_meanwhile_refuses(stack: Stack, world: World, required: int) -> None:
    rollout = spec({"canary": 10, "bake": "1h"}, approval={"required": required})
    async with promoting(stack, world, rollout, released=2) as promotion:
        handle = await promotion.start()
        if required:
            await asyncio.sleep(0.3)
        else:
            await until(world, "canary")
        RollbackRows(world.database).rollback("moderation", to=None, reason="odd", actor="ann", command_id="1")
        await handle.signal("poke")  # as the relay does
        result = await handle.result()
    assert not result.released
    assert "version 2 was rolled back by ann: odd" in result.reason
    assert serves(world) == 1


async def test_a_cancelled_rollout_is_withdrawn_and_may_begin_again(stack: Stack, world: World) -> None:
    async with promoting(stack, world, spec({"shadow": "0.1s"}, {"canary": 10, "bake": "3s"})) as promotion:
        handle = await promotion.start()
        await until(world, "canary")
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
        assert isinstance(failed.value.cause, CancelledError)
        assert (stages(world)[-1].outcome, serves(world)) == ("cancelled", 1)
        assert (await (await promotion.start()).result()).released
    outcomes = [(row.kind.value, row.outcome) for row in stages(world)]
    assert outcomes == [("standby", "passed"), ("shadow", "passed"), ("canary", "cancelled"), ("standby", "passed"), ("canary", "passed")]


async def test_a_stage_of_an_earlier_execution_is_withdrawn_too(stack: Stack, world: World) -> None:
    rollout = spec({"canary": 10, "bake": "1h"}, approval={"required": 1})
    async with promoting(stack, world, rollout) as promotion:
        with world.database.transaction() as session:
            mine = session.scalars(select(t.Promotion.id).where(t.Promotion.model_version_id == promotion.request.model_version)).one()
        TrafficRows(world.database).open(mine, 0, load(rollout).promote.stages, "because")  # as before a reset, or a new execution
        handle = await promotion.start()
        await asyncio.sleep(0.3)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert [row.outcome for row in stages(world)] == ["cancelled"]


async def test_what_people_rolled_back_is_released_by_people_alone(stack: Stack, world: World) -> None:
    rollout = spec({"canary": 10, "bake": "0.1s"})
    async with promoting(stack, world, rollout) as promotion:
        assert (await (await promotion.start()).result()).released
        RollbackRows(world.database).rollback("moderation", to=None, reason="odd", actor="ann", command_id="1")
        run = world.run("at night", spec=rollout)
        champion, version = world.models.champion("moderation"), world.models.version(promotion.request.model_version)
        request = replace(promotion.request, run_id=run.id, evaluation=world.evaluation(run, version, champion=champion).id)
        result = await (await replace(promotion, request=request).start()).result()
    assert not result.released
    assert "version 2 was rolled back by ann: odd" in result.reason
    assert serves(world) == 1


async def test_a_command_on_the_way_to_a_new_execution_is_not_lost(stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow.Info, "is_continue_as_new_suggested", lambda info: info.get_current_history_length() > 12)
    async with promoting(stack, world, spec({"canary": 10, "bake": "1h"})) as promotion:
        handle = await promotion.start()
        await until(world, "canary")
        async with asyncio.timeout(20):
            while True:
                with suppress(WorkflowUpdateFailedError):  # between two executions nothing takes it
                    await handle.execute_update("advance", {"actor": "ann"})
                    break
            assert (await handle.result()).reason == "all gates passed; canary of 10 %: skipped by ann"


async def test_a_long_rollout_goes_on_in_new_executions(stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow.Info, "is_continue_as_new_suggested", lambda info: info.get_current_history_length() > 20)
    async with promoting(stack, world, spec({"canary": 10, "bake": "3s"})) as promotion:
        handle = await promotion.start()
        assert (await handle.result()).released
        assert (await handle.describe()).run_id != handle.first_execution_run_id
    assert [row.kind.value for row in stages(world)] == ["standby", "canary"], "they are not entered twice"
