"""Rounds of questions: a run asks, waits, learns and asks again, with the activities' answers in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import CancelledError
from temporalio.worker import Worker

from perdure.keys import identity
from perdure.messages.common import ArtifactRef
from perdure.messages.evaluation import EvaluateRequest, EvaluateResult
from perdure.messages.labeling import (
    CampaignPlan,
    CampaignRef,
    CampaignStanding,
    CampaignState,
    CloseCampaign,
    ImportTasks,
    OpenCampaign,
    SnapshotTaken,
    TasksImported,
    Tick,
)
from perdure.messages.pipeline import OpenRun, RunPlan, RunState
from perdure.messages.preparation import PreparePlan, PrepareRequest
from perdure.messages.promotion import PromoteRequest, PromotionPlan
from perdure.messages.selection import LabelResult, RecordLabels, Selected, SelectRequest
from perdure.messages.training import TrainRequest, TrainResult
from perdure.workers.registry import WORKFLOWS
from perdure.workflows.policies import DATA, MAIN, TRAIN
from tests.workflows.test_pipeline import World, client, start, until  # noqa: F401 (client is a fixture)

TASKS = ArtifactRef(uri="s3://bucket/tasks", sha256="1" * 64)


class Asking(World):
    """A world in which people are asked for at most ``most`` rounds; ``answers`` is how many answer each time."""

    def __init__(self) -> None:
        super().__init__()
        self.partitions, self.most, self.answers = 1, 2, 100
        self.answered = asyncio.Event()
        self.answered.set()
        self.prepared: list[PrepareRequest] = []
        self.trained: list[int] = []
        self.evaluated: list[int] = []
        self.compares, self.passes = False, True
        self.compared: list[int] = []  # rounds in which people may be asked to compare
        self.selected: list[SelectRequest] = []
        self.recorded: list[RecordLabels] = []
        self.promoted: list[int] = []
        self.closings: list[CloseCampaign] = []
        self.snapshots = self.imports = 0
        self.campaign_opening, self.may_open = asyncio.Event(), asyncio.Event()
        self.may_open.set()

    @activity.defn(name="runs.open")
    async def open(self, request: OpenRun) -> RunPlan:
        return replace(await super().open(request), labels=True, compares=self.compares)

    @activity.defn(name="preparation.begin")
    async def begin(self, request: PrepareRequest) -> PreparePlan:
        self.prepared.append(request)
        return await super().begin(request)

    def said(self, workflow_id: str) -> list[list[str]]:
        """What each preparation of this run learned from: another test's run, which it has left behind, may come to this worker, too."""
        mine = [request for request in self.prepared if request.run_id == identity(workflow_id)]
        return [[each.sha256[0] for each in request.labels] for request in mine]

    @activity.defn(name="training.run")
    async def train(self, request: TrainRequest) -> TrainResult:
        self.trained.append(request.round)
        return await super().train(request)

    @activity.defn(name="evaluation.run")
    async def evaluate(self, request: EvaluateRequest) -> EvaluateResult:
        self.evaluated.append(request.round)
        self.compared += [request.round] if request.people else []
        return replace(await super().evaluate(request), passed=self.passes, metrics={"roc_auc": 0.9 + request.round / 100})

    @activity.defn(name="promotion.open")
    async def open_promotion(self, request: PromoteRequest) -> PromotionPlan:
        self.promoted.append(request.round)
        return replace(await super().open_promotion(request), promotion=identity(request.run_id, request.round, "promote"))

    @activity.defn(name="selection.select")
    async def select(self, request: SelectRequest) -> Selected:
        self.selected.append(request)
        step = uuid4()
        if request.round >= self.most:
            return Selected(step_run=step, ended=LabelResult(step_run=step, reason=f"{self.most} rounds are the most"))
        name = f"c{request.run_id.hex[:8]}-r{request.round}"
        return Selected(step_run=step, campaign=name, spec={"question": "?"}, tasks=TASKS, asked=100, figures={"pool": 900})

    @activity.defn(name="selection.record")
    async def record(self, request: RecordLabels) -> LabelResult:
        self.recorded.append(request)
        told = request.snapshot if request.tasks else None
        return LabelResult(step_run=uuid4(), reason=request.reason, snapshot=told, tasks=request.tasks)

    @activity.defn(name="labeling.open")
    async def open_campaign(self, request: OpenCampaign) -> CampaignPlan:
        self.campaign_opening.set()
        await self.may_open.wait()
        return CampaignPlan(campaign=identity(request.workflow_id), name=request.request.campaign, patience=timedelta(seconds=5))

    @activity.defn(name="labeling.import_tasks")
    async def import_tasks(self, request: ImportTasks) -> TasksImported:
        self.imports += 1
        return TasksImported(rows=100)

    @activity.defn(name="labeling.tick")
    async def tick(self, request: CampaignRef) -> Tick:
        over = "every task has its label" if self.answered.is_set() else None
        state = CampaignState.CLOSED if self.closings else CampaignState.OPEN
        return Tick(total=100, decided=self.answers, rejected=0, open=0, state=state, over=over, next_look=timedelta(seconds=0.1))

    @activity.defn(name="labeling.close")
    async def close_campaign(self, request: CloseCampaign) -> CampaignStanding:
        self.closings.append(request)
        return CampaignStanding(state=CampaignState.CLOSED, version=2)

    @activity.defn(name="labeling.snapshot")
    async def snapshot(self, request: CampaignRef) -> SnapshotTaken:
        self.snapshots += 1
        labels = ArtifactRef(uri="s3://bucket/labels", sha256=str(self.snapshots) * 64)
        return SnapshotTaken(snapshot=labels, number=1, tasks=self.answers)


