"""Campaigns from start to snapshot on real servers: Temporal, Postgres, S3; a worker in this process that a test may stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer, Worker

from perdure.activities.guard import Guard
from perdure.activities.labeling import LabelingActivities
from perdure.adapters.consolidation import DawidSkeneConsolidation
from perdure.adapters.lines import S3Lines
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.keys import canonical
from perdure.labeling.ports import Incoming
from perdure.messages.common import ArtifactRef
from perdure.messages.labeling import CampaignRef, CampaignState, Tick
from perdure.metadata.database import Database
from perdure.metadata.queries.campaigns import campaign_snapshot
from perdure.metadata.repository import CampaignRows, LabelRows
from perdure.metadata.repository.answers import own_campaign
from perdure.metadata.upgrade import upgrade
from perdure.temporal import DATA_CONVERTER, connect, ensure_search_attributes
from perdure.workflows import policies
from perdure.workflows.labeling import LabelingCampaign, pause
from perdure.workflows.policies import MAIN
from tests.servers import Stack

SPEC = {"question": "Is it spam?", "choices": ["ham", "spam"], "gold": {"rate": 0}}


class World:
    """A database and a bucket of their own, and what a labeler does with them."""

    def __init__(self, settings: Settings, database: Database, client: Client) -> None:
        self.settings, self.database, self.client = settings, database, client
        self.objects = ObjectStore(settings.s3, attempts=2)
        self.campaigns, self.labels = CampaignRows(database), LabelRows(database)
        self.activities = LabelingActivities(self.campaigns, self.labels, S3Lines(self.objects), DawidSkeneConsolidation())

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        act = self.activities
        with ThreadPoolExecutor(16) as pool:
            async with Worker(
                self.client,
                task_queue=MAIN,
                workflows=[LabelingCampaign],
                activities=[act.open, act.import_tasks, act.tick, act.command, act.answer, act.close, act.snapshot],
                activity_executor=pool,
                interceptors=[Guard()],
            ):
                yield

    def manifest(self, *lines: Any) -> ArtifactRef:
        body = b"".join(line if isinstance(line, bytes) else canonical(line) + b"\n" for line in lines)
        return self.objects.put("tasks", "tasks.ndjson", body)

    async def start(self, tasks: int | ArtifactRef = 3, **spec: Any) -> Campaign:
        """As by `temporal workflow start`."""
        name = uuid4().hex[:8]
        if isinstance(tasks, int):
            tasks = self.manifest(*({"key": f"t{n}", "payload": {"text": str(n)}} for n in range(tasks)))
        request = {"campaign": name, "spec": {**SPEC, **spec}, "tasks": tasks.as_json(), "requested_by": "ann"}
        handle = await self.client.start_workflow("LabelingCampaign", request, id=f"campaign/{name}", task_queue=MAIN)
        return Campaign(self, name, handle)


class Campaign:
    def __init__(self, world: World, name: str, handle: WorkflowHandle[Any, Any]) -> None:
        self.world, self.name, self.handle = world, name, handle

    @property
    def id(self) -> UUID:
        return self.world.campaigns.named(self.name).id

    async def until(self, done: Callable[[Any], bool]) -> Any:
        """The workflow's progress, once it is as wanted."""
        for _ in range(1000):
            progress = await self.handle.query("progress")
            if done(progress):
                return progress
            await asyncio.sleep(0.02)
        raise AssertionError(f"it stays at {progress}")

    async def open(self) -> None:
        await self.until(lambda progress: progress["stage"] == "open")

    def label(self, task: str, value: str = "spam", by: str = "ada", **more: Any) -> str | None:
        """An answer by another channel than the workflow."""
        said = Incoming(task=task, value=value, labeler=by, source="test", source_key=f"{by}/{task}", event_time=datetime.now(UTC), **more)
        return self.world.labels.accept(self.id, [said])[0].status

    async def poke(self) -> None:
        await self.handle.signal("poke")

    async def pass_time(self, by: timedelta) -> None:
        """Let the campaign be older, with the deadline by which its events are named; then it is looked at."""
        earlier = "opened_at = opened_at - cast(:by as interval), deadline = deadline - cast(:by as interval)"
        renamed = "update campaign_event set key = replace(key, :was, :now) where campaign_id = :id and key like 'rung/%'"
        with self.world.database.transaction() as session:
            own_campaign(session, self.id)  # not while it is looked at: the look would name its events by the deadline of before
            before = self.world.campaigns.named(self.name)
            session.execute(text(f"update campaign set {earlier} where id = :id"), {"by": by, "id": before.id})
            assert before.deadline is not None
            session.execute(text(renamed), {"was": str(before.deadline), "now": str(before.deadline - by), "id": before.id})
        await self.poke()

    def told(self) -> list[tuple[str, str]]:
        query = "select target, payload->>'kind' from outbox where topic = 'notify' and payload->>'campaign' = :name order by id"
        with self.world.database.transaction() as session:
            return [tuple(row) for row in session.execute(text(query), {"name": self.name})]

    def snapshot(self, result: Any) -> list[Any]:
        return [json.loads(line) for line in self.world.objects.get(ArtifactRef(**result["snapshot"])).splitlines()]


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


