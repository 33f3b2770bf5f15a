"""A campaign whose people label in Label Studio, from start to snapshot on a real Temporal: it waits there for nothing but at its end."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowFailureError

from perdure.activities import labelstudio as activities
from perdure.config import Settings
from perdure.workflows import labelstudio as workflow
from perdure.workflows import policies
from tests.labelstudio.conftest import Place
from tests.labelstudio.running import Campaign


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "TICK_EVERY", 0.05)
    monkeypatch.setattr(workflow, "RECONCILE_EVERY", timedelta(seconds=0.2))
    monkeypatch.setattr(workflow, "AWAY", timedelta(seconds=0.2))


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


async def test_label_studio_says_nothing_and_no_look_waits_for_it(campaign: Campaign) -> None:
    """It takes a request, and has not answered it when the campaign has decided, and was told to close."""
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running():
        await campaign.until(lambda: len(fake.tasks) == 3)
        fake.answers.clear()
        await campaign.until(lambda: fake.kept_waiting)
        for number, key in enumerate(("t0", "t1"), 1):
            place.by_hook(fake.annotate(key, "pos"))
            await campaign.handle.signal("poke")
            await campaign.until(lambda number=number: place.campaigns.named(place.name).decided == number)  # type: ignore[misc]
        await asyncio.sleep(1)  # five times as long as between two tries
        assert fake.kept_waiting == 1, "it is asked once at a time"
        await campaign.handle.execute_update("close", {"actor": "ann", "reason": "enough"})
        fake.annotate("t2", "neg")
        assert place.campaigns.named(place.name).closed_at is None, "its last word is waited for"
        fake.answers.set()
        labels, result = await campaign.labels()
    assert (labels, result["missing"]) == ({"t0": "pos", "t1": "pos", "t2": "neg"}, None)


async def test_a_standing_campaign_asks_for_all_before_each_snapshot(campaign: Campaign) -> None:
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running(tasks=2, standing=True, snapshot_every="1s"):
        await campaign.until(lambda: len(fake.tasks) == 2)
        fake.answers.clear()
        await campaign.until(lambda: fake.kept_waiting)
        place.by_hook(gone := fake.annotate("t0", "pos"))
        fake.delete(gone["annotation"]["id"])
        await asyncio.sleep(1.2)
        before = place.senders.rows("select count(*) from label_snapshot where campaign_id = :id", id=place.id)
        fake.answers.set()
        await campaign.until(lambda: place.statuses()["t0"] == ["deleted", "deleted"])
        count = "select count(*) > :before from label_snapshot where campaign_id = :id"
        place.by_hook(fake.annotate("t1", "neg"))
        await campaign.until(lambda: place.senders.rows(count, before=before[0][0], id=place.id)[0][0])
        await campaign.handle.execute_update("close", {"actor": "ann"})
        assert (await campaign.labels())[0] == {"t1": "neg"}


async def test_a_campaign_that_is_cancelled_while_label_studio_says_nothing_ends(campaign: Campaign) -> None:
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running():
        fake.answers.clear()
        await campaign.until(lambda: fake.kept_waiting)
        await campaign.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(campaign.handle.result(), 10)
        assert fake.kept_waiting == 1
        fake.answers.set()
        assert place.campaigns.named(place.name).closed_at is None, "one of its own can be started again"


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


async def test_an_export_that_always_breaks_off_is_not_waited_for_longer(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far it gets each time."""
    monkeypatch.setattr(activities, "PAGE", 1)
    place, fake = campaign.place, campaign.place.fake
    async with campaign.running(patience=0.5):
        await campaign.until(lambda: len(fake.tasks) == 3)
        fake.cuts_exports = True
        for key in ("t0", "t1", "t2"):
            place.by_hook(fake.annotate(key, "pos"))
            fake.task(key)["data"]["text"] = "x" * 70_000  # more than is read at once
        labels, result = await asyncio.wait_for(campaign.labels(), 15)
    assert (len(labels), result["complete"]) == (3, True)
    assert "broke off" in result["missing"] or "does not answer" in result["missing"]


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