@asynccontextmanager
async def asking(client: Client, world: Asking) -> AsyncIterator[None]:  # noqa: F811
    rows = [world.open, world.command, world.close, world.record]
    rows += [world.open_promotion, world.vote, world.approval, world.elsewhere, world.close_promotion]
    rows += [world.open_campaign, world.import_tasks, world.tick, world.close_campaign, world.snapshot]
    data = [world.begin, world.partition, world.fit, world.features, world.commit, world.evaluate, world.select]
    async with (
        Worker(client, task_queue=MAIN, workflows=WORKFLOWS, activities=rows),
        Worker(client, task_queue=DATA, activities=data),
        Worker(client, task_queue=TRAIN, activities=[world.train]),
    ):
        yield


async def test_a_run_asks_learns_and_asks_again(client: Client) -> None:  # noqa: F811
    world = Asking()
    world.required = 1
    async with asking(client, world):
        handle = await start(client)
        await until(handle, "promote")
        async with asyncio.timeout(30):
            while not world.votes:  # refused until it is up for decision
                await asyncio.sleep(0.05)
                with suppress(WorkflowUpdateFailedError):
                    await handle.execute_update("approve", {"actor": "ann"})
        result = await handle.result()
        children = [f"{handle.id}/r{round}/{step}" for round in range(3) for step in ("prepare", "train", "evaluate")]
        for child in children:
            assert (await client.get_workflow_handle(child).describe()).parent_id == handle.id
    assert world.said(handle.id) == [[], ["1"], ["1", "2"]], "all rounds so far"
    assert world.trained == world.evaluated == [0, 1, 2]
    assert [len(request.rounds) for request in world.selected] == [1, 2, 3]
    assert [(each.round, each.tasks, each.complete, each.asked) for each in world.recorded] == [(0, 100, True, 100), (1, 100, True, 100)]
    assert (world.promoted, world.votes[0].promotion) == ([2], identity(identity(handle.id), 2, "promote"))
    assert result["released"]
    assert [(each["round"], each["metrics"]) for each in result["rounds"]] == [(n, {"roc_auc": 0.9 + n / 100}) for n in range(3)]
    assert result["asked_until"] == "2 rounds are the most"


async def test_people_compare_models_once_at_the_end(client: Client) -> None:  # noqa: F811
    world = Asking()
    world.compares = True
    async with asking(client, world):
        handle = await start(client)
        result = await handle.result()
        assert (await client.get_workflow_handle(f"{handle.id}/r3/evaluate").describe()).parent_id == handle.id
    assert (world.trained, world.evaluated, world.compared) == ([0, 1, 2], [0, 1, 2, 3], [3])
    assert (world.promoted, len(result["rounds"]), result["released"]) == ([3], 3, True)


