"""What `BatchInference` decides, on the real server, with the activities' answers in the test's hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import Worker

from perdure.errors import DataRejected
from perdure.keys import identity
from perdure.messages.common import ArtifactRef, StepRunRef
from perdure.messages.inference import BatchPlan, BatchRequest, OpenBatch, Pinned, Scored, ShardDone
from perdure.messages.pipeline import CloseRun, RunCommand, RunState
from perdure.temporal import connect, ensure_search_attributes
from perdure.workers.registry import WORKFLOWS
from perdure.workflows.policies import DATA, MAIN
from tests.servers import Stack


class World:
    """What the activities answer; a test changes it."""

    def __init__(self) -> None:
        self.shards = 10
        self.error: ApplicationError | None = None
        self.pinned = self.most_in_flight = self.in_flight = 0
        self.scored: Counter[int] = Counter()
        self.gate, self.planned, self.planning = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.planned.set()
        self.commits = 0
        self.commands: list[str] = []
        self.closed: list[CloseRun] = []

    @activity.defn(name="inference.pin")
    async def pin(self, request: BatchRequest) -> Pinned:
        self.pinned += 1
        return Pinned(model_version=uuid4(), to="m-scores")

    @activity.defn(name="inference.open")
    async def open(self, request: OpenBatch) -> BatchPlan:
        run = identity(request.workflow_id)
        return BatchPlan(run_id=run, step_run=run, model="m", version=3, patience=timedelta(seconds=5), window=3)

    @activity.defn(name="inference.plan")
    async def plan(self, request: StepRunRef) -> int:
        self.planning.set()
        await self.planned.wait()  # without a heartbeat: it hears of no cancellation
        return self.shards

    @activity.defn(name="inference.score")
    async def score(self, request: StepRunRef) -> ShardDone:
        if self.error is not None:
            raise self.error
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        while not self.gate.is_set() and sum(self.scored.values()) >= 2:
            activity.heartbeat()
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.01)
        self.in_flight -= 1
        self.scored[request.index] += 1
        return ShardDone(index=request.index, rows=1, quarantined=0)

    @activity.defn(name="inference.commit")
    async def commit(self, request: StepRunRef) -> Scored:
        self.commits += 1
        manifest = ArtifactRef(uri="s3://bucket/x", sha256="0" * 64)
        return Scored(dataset="m-scores", dataset_version=uuid4(), number=1, manifest=manifest, rows=self.shards, quarantined=0)

    @activity.defn(name="runs.command")
    async def command(self, request: RunCommand) -> None:
        self.commands.append(request.command)

    @activity.defn(name="runs.close")
    async def close(self, request: CloseRun) -> None:
        self.closed.append(request)


@pytest.fixture(scope="session")
async def client(stack: Stack) -> Client:
    client = await connect(stack.settings)
    await ensure_search_attributes(client)
    return client


@asynccontextmanager
async def working(client: Client, world: World) -> AsyncIterator[None]:
    rows = [world.pin, world.open, world.command, world.close]
    async with (
        Worker(client, task_queue=MAIN, workflows=WORKFLOWS, activities=rows),
        Worker(client, task_queue=DATA, activities=[world.plan, world.score, world.commit]),
    ):
        yield


async def start(client: Client, **request: Any) -> WorkflowHandle[Any, Any]:
    asked = {"model": "m", "source": {"uri": "/rows.csv"}, **request}
    return await client.start_workflow("BatchInference", asked, id=f"score/m/{uuid4()}", task_queue=MAIN)


async def test_every_shard_once_in_a_window_also_across_executions(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.workflows import policies

    monkeypatch.setattr(policies, "PARTITIONS_PER_EXECUTION", 4)
    world = World()
    async with working(client, world):
        handle = await start(client)
        result = await handle.result()
        progress = await handle.query("progress")
        last = await client.get_workflow_handle(handle.id).fetch_history()
    assert result["scored"]["rows"] == 10
    assert (result["model"], result["version"], result["state"]) == ("m", 3, "succeeded")
    assert world.scored == Counter(range(10))
    assert (world.pinned, world.commits, world.most_in_flight) == (1, 1, 3)
    assert (progress["done"], progress["shards"], progress["stage"]) == (10, 10, "succeeded")
    assert last.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    assert [close.state for close in world.closed] == [RunState.SUCCEEDED]


async def test_a_paused_one_begins_no_further_shard_and_a_cancelled_one_commits_nothing(client: Client) -> None:
    world = World()
    world.gate.clear()
    async with working(client, world):
        handle = await start(client)
        while world.in_flight < 3 or sum(world.scored.values()) < 2:
            await asyncio.sleep(0.02)
        paused = await handle.execute_update("pause", {"actor": "ann", "reason": "night"})
        assert (paused["stage"], paused["paused"]) == ("paused", True)
        world.gate.set()
        while world.in_flight:
            await asyncio.sleep(0.02)
        held = sum(world.scored.values())
        await asyncio.sleep(0.4)
        assert sum(world.scored.values()) == held <= 6
        world.gate.clear()
        assert not (await handle.execute_update("resume", {"actor": "ann"}))["paused"]
        while world.in_flight < 3:
            await asyncio.sleep(0.02)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("pause", {"actr": "ann"})
        await handle.execute_update("cancel", {"actor": "ann"})
        result = await handle.result()
    assert (result["state"], result["reason"], result["scored"]) == ("cancelled", "cancelled on request", None)
    assert world.commands == ["pause", "resume", "cancel"]
    assert world.commits == 0
    assert [close.state for close in world.closed] == [RunState.CANCELLED]


@pytest.mark.parametrize("asked_of", ["the run", "Temporal"])
async def test_an_activity_that_completes_swallows_no_cancellation(client: Client, asked_of: str) -> None:
    world = World()
    world.planned.clear()
    async with working(client, world):
        handle = await start(client)
        await world.planning.wait()
        if asked_of == "Temporal":
            await handle.cancel()
        else:
            await handle.execute_update("cancel", {"actor": "ann"})
        world.planned.set()
        if asked_of == "Temporal":
            with pytest.raises(WorkflowFailureError) as ended:
                await handle.result()
            assert isinstance(ended.value.cause, CancelledError)
        else:
            assert (await handle.result())["state"] == "cancelled"
    assert (world.scored, world.commits) == (Counter(), 0)
    assert [close.state for close in world.closed] == [RunState.CANCELLED]


async def test_the_first_error_is_what_people_read(client: Client) -> None:
    world = World()
    world.error = DataRejected("31 % of the rows do not fit", field="quarantined")
    async with working(client, world):
        with pytest.raises(WorkflowFailureError) as failed:
            await (await start(client)).result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "DataRejected"
    assert [(close.state, close.error and close.error["field"]) for close in world.closed] == [(RunState.FAILED, "quarantined")]


@pytest.mark.parametrize("request_", [{"mdel": "m"}, {"model": "m", "shards": "many"}, {"model": "m", "engine": "spark"}])
async def test_a_bad_request_fails_at_once(client: Client, request_: dict[str, Any]) -> None:
    async with working(client, World()):
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow("BatchInference", request_, id=f"score/m/{uuid4()}", task_queue=MAIN)
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "InvalidInput"