@pytest.fixture(scope="module")
def world(settings: Settings, client: Client) -> Iterator[World]:
    with Database.open(settings) as database:
        yield World(settings, database, client)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "TICK_EVERY", 0.05)


def update(campaign: Campaign, name: str, **argument: Any) -> Any:
    return campaign.handle.execute_update(name, argument)


async def refused(campaign: Campaign, name: str, **argument: Any) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await update(campaign, name, **argument)
    assert isinstance(failed.value.cause, ApplicationError)
    return failed.value.cause


async def test_from_start_to_snapshot_by_messages_alone(world: World) -> None:
    async with world.working():
        campaign = await world.start(overlap={"labels": 2, "most": 2, "agreement": 0.5})
        await campaign.open()
        first = await update(campaign, "answer", actor="ada", items=[{"task": f"t{n}", "value": "ham"} for n in range(3)])
        assert [item["status"] for item in first["items"]] == ["valid"] * 3
        wrong = await update(campaign, "answer", actor="bob", items=[{"task": "t0", "value": "eggs"}, {"task": "nowhere", "value": "ham"}])
        assert [(item["status"], bool(item["error"])) for item in wrong["items"]] == [(None, True), (None, True)]
        await update(campaign, "answer", actor="bob", items=[{"task": "t0", "value": "ham"}, {"task": "t1", "value": "ham"}])
        changed = await update(campaign, "answer", actor="bob", items=[{"task": "t2", "value": "ham"}])
        assert changed["items"][0]["status"] == "valid"
        result = await campaign.handle.result()
    assert (result["tasks"], result["complete"], result["reason"], result["number"]) == (3, True, "every task has its label", 1)
    assert (result["statistics"]["agreement"], result["statistics"]["opinions"]) == (1.0, 6)
    assert result["statistics"]["annotations"] == {"valid": 6}
    lines = campaign.snapshot(result)
    assert [(line["key"], line["label"], len(line["opinions"])) for line in lines] == [(f"t{n}", "ham", 2) for n in range(3)]
    assert {opinion["source"] for line in lines for opinion in line["opinions"]} == {"temporal:ada", "temporal:bob"}
    assert campaign.label("t0", by="eve") == "late"


async def test_all_opinions_decide_when_the_snapshot_is_taken(world: World) -> None:
    """One labeler is always wrong, another one half of the time: task by task the wrong ones may win, all together they do not."""
    async with world.working():
        campaign = await world.start(tasks=30, consensus="dawid_skene", overlap={"labels": 4, "most": 4, "agreement": 0.4})
        await campaign.open()
        truth = {f"t{n}": "spam" if n % 3 else "ham" for n in range(30)}
        for n, (task, right) in enumerate(truth.items()):
            wrong = "ham" if right == "spam" else "spam"
            for by, value in {"ada": right, "amy": right, "bob": right if n % 2 else wrong, "eve": wrong}.items():
                campaign.label(task, value, by=by)
        await campaign.poke()
        result = await campaign.handle.result()
    lines = campaign.snapshot(result)
    assert {line["key"]: line["label"] for line in lines} == truth
    assert {line["method"] for line in lines} == {"dawid-skene/1"}
    assert lines == [json.loads(canonical(line)) for line in world.campaigns.export(campaign.id)]  # one truth: rows say the same
    statistics = result["statistics"]
    assert (statistics["methods"], statistics["estimate"]["converged"]) == ({"dawid-skene/1": 30}, True)
    assert statistics["alpha"]["tasks"] == 30
    assert not {"labelers", "accuracy", "gold", "confusion"} & statistics.keys()  # by labeler: may be many, are in the row
    kept = campaign_snapshot(world.database, campaign.id, None).statistics
    assert kept["accuracy"]["ada"] == {"agreed": 30, "checked": 30}
    assert kept["confusion"]["eve"]["accuracy"] < 0.1
    ref = CampaignRef(campaign=campaign.id)
    assert (await asyncio.to_thread(world.activities.snapshot, ref)).snapshot.sha256 == result["snapshot"]["sha256"]