async def test_people_do_not_compare_what_is_not_released_anyway(client: Client) -> None:  # noqa: F811
    world = Asking()
    world.compares, world.passes = True, False
    async with asking(client, world):
        await (await start(client)).result()
    assert (world.evaluated, world.compared, world.promoted) == ([0, 1, 2], [], [2])


async def test_nobody_answers(client: Client) -> None:  # noqa: F811
    world = Asking()
    world.answers = 0
    async with asking(client, world):
        result = await (await start(client)).result()
    assert (result["released"], result["asked_until"], world.trained) == (True, "every task has its label", [0])


async def test_a_run_that_is_cancelled_while_its_campaign_is_opened_leaves_none_open(client: Client) -> None:  # noqa: F811
    world = Asking()
    world.may_open.clear()
    async with asking(client, world):
        handle = await start(client)
        await asyncio.wait_for(world.campaign_opening.wait(), 20)
        await handle.cancel()
        await asyncio.sleep(0.5)
        world.may_open.set()  # it outruns the cancellation
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert (world.imports, [closing.anyway for closing in world.closings]) == (0, [True])


async def test_waiting_for_people_grows_no_history_and_a_pause_holds_what_follows(client: Client) -> None:  # noqa: F811
    world = Asking()
    world.most = 1
    world.answered.clear()
    async with asking(client, world):
        handle = await start(client)
        await until(handle, "label")
        while (await handle.query("progress"))["waiting_for"] is None:
            await asyncio.sleep(0.05)
        before = (await handle.describe()).history_length
        await asyncio.sleep(0.5)
        assert (await handle.describe()).history_length == before
        assert (await handle.execute_update("pause", {"actor": "ann"}))["paused"]
        world.answered.set()
        await until(handle, "paused")
        assert world.said(handle.id) == [[]]
        await handle.execute_update("resume", {"actor": "ann"})
        assert (await handle.result())["released"]


@pytest.mark.parametrize("by_temporal", [False, True])
async def test_a_run_that_is_cancelled_asks_no_longer(client: Client, by_temporal: bool) -> None:  # noqa: F811
    world = Asking()
    world.answered.clear()
    async with asking(client, world):
        handle = await start(client)
        await until(handle, "label")
        while (waits := (await handle.query("progress"))["waiting_for"]) is None:
            await asyncio.sleep(0.05)
        await until(client.get_workflow_handle(waits), "open")
        if by_temporal:
            await handle.cancel()
            with pytest.raises(WorkflowFailureError) as failed:
                await handle.result()
            assert isinstance(failed.value.cause, CancelledError)
        else:
            await handle.execute_update("cancel", {"actor": "ann"})
            assert (await handle.result())["state"] == "cancelled"
        campaign = await client.get_workflow_handle(waits).describe()
    assert campaign.status is not None
    assert campaign.status.name == "CANCELED"
    assert [closing.anyway for closing in world.closings] == [True]
    assert [close.state for close in world.closed] == [RunState.CANCELLED]


async def test_a_run_that_is_reset_while_people_are_asked_goes_on_with_its_campaign(client: Client) -> None:  # noqa: F811
    """Temporal lets the children of a run that is reset run on: the earlier campaign is asked to end, and begun again by its name."""
    world = Asking()
    world.most = 1
    world.answered.clear()
    async with asking(client, world):
        handle = await start(client)
        await until(handle, "label")
        while (waits := (await handle.query("progress"))["waiting_for"]) is None:
            await asyncio.sleep(0.05)
        earlier = client.get_workflow_handle(waits)
        await until(earlier, "open")
        earlier = client.get_workflow_handle(waits, run_id=(await earlier.describe()).run_id)
        answer = await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=handle.id),
                reason="test",
                workflow_task_finish_event_id=4,
                request_id=str(uuid4()),
            )
        )
        again = client.get_workflow_handle(handle.id, run_id=answer.run_id)
        while (await again.query("progress"))["waiting_for"] is None:
            await asyncio.sleep(0.05)
        assert (await earlier.describe()).status == WorkflowExecutionStatus.CANCELED
        world.closings.clear()  # opened again
        world.answered.set()
        assert (await again.result())["released"]
    assert (len(world.recorded), world.trained) == (1, [0, 0, 1])
