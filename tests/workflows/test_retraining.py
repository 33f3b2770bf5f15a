"""The controller on real servers: signals, pokes, commands; a stand-in for the runs that it starts, which opens and closes their rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.worker import Worker

from perdure.activities.guard import Guard
from perdure.activities.retraining import RetrainingActivities
from perdure.activities.runs import RunActivities
from perdure.adapters.s3 import ObjectStore
from perdure.adapters.schedules import apply
from perdure.adapters.sources import StoredSources
from perdure.config import Settings
from perdure.errors import root
from perdure.events.signals import receive
from perdure.messages.common import Json
from perdure.messages.controller import Look, LookAtModel
from perdure.messages.pipeline import CloseRun, OpenRun, RunRequest, RunResult, RunState
from perdure.messages.retraining import Outcome
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import DeliveryRows, OutboxRows, RetrainingRows, RunRows
from perdure.metadata.upgrade import upgrade
from perdure.retraining.schedules import wanted
from perdure.spec.pipeline import load
from perdure.temporal import connect, ensure_search_attributes
from perdure.workflows import policies
from perdure.workflows.policies import MAIN, ROWS
from perdure.workflows.retraining import RetrainingController, pause
from perdure.workflows.triggers import Backfill, RetrainTrigger
from tests.metadata.world import World as Rows
from tests.servers import Stack


@workflow.defn(name="TrainingPipeline", sandboxed=False)
class Run:
    """Opens its row, waits until it may end, closes it."""

    def __init__(self) -> None:
        self._may_end = False

    @workflow.run
    async def run(self, request: RunRequest) -> RunResult:
        info = workflow.info()
        opening = OpenRun(workflow_id=info.workflow_id, chain=info.first_execution_run_id, request=request)
        plan = await workflow.execute_activity_method(RunActivities.open, opening, **ROWS)
        await workflow.wait_condition(lambda: self._may_end or "backfill" in info.workflow_id)
        await workflow.execute_activity_method(RunActivities.close, CloseRun(run_id=plan.run_id, state=RunState.SUCCEEDED), **ROWS)
        return RunResult(run_id=plan.run_id, state=RunState.SUCCEEDED, model=plan.model)

    @workflow.signal
    def end(self) -> None:
        self._may_end = True


class World:
    """A database of its own, and a model in it."""

    def __init__(self, settings: Settings, database: Database, client: Client) -> None:
        self.settings, self.database, self.client = settings, database, client
        runs = RunRows(database)
        sources = StoredSources(ObjectStore(settings.s3, attempts=2))
        self.runs = RunActivities(runs)
        self.activities = RetrainingActivities(RetrainingRows(database), DeliveryRows(database), runs, sources)
        self.looks: list[str] = []
        self.fails_after_commit = 0

    @activity.defn(name="retraining.look")
    def look(self, request: LookAtModel) -> Look:
        """As it is, but the worker may be gone between the commit and the answer."""
        self.looks.append(request.model)
        found = self.activities.look(request)
        if found.starts and self.fails_after_commit:
            self.fails_after_commit -= 1
            raise RuntimeError("gone")
        return found

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        act = self.activities
        with ThreadPoolExecutor(8) as pool:
            async with Worker(
                self.client,
                task_queue=MAIN,
                workflows=[RetrainingController, RetrainTrigger, Backfill, Run],
                activities=[self.look, act.drift, act.force, act.snooze, act.failed, act.trigger, self.runs.open, self.runs.close],
                activity_executor=pool,
                interceptors=[Guard()],
            ):
                yield

    def model(self, **changed: Any) -> Model:
        name = f"m{uuid4().hex[:8]}"
        base = {
            "name": name,
            "data": {"source": {"uri": "x.tsv", "format": "tsv"}, "target": "label"},
            "monitor": {"act": {}, "cooldown": "0s", "max_per_day": 100, "max_per_30d": 100},
        }
        rows = Rows(self.database)
        run = rows.run("first", spec=base | changed, code=None)
        rows.model(run, f"predictor of {name}", name)
        rows.runs.close(run.id, RunState.SUCCEEDED, None)
        return Model(self, name)


class Model:
    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        return self.world.client.get_workflow_handle(f"retrain/{self.name}")

    def event(self, id: str = "1", **data: Any) -> Json:
        return {
            "specversion": "1.0",
            "id": id,
            "source": f"https://monitors.example.org/{self.name}",
            "type": "ai.perdure.performance.v1",
            "subject": f"model/{self.name}",
            "data": {"monitor": "error", "drifted": True, "severity": 1.0, "level": True} | data,
        }

    async def signal(self, name: str = "poke", argument: Any = None) -> None:
        """As by `temporal workflow signal-with-start`."""
        await self.world.client.start_workflow(
            "RetrainingController",
            {"model": self.name},
            id=self.handle.id,
            task_queue=MAIN,
            start_signal=name,
            start_signal_args=[] if argument is None else [argument],
        )

    def decisions(self, *, acts: bool = True) -> list[t.RetrainDecision]:
        d = t.RetrainDecision
        query = select(d).where(d.model == self.name).order_by(d.created_at)
        with self.world.database.transaction() as session:
            return [row for row in session.scalars(query) if acts is False or row.outcome is not Outcome.NOTHING]

    def events(self) -> list[t.DriftEvent]:
        with self.world.database.transaction() as session:
            return list(session.scalars(select(t.DriftEvent).where(t.DriftEvent.model == self.name)))

    def run_rows(self) -> list[t.Run]:
        with self.world.database.transaction() as session:
            return list(session.scalars(select(t.Run).where(t.Run.workflow_id.startswith(f"run/{self.name}/")).order_by(t.Run.started_at)))

    async def until(self, done: Callable[[], Any]) -> Any:
        for _ in range(500):
            if found := done():
                return found
            await asyncio.sleep(0.02)
        raise AssertionError([(row.outcome, row.reason) for row in self.decisions(acts=False)])

    async def run_started(self) -> WorkflowHandle[Any, Any]:
        """The one run that a decision has started, once its row is open."""
        row = await self.until(lambda: next((row for row in self.run_rows() if "/retrain-" in row.workflow_id), None))
        return self.world.client.get_workflow_handle(row.workflow_id)


@pytest.fixture(scope="module")
async def client(stack: Stack) -> Client:
    client = await connect(stack.settings)
    await ensure_search_attributes(client)
    return client


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    settings = stack.isolated()
    upgrade(settings)
    return settings


@pytest.fixture
def world(settings: Settings, client: Client) -> Iterator[World]:
    with Database.open(settings) as database:
        yield World(settings, database, client)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "TICK_EVERY", 0.05)


async def test_a_signal_of_the_bare_command_line_starts_one_run(world: World) -> None:
    model = world.model()
    async with world.working():
        await model.signal("drift", model.event())
        await model.signal("drift", {"nonsense": True})  # quarantined, and nothing stands still
        run = await model.run_started()
        [decision] = model.decisions()
        assert run.id == decision.workflow_id
        for number in range(5):
            await model.handle.signal("drift", model.event(str(number + 2)))
        await model.until(lambda: len(model.events()) == 6)
        await run.signal("end")
        await run.result()
        await model.handle.signal("poke")
        await model.until(lambda: model.decisions()[0].finished_at)
        await model.handle.terminate()
    assert [each.workflow_id for each in model.decisions()] == [run.id]
    assert model.decisions()[0].result == "refused"  # the stand-in promotes nothing
    with world.database.transaction() as session:
        quarantined = session.scalars(select(t.Delivery.error).where(t.Delivery.error.is_not(None))).all()
    assert [event.decision_id for event in model.events()] == [decision.id] * 6
    assert quarantined


async def test_a_worker_that_dies_after_it_has_decided_starts_nothing_twice(world: World) -> None:
    model = world.model()
    world.fails_after_commit = 2
    async with world.working():
        await model.signal("drift", model.event())
        run = await model.run_started()
    async with world.working():  # and another worker, whose first look finds the run going on
        await model.handle.signal("poke")
        await model.until(lambda: len(world.looks) >= 4)
        await run.signal("end")
        await run.result()
        await model.handle.terminate()
    assert [row.workflow_id for row in model.decisions()] == [run.id]
    assert len(model.run_rows()) == 2  # that of before, and this one


async def test_force_and_snooze_are_checked_and_count_once(world: World) -> None:
    model = world.model()
    async with world.working():
        await model.signal()
        for wrong in ({"actor": " "}, {"actor": "ann", "reason": "x" * 3_000}):
            with pytest.raises(WorkflowUpdateFailedError):
                await model.handle.execute_update("force", wrong)
        with pytest.raises(WorkflowUpdateFailedError) as zoneless:
            await model.handle.execute_update("snooze", {"actor": "ann", "until": "2027-01-01T00:00:00"})
        assert "zone" in str(root(zoneless.value.cause))
        until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
        await model.handle.execute_update("snooze", {"actor": "ann", "until": until})
        await model.signal("drift", model.event())
        await model.until(lambda: any(row.key.startswith("hold/") for row in model.decisions(acts=False)))
        assert not model.decisions()
        for _ in range(2):
            told = await model.handle.execute_update("force", {"actor": "bob", "reason": "now", "command_id": "one"})
            assert told["model"] == model.name  # the command line takes no answer for no worker
        run = await model.run_started()
        await run.signal("end")
        await run.result()
        progress = await model.handle.query("progress")
        await model.handle.terminate()
    assert progress["model"] == model.name
    assert progress["looks"] >= 2
    [forced] = model.decisions()
    assert (forced.actor, forced.reason) == ("bob", "train: bob asked for it: now")


async def test_a_controller_goes_on_in_a_new_execution(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "LOOKS_PER_EXECUTION", 2)
    model = world.model()
    async with world.working():
        await model.signal()
        first = (await model.handle.describe()).run_id
        for _ in range(8):
            await model.handle.signal("poke")
            await asyncio.sleep(0.1)
        await model.handle.signal("drift", model.event())
        run = await model.run_started()
        await run.signal("end")
        await run.result()
        assert (await model.handle.describe()).run_id != first
        await model.handle.terminate()
    assert len(model.decisions()) == 1


async def test_what_comes_in_while_a_controller_is_renewed_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "LOOKS_PER_EXECUTION", 2)
    monkeypatch.setattr(policies, "DRAIN", timedelta(seconds=0.05))
    model, goes_on = world.model(), threading.Event()
    rows = world.activities._retraining
    force = rows.force
    monkeypatch.setattr(rows, "force", lambda *said: goes_on.wait(20) and force(*said))
    async with world.working():
        await model.signal()
        waiting = asyncio.create_task(model.handle.execute_update("force", {"actor": "ann"}))
        await model.until(lambda: world.looks)
        await model.signal()
        await asyncio.sleep(0.5)  # the update holds the new execution up
        await model.handle.signal("drift", model.event())
        e = t.DriftEvent
        with world.database.transaction() as session:
            await model.until(lambda: session.scalar(select(e.id).where(e.model == model.name)))
        assert not waiting.done()
        goes_on.set()
        await waiting
        await model.run_started()
        await model.handle.terminate()


async def test_a_run_that_an_earlier_execution_started_in_vain_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "NEVER", timedelta(0))
    model = world.model()
    receive(DeliveryRows(world.database), model.event())
    [start] = RetrainingRows(world.database).look(model.name).starts
    before = await world.client.start_workflow("TrainingPipeline", start.request, id=start.workflow_id, task_queue="nobody")
    await before.terminate()
    async with world.working():
        await model.signal()
        await model.until(lambda: [row for row in model.decisions() if row.finished_at])
        await model.handle.terminate()
    [decision] = model.decisions()
    assert (decision.result, decision.helped, decision.detail["error"]["type"]) == ("failed", False, "RunNotOpened")


async def test_a_run_that_cannot_open_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model = world.model()
    look = world.activities.look

    def of_no_version(request: LookAtModel) -> Look:
        found = look(request)
        return replace(found, starts=[replace(each, request=replace(each.request, version="0" * 64)) for each in found.starts])

    monkeypatch.setattr(world.activities, "look", of_no_version)
    async with world.working():
        await model.signal("drift", model.event())
        await model.until(lambda: [row for row in model.decisions() if row.finished_at])
        await model.handle.terminate()
    [decision] = model.decisions()
    assert (decision.result, decision.helped) == ("failed", False)
    assert decision.detail["error"]["type"] == "NotFound"


async def test_a_date_is_written_down_and_pokes(world: World) -> None:
    model = world.model(triggers=[{"schedule": "@daily"}])
    at = "2026-11-22T03:00:00Z"
    async with world.working():
        asked = {"pipeline": model.name, "at": at}
        told = [
            await world.client.execute_workflow("RetrainTrigger", asked, id=f"trigger/{model.name}/{n}", task_queue=MAIN) for n in range(2)
        ]
        none = await world.client.execute_workflow("RetrainTrigger", {**asked, "number": 1}, id=f"trigger/{model.name}/x", task_queue=MAIN)
    assert (told, none) == ([True, False], False)
    poked: list[str] = []
    OutboxRows(world.database).deliver("poke", lambda ids: poked.extend(ids) or {})  # type: ignore[func-returns-value]
    assert model.handle.id in poked


async def test_a_schedule_tells_the_data_cutoff(world: World) -> None:
    model = world.model(triggers=[{"schedule": "@yearly"}])
    spec = load(RunRows(world.database).pipeline(model.name).spec)
    await apply(world.client, spec.name, [spec.model_name], wanted(spec))
    before = datetime.now(UTC) - timedelta(seconds=2)
    async with world.working():
        await world.client.get_schedule_handle(f"schedule/{model.name}/0").trigger()
        query = select(t.RetrainTrigger).where(t.RetrainTrigger.model == model.name)
        with world.database.transaction() as session:
            row = await model.until(lambda: session.scalars(query).one_or_none())
    assert before < datetime.fromisoformat(row.detail["cutoff"]) < datetime.now(UTC) + timedelta(seconds=1)
    assert (row.detail["text"], row.detail["overlap"]) == ("@yearly (UTC)", "skip")
    await apply(world.client, spec.name, [spec.model_name], [])


async def test_a_backfill_runs_one_cutoff_after_the_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "RUNS_PER_EXECUTION", 2)
    by_time = {"source": {"uri": "x.tsv", "format": "tsv"}, "target": "label", "split": {"by": "time", "column": "at"}}
    model = world.model(data=by_time)
    cutoffs = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
    async with world.working():
        asked = {"pipeline": model.name, "cutoffs": [each.isoformat() for each in cutoffs], "requested_by": "ann"}
        result = await world.client.execute_workflow("Backfill", asked, id=f"backfill/{model.name}/1", task_queue=MAIN)
        again = await world.client.execute_workflow("Backfill", asked, id=f"backfill/{model.name}/2", task_queue=MAIN)
    assert result == {"runs": 3, "failed": 0}
    assert again == result  # what there was before is left alone
    rows = [row for row in model.run_rows() if "backfill" in row.workflow_id]
    assert [row.workflow_id.rpartition("-")[2] for row in rows] == ["20260101T000000Z", "20260201T000000Z", "20260301T000000Z"]
    assert [row.spec["data"]["until"] for row in rows] == ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]
    assert all(before.finished_at <= after.started_at for before, after in pairwise(rows))


def test_who_is_not_poked_looks_ever_more_rarely() -> None:
    pauses = [pause(Look(), quiet) for quiet in (0, 1, 3, 20)]
    assert pauses == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=8), timedelta(hours=1)]
    assert pause(Look(due=timedelta(seconds=20)), 9) == timedelta(seconds=20)
    assert pause(Look(due=timedelta(0)), 0) == timedelta(seconds=1)