async def test_the_newest_answer_at_a_terminal_counts(world: World) -> None:
    async with world.working():
        campaign = await world.start(tasks=1, overlap={"labels": 2, "most": 2, "agreement": 0.5})
        given = [  # at once: answers wait for the tasks that the start brings
            (await update(campaign, "answer", actor="ada", items=[item]))["items"][0]
            for item in (
                {"task": "t0", "value": "ham"},
                {"task": "t0", "value": "spam"},
                {"task": "t0", "value": "spam", "key": "k"},
                {"task": "t0", "value": "spam", "key": "k"},
            )
        ]
        assert [(each["status"], each["duplicate"]) for each in given] == [("valid", False)] * 3 + [("valid", True)]
        assert world.campaigns.annotations(campaign.id) == {"valid": 1, "superseded": 2}
        await update(campaign, "close", actor="ann")
        assert not (await campaign.handle.result())["complete"]


async def test_commands_are_rows_and_refusals_leave_nothing(world: World) -> None:
    async with world.working():
        campaign = await world.start(deadline="10d")
        await campaign.open()
        paused = await update(campaign, "pause", actor="ann", expected_version=1, command_id="c1")
        again = await update(campaign, "pause", actor="ann", expected_version=1, command_id="c1")
        assert (paused["state"], paused["version"]) == (again["state"], again["version"]) == ("paused", 2)
        assert world.labels.lease(campaign.id, "ada", 1) == []
        assert campaign.label("t0") == "valid"  # who has a task in hand may still answer
        await campaign.handle.signal("poke")  # no relay runs here
        await campaign.until(lambda progress: progress["stage"] == "paused" and progress["tick"]["decided"] == 1)
        assert (await refused(campaign, "resume", expected_version=1)).type == "Conflict"
        assert (await update(campaign, "resume", actor="ann"))["state"] == "open"
        assert (await refused(campaign, "extend", actor="ann")).type == "InvalidInput"
        later = datetime.now(UTC) + timedelta(days=40)
        assert datetime.fromisoformat((await update(campaign, "extend", deadline=later.isoformat()))["deadline"]) == later
        assert "1 to 100" in (await refused(campaign, "answer", actor="a", items=[])).message
        assert (await refused(campaign, "answer", actor=" ", items=[{"task": "t0", "value": "ham"}])).type == "InvalidInput"
        assert "no NUL" in (await refused(campaign, "answer", actor="a\x00", items=[{"task": "t0", "value": "ham"}])).message
        await update(campaign, "close", actor="ann", reason="enough for now")
        result = await campaign.handle.result()
    assert (result["tasks"], result["complete"], result["reason"]) == (1, False, "enough for now")
    assert campaign.label("t1") == "late"
    assert world.campaigns.named(campaign.name).state is CampaignState.CLOSED


async def test_a_bad_line_ends_the_campaign_and_a_mended_manifest_goes_on(world: World) -> None:
    good = [{"key": f"t{n}", "payload": {}} for n in range(2)]
    async with world.working():
        campaign = await world.start(world.manifest(*good, b'{"key": "t2", "payload": 1}\n'))
        with pytest.raises(WorkflowFailureError) as failed:
            await campaign.handle.result()
        assert isinstance(failed.value.cause, ApplicationError)
        assert failed.value.cause.type == "InvalidInput"
        assert "line 3 needs a `payload`" in failed.value.cause.message
        mended = world.manifest(*good, {"key": "t2", "payload": {}})
        request = {"campaign": campaign.name, "tasks": mended.as_json()}
        handle = await world.client.start_workflow("LabelingCampaign", request, id=campaign.handle.id, task_queue=MAIN)
        again = Campaign(world, campaign.name, handle)
        await again.open()
        assert world.campaigns.named(campaign.name).total == 3
        await update(again, "close", actor="ann")
        await handle.result()


