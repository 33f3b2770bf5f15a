"""`perdure campaigns`, `labels` and `affected`, with a campaign whose workflow runs in this process.

After test_live.py, which wants to see a queue that no worker asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from perdure.cli.exits import Exit
from perdure.config import Settings
from perdure.metadata.database import Database
from perdure.metadata.tables import ArtifactKind
from perdure.metadata.upgrade import upgrade
from perdure.temporal import connect
from tests.cli.conftest import Call, document
from tests.metadata.world import World as Lineage
from tests.metadata.world import as_json, ref
from tests.servers import Stack
from tests.workflows.test_labeling import Campaign, World


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    settings = stack.isolated()
    upgrade(settings)
    return settings


@pytest.fixture
async def world(stack: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name, value in stack.environment(settings).items():
        monkeypatch.setenv(name, value)
    with Database.open(settings) as database:
        world = World(settings, database, await connect(settings))
        async with world.working():
            yield world


async def test_a_campaign_by_commands(world: World, call: Call, tmp_path: Path) -> None:
    async def ask(*arguments: object) -> Result:
        return await asyncio.to_thread(call, *arguments)

    async def told(*arguments: object) -> Any:
        result = await ask(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return document(result)

    (tmp_path / "tasks.ndjson").write_text('{"key": "a", "payload": {}}\n{"key": "b", "payload": {}}\n')
    tasks = json.loads((await ask("campaigns", "upload", tmp_path / "tasks.ndjson")).stdout)
    assert tasks == await told("campaigns", "upload", tmp_path / "tasks.ndjson")
    request = {"campaign": "spam", "spec": {"question": "Is it spam?", "choices": ["ham", "spam"], "owner": "ann"}, "tasks": tasks}
    handle = await world.client.start_workflow("LabelingCampaign", request, id="campaign/spam", task_queue="perdure")
    campaign = Campaign(world, "spam", handle)
    await campaign.open()
    assert "nobody has answered yet" in (await ask("campaigns", "show", "spam")).stderr
    campaign.label("a", by="ada")

    assert (await told("campaigns", "pause", "spam", "--reason", "unclear", "--actor", "ann"))["state"] == "paused"
    assert (await ask("campaigns", "resume", "spam", "--version", "1")).exit_code == Exit.CONFLICT
    assert "spam is open (version 3)" in (await ask("campaigns", "resume", "campaign/spam")).stderr
    assert (await told("campaigns", "extend", "spam", "--to", "2035-01-31T12:00:00Z"))["deadline"] == "2035-01-31T12:00:00Z"
    assert (await ask("campaigns", "extend", "spam", "--to", "soon")).exit_code == Exit.USAGE
    await campaign.until(lambda progress: progress["tick"]["decided"] == 1)
    assert [(row["name"], row["state"], row["decided"]) for row in await told("campaigns", "list")] == [("spam", "open", 1)]
    assert await told("campaigns", "list", "--state", "closed") == []
    shown = await told("campaigns", "show", "spam")
    assert (shown["annotations"], shown["labelers"][0]["principal"], shown["spec"]["owner"]) == ({"valid": 1}, "ada", "ann")

    assert "is being closed" in (await ask("campaigns", "close", "spam", "-m", "enough")).stderr
    result = await handle.result()
    closed = await ask("campaigns", "pause", "spam")
    assert (closed.exit_code, "spam is closed: enough" in closed.stderr) == (Exit.CONFLICT, True)
    assert result["snapshot"]["uri"] in (await ask("campaigns", "show", "spam")).stdout
    assert (await ask("campaigns", "show", "eggs")).exit_code == Exit.NOT_FOUND

    exported = await told("labels", "export", "spam", "--out", tmp_path / "labels.ndjson")
    body = (tmp_path / "labels.ndjson").read_bytes()
    assert exported["sha256"] == result["snapshot"]["sha256"] == hashlib.sha256(body).hexdigest()
    assert (await ask("labels", "export", "spam")).stdout.encode() == body
    assert await told("labels", "export", "spam") == [json.loads(line) for line in body.splitlines()]

    found = await told("affected", "--labeler", "ada")
    assert found["campaigns"] == [{"campaign": "spam", "answers": {"valid": 1}}]
    assert [(each["campaign"], each["number"], each["opinions"]) for each in found["snapshots"]] == [("spam", 1, 1)]
    assert (await ask("affected", "--labeler", "nobody")).exit_code == Exit.NOT_FOUND


async def test_affected_follows_labels_into_data_sets_and_models(world: World, call: Call) -> None:
    """By the edges of lineage, through any number of steps, and to nothing else."""
    campaign = world.campaigns.open("lineage", {"question": "?", "choices": ["ham"]}, "campaign/lineage", "ann")
    taken = ref("labels.ndjson", "labels")
    world.campaigns.snapshot(campaign.id, taken, 1, {"labelers": {"eve": 2}})
    world.campaigns.snapshot(campaign.id, ref("other.ndjson", "labels"), 1, {"labelers": {"ada": 2}})
    world.labels.lease(campaign.id, "eve", 1)  # makes the labeler known
    lineage = Lineage(world.database)
    model = lineage.model(lineage.run("of-labels"))
    elsewhere = lineage.run("of-something-else", spec={"name": "other", "data": {}})
    other = lineage.dataset(elsewhere, "other.json", "other")
    made = {"predictor": as_json(ref("other.zip")), "rounds": 1, "metrics": {}}
    lineage.models.commit(lineage.step(elsewhere).id, "other", other.id, made, "")
    source, manifest = ref("cleaned.tsv"), ref("manifest.json", "datasets")
    with world.database.transaction() as session:
        rows = lineage.datasets
        labels, cleaned = rows._artifact(session, ArtifactKind.LABELS, taken), rows._artifact(session, ArtifactKind.SOURCE, source)
        rows._made_from(session, cleaned, "labels", [labels])
        rows._made_from(session, rows._artifact(session, ArtifactKind.MANIFEST, manifest), "source", [cleaned])
    found = document(await asyncio.to_thread(call, "affected", "--labeler", "eve", "--json"))
    assert [(each["campaign"], each["number"]) for each in found["snapshots"]] == [("lineage", 1)]
    assert [(each["name"], each["number"]) for each in found["datasets"]] == [("moderation", 1)]
    assert [(each["name"], each["number"]) for each in found["models"]] == [(model.model, model.number)]
