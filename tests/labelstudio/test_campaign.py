"""A campaign whose people label in Label Studio, from start to snapshot on a real Temporal: it waits there for nothing but at its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer, Worker

from perdure.activities.guard import Guard
from perdure.activities.labeling import LabelingActivities
from perdure.adapters.lines import S3Lines
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef
from perdure.metadata.repository import LabelRows
from perdure.temporal import DATA_CONVERTER, connect, ensure_search_attributes
from perdure.workflows import labelstudio as workflow
from perdure.workflows import policies
from perdure.workflows.labeling import LabelingCampaign
from perdure.workflows.policies import MAIN
from tests.labelstudio.conftest import SPEC, Place
from tests.servers import Stack


@pytest.fixture(scope="module")
async def client(stack: Stack) -> Client:
    client = await connect(stack.settings)
    await ensure_search_attributes(client)
    return client


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "TICK_EVERY", 0.05)
    monkeypatch.setattr(workflow, "RECONCILE_EVERY", timedelta(seconds=0.2))
    monkeypatch.setattr(workflow, "AWAY", timedelta(seconds=0.2))


class Campaign:
    def __init__(self, place: Place, settings: Settings, client: Client) -> None:
        self.place, self.client, self.objects = place, client, ObjectStore(settings.s3, attempts=2)
        self.handle: WorkflowHandle[Any, Any]

    @asynccontextmanager
    async def running(self, tasks: int = 3, patience: float = 10, **spec: Any) -> AsyncIterator[None]:
        place = self.place
        rows = LabelingActivities(place.campaigns, LabelRows(place.database), S3Lines(self.objects))
        there = place.activities
        work = [rows.open, rows.import_tasks, rows.tick, rows.close, rows.command, rows.snapshot, there.push, there.reconcile]
        with ThreadPoolExecutor(8) as pool:
            async with Worker(
                self.client,
                task_queue=MAIN,
                workflows=[LabelingCampaign],
                activities=work,
                activity_executor=pool,
                interceptors=[Guard()],
            ):
                lines = b"".join(canonical({"key": f"t{n}", "payload": {"text": str(n)}}) + b"\n" for n in range(tasks))
                manifest = self.objects.put("tasks", "tasks.ndjson", lines)
                request = {"campaign": place.name, "spec": {**SPEC, **spec}, "tasks": manifest.as_json(), "patience": patience}
                self.handle = await self.client.start_workflow("LabelingCampaign", request, id=f"campaign/{place.name}", task_queue=MAIN)
                await self.until(lambda: place.campaigns.named(place.name).total == tasks)
                place.id = place.campaigns.named(place.name).id
                yield

    async def until(self, done: Callable[[], object]) -> None:
        for _ in range(1000):
            try:
                if await asyncio.to_thread(done):
                    return
            except Exception:  # noqa: S110 (it is not there yet)
                pass
            await asyncio.sleep(0.02)
        raise AssertionError("it does not come")

    async def labels(self) -> tuple[dict[str, str], Any]:
        """The snapshot, and the workflow's result. Its history can be replayed."""
        result = await self.handle.result()
        history = await self.handle.fetch_history()
        await Replayer(workflows=[LabelingCampaign], data_converter=DATA_CONVERTER).replay_workflow(history)
        lines = [json.loads(line) for line in self.objects.get(ArtifactRef(**result["snapshot"])).splitlines()]
        return {line["key"]: line["label"] for line in lines}, result


@pytest.fixture
def campaign(place: Place, settings: Settings, client: Client) -> Campaign:
    return Campaign(place, settings, client)


async def test_from_start_to_snapshot_without_a_single_hook(campaign: Campaign) -> None:
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running():
        await campaign.until(lambda: len(fake.tasks) == 3)
        for key in ("t0", "t1"):
            fake.annotate(key, "pos")
        await campaign.until(lambda: len(place.statuses()) == 2)
        fake.annotate("t2", "neg")
        labels, result = await campaign.labels()
    assert labels == {"t0": "pos", "t1": "pos", "t2": "neg"}
    assert (result["complete"], result["missing"], result["reason"]) == (True, None, "every task has its label")


async def test_label_studio_is_down_and_the_campaign_goes_on(campaign: Campaign) -> None:
    """It is down when the campaign starts, and again while people label there."""
    place, fake = campaign.place, campaign.place.fake
    fake.down = True
    async with campaign.running():
        await campaign.until(lambda: place.problems()[0])
        assert place.by_hook({"action": "PROJECT_UPDATED"}).state == "processed"
        fake.down = False
        await campaign.until(lambda: len(fake.tasks) == 3)
        fake.down = True
        for key in ("t0", "t1", "t2"):
            fake.annotate(key, "pos")
        await campaign.until(lambda: place.problems()[1])
        assert place.statuses() == {}
        fake.down = False
        labels, result = await campaign.labels()
    assert (len(labels), result["missing"]) == (3, None)


async def test_down_at_the_end_it_is_waited_for_with_patience_and_then_said(campaign: Campaign) -> None:
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running(patience=0.5):
        await campaign.until(lambda: len(fake.tasks) == 3)
        made = fake.annotate("t0", "pos")
        fake.down = True
        place.by_hook(made)
        await campaign.handle.execute_update("close", {"actor": "ann", "reason": "enough"})
        labels, result = await campaign.labels()
    assert (labels, result["complete"], result["reason"]) == ({"t0": "pos"}, False, "enough")
    assert "Label Studio could not be asked at the end: Label Studio did not answer" in result["missing"]


async def test_a_deletion_that_is_found_at_the_end_keeps_the_campaign_open(campaign: Campaign) -> None:
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running(tasks=2):
        await campaign.until(lambda: len(fake.tasks) == 2)
        place.by_hook(first := fake.annotate("t0", "pos"))
        fake.delete(first["annotation"]["id"])
        place.by_hook(fake.annotate("t1", "pos"))
        await campaign.until(lambda: place.statuses()["t0"] == ["deleted", "deleted"])
        assert place.campaigns.named(place.name).closed_at is None
        fake.annotate("t0", "neg")
        labels, result = await campaign.labels()
    assert labels == {"t0": "neg", "t1": "pos"}
    assert result["statistics"]["annotations"] == {"valid": 2, "deleted": 2}


async def test_a_paused_campaign_gives_out_no_tasks_and_takes_answers(campaign: Campaign) -> None:
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running(tasks=2):
        await campaign.until(lambda: len(fake.tasks) == 2)
        await campaign.handle.execute_update("pause", {"actor": "ann"})
        place.add("more")
        fake.annotate("t0", "pos")
        await campaign.until(lambda: place.statuses())
        assert len(fake.tasks) == 2
        await campaign.handle.execute_update("resume", {"actor": "ann"})
        await campaign.until(lambda: len(fake.tasks) == 3)
        await campaign.handle.execute_update("close", {"actor": "ann"})
        assert (await campaign.labels())[0] == {"t0": "pos"}