async def test_tasks_that_are_added_later_are_imported(world: World) -> None:
    async with world.working():
        campaign = await world.start(tasks=1)
        await campaign.open()
        added, bad = world.manifest({"key": "more", "payload": {}}), world.manifest(b"eggs\n")
        for each in (bad, added):
            world.campaigns.imported(campaign.id, each)
        await campaign.poke()
        await campaign.until(lambda progress: progress["tick"]["total"] == 2 and not progress["tick"]["imports"])
        campaign.label("t0")
        campaign.label("more")
        await campaign.poke()
        assert (await campaign.handle.result())["complete"]


async def test_a_campaign_opens_whatever_becomes_of_its_first_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = world.campaigns
    looks: list[UUID] = []

    def tick(campaign: UUID, limit: int = 500) -> Any:
        looks.append(campaign)
        if len(looks) == 1:
            raise RuntimeError("a task that nobody foresaw")
        return type(rows).tick(rows, campaign, limit)

    monkeypatch.setattr(rows, "tick", tick)
    async with world.working():
        name = uuid4().hex[:8]
        request = {"campaign": name, "spec": SPEC, "requested_by": "ann"}
        handle = await world.client.start_workflow("LabelingCampaign", request, id=f"campaign/{name}", task_queue=MAIN)
        campaign = Campaign(world, name, handle)
        await campaign.until(lambda progress: progress["stage"] == "open" and progress["tick"] is not None)
        assert looks == [campaign.id] * 2
        await update(campaign, "close", actor="ann")
        await handle.result()


async def test_a_worker_that_dies_in_a_tick_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt commits its decisions, and its answer is lost with it."""
    rows = world.campaigns
    ticked: list[int] = []

    def tick(campaign: UUID, limit: int = 500) -> Any:
        answer = type(rows).tick(rows, campaign, limit)
        if not ticked and answer.decided:
            ticked.append(answer.decided)
            raise RuntimeError("killed after the commit")
        return answer

    monkeypatch.setattr(rows, "tick", tick)
    async with world.working():
        campaign = await world.start()
        await campaign.open()
        for n in range(2):
            campaign.label(f"t{n}")
        await campaign.poke()
        await campaign.until(lambda progress: progress["tick"]["decided"] == 2)
    campaign.label("t2")
    async with world.working():
        await campaign.poke()
        result = await campaign.handle.result()
    assert ticked == [2]
    assert (result["tasks"], result["complete"]) == (3, True)


async def test_continue_as_new_under_load_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "TICKS_PER_EXECUTION", 4)
    monkeypatch.setattr(policies, "TICK_EVERY", 0.01)
    monkeypatch.setattr(policies, "DRAIN", timedelta(seconds=0.1))
    each, clients = 20, 4
    statuses: list[str] = []

    async def answer(campaign: Campaign, who: int) -> None:
        for n in range(each):
            while (status := await _answered(campaign, f"l{who}", f"t{who * each + n}")) is None:
                pass  # said again
            statuses.append(status)

    async with world.working():
        campaign = await world.start(tasks=each * clients)
        await campaign.open()
        pokes = asyncio.create_task(_poking(campaign))
        await asyncio.gather(*(answer(campaign, who) for who in range(clients)))
        pokes.cancel()
        result = await campaign.handle.result()
    assert statuses == ["valid"] * (each * clients)
    assert (result["tasks"], result["complete"], result["statistics"]["annotations"]) == (80, True, {"valid": 80})
    executions = await _executions(campaign)
    assert len(executions) > 2
    replayed = Replayer(workflows=[LabelingCampaign], data_converter=DATA_CONVERTER)
    for execution in executions:
        await replayed.replay_workflow(execution)


async def _executions(campaign: Campaign) -> list[WorkflowHistory]:
    """The histories of the whole chain."""
    run, found = campaign.handle.first_execution_run_id, []
    while run:
        history = await campaign.world.client.get_workflow_handle(campaign.handle.id, run_id=run).fetch_history()
        found.append(history)
        run = history.events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return found


async def _answered(campaign: Campaign, who: str, task: str) -> str | None:
    """The answer's status; None where it is to be said again, under the same id: the workflow was just being renewed."""
    try:
        got = await campaign.handle.execute_update(
            "answer", {"actor": who, "items": [{"task": task, "value": "ham", "key": task}]}, id=f"{who}/{task}"
        )
    except WorkflowUpdateFailedError as refusal:
        if "being renewed" not in str(refusal.cause):
            raise
        return None
    except RPCError as err:
        if err.status is not RPCStatusCode.FAILED_PRECONDITION:  # the server's own word for the same
            raise
        return None
    return str(got["items"][0]["status"])


async def _poking(campaign: Campaign) -> None:
    while True:
        await campaign.poke()
        await asyncio.sleep(0.02)


async def test_thirty_days_with_reminders_an_escalation_and_a_partial_close(world: World) -> None:
    ladder = [
        {"after": 0.5, "then": "remind"},
        {"after": 0.8, "then": "escalate", "tell": "boss"},
        {"after": 0.9, "then": "lower_overlap"},
        {"after": 1.0, "then": "close"},
    ]
    async with world.working():
        campaign = await world.start(
            tasks=30, deadline="30d", ladder=ladder, owner="ann", overlap={"labels": 2, "most": 2, "agreement": 0.5}
        )
        await campaign.open()
        steps = {15: ("ann", "remind"), 24: ("boss", "escalate"), 27: ("ann", "lower_overlap")}
        for day in range(1, 30):
            if day % 2:
                campaign.label(f"t{day}", by="ada")
                campaign.label(f"t{day}", by="bob" if day < 20 else "ada")
            await campaign.pass_time(timedelta(days=1))
            await campaign.until(lambda progress, d=day: progress["tick"]["decided"] == _decided(d))
            while day in steps and steps[day] not in campaign.told():
                await asyncio.sleep(0.02)
            assert campaign.told() == [step for on, step in steps.items() if on <= day]
        await campaign.pass_time(timedelta(days=1))
        result = await campaign.handle.result()
    assert (result["tasks"], result["complete"]) == (15, False)
    assert result["reason"] == "closed at 100% of its time, with 15 tasks left"


def _decided(day: int) -> int:
    """Tasks of odd days: two opinions until day 20, one after it, which is enough from day 27 on."""
    odd = (day + 1) // 2
    return odd if day >= 27 else min(odd, 10)


async def test_a_deadline_needs_no_poke(world: World) -> None:
    async with world.working():
        campaign = await world.start(deadline="3s", ladder=[{"after": 0.5, "then": "remind"}], owner="ann")
        result = await campaign.handle.result()
    assert (result["tasks"], result["complete"], result["reason"]) == (0, False, "the deadline is over")
    assert campaign.told() == [("ann", "remind")]


def test_quiet_campaigns_look_ever_later_but_miss_no_deadline() -> None:
    def waits(quiet: int, due: timedelta | None = None, snapshot: timedelta | None = None) -> timedelta:
        tick = Tick(total=1, decided=0, rejected=0, open=1, state=CampaignState.OPEN, next_look=timedelta(minutes=10), due=due)
        return pause(tick, quiet, snapshot)

    minutes = [waits(quiet) / timedelta(minutes=1) for quiet in (0, 1, 2, 5, 6, 10_000)]
    assert minutes == [10, 20, 40, 320, 360, 360]
    assert waits(9, due=timedelta(minutes=3)) == timedelta(minutes=3)
    assert waits(9, due=timedelta(days=3)) == timedelta(hours=6)
    assert waits(9, due=timedelta(0)) == timedelta(seconds=1)
    assert waits(9, snapshot=timedelta(minutes=2)) == timedelta(minutes=2)
    assert waits(9, snapshot=timedelta(minutes=-2)) == timedelta(0)


async def test_a_standing_campaign_takes_snapshots_and_never_ends_by_itself(world: World) -> None:
    async with world.working():
        campaign = await world.start(tasks=1, standing=True, snapshot_every="1s")
        await campaign.open()
        campaign.label("t0")
        await campaign.poke()
        taken = (await campaign.until(lambda progress: progress["snapshot"] and progress["snapshot"]["tasks"] == 1))["snapshot"]
        await update(campaign, "close", actor="ann", reason="the model is retired")
        result = await campaign.handle.result()
    assert result["snapshot"] == taken["snapshot"]  # the same content is the same snapshot
    assert (result["number"], result["reason"]) == (taken["number"], "the model is retired")
