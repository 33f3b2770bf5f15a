"""People teach a run: they are asked, answer by signed web hooks, and the next version learns from it; the worker is killed meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from perdure import packaging
from perdure.config import Settings
from perdure.local import ports
from perdure.messages.labeling import WITHDRAWN, CampaignState
from perdure.metadata.database import Database
from perdure.metadata.queries import StepDetail, lineage
from perdure.metadata.queries.affected import affected
from perdure.metadata.repository import AccessRows, CampaignRows
from perdure.metadata.tables import HookProvider
from perdure.metadata.upgrade import upgrade
from tests.e2e.by_hand import Training, Worker, until
from tests.gateway.serving import serving
from tests.gateway.world import Hook, answers
from tests.servers import Stack

SPEC = """
name: NAME
data:
  source: {uri: rows.tsv, format: tsv}
  target: {column: kind, positive: cat}
  partitions: 2
train: {engine: local, params: {rounds: 5}}
label:
  question: Cat or dog?
  shows: row
  rounds: 2
  batch: 20
  random: 0.5
"""
TRUTH = {n: "cat" if n % 7 > 2 else "dog" for n in range(400)}


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    made = stack.isolated()
    upgrade(made)
    return made


@contextmanager
def relaying(stack: Stack, settings: Settings, log: Path) -> Iterator[None]:
    """The relay, which tells campaigns of answers."""
    environment = os.environ | stack.environment(settings) | {"PERDURE_RELAY__METRICS_PORT": str(ports.spare())}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "perdure.workers.relay"], env=environment, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


class Run(Training):
    """A run that asks."""

    def __init__(self, settings: Settings, folder: Path, name: str, key: str) -> None:
        rows = [f"{kind if n % 8 == 0 else ''}\t{n}\t{n % 7}" for n, kind in TRUTH.items()]
        (folder / "rows.tsv").write_text("\n".join(["kind\tnumber\tsize", *rows]) + "\n")
        (folder / "pipeline.yaml").write_text(SPEC.replace("NAME", name))
        packaging.apply(folder / "pipeline.yaml", settings, actor="test")
        self.settings, self.workflow_id = settings, f"run/{name}/{key}"
        self.do(lambda client, _: client.start_workflow("TrainingPipeline", {"pipeline": name}, id=self.workflow_id, task_queue="perdure"))

    def label(self, round: int) -> StepDetail | None:
        """The step that asks in this round."""
        return next((step for step in self.detail().steps if (step.step, step.round) == ("label", round)), None)

    def asks(self, round: int) -> str:
        """The campaign of this round, once it is open."""

        def opened() -> Any:
            step = self.label(round)
            return step and step.campaign and step.campaign["total"] == 20 and step.campaign["name"]

        return str(until(opened, 90, every=0.2))


def answer(settings: Settings, folder: Path, url: str, campaign: str) -> None:
    """All tasks of *campaign*, by ada and ben in turns."""
    with Database.open(settings) as database, httpx.Client(base_url=url, timeout=30) as client:
        hook = Hook(database, folder, HookProvider.STANDARD, campaign)
        key = AccessRows(database).create_key(f"tool-{campaign}", ["label"])[1]
        leased = client.post(f"/v1/campaigns/{campaign}/lease", json={"max": 20}, headers={"Authorization": f"Bearer {key}"})
        tasks = leased.raise_for_status().json()["leases"]
        assert len(tasks) == 20
        for turn, lease in enumerate(tasks):
            assert sorted(lease["payload"]) == ["number", "size"]
            said = {"task": lease["task"], "labeler": ("ada", "ben")[turn % 2], "value": TRUTH[lease["payload"]["number"]]}
            sent = client.post(hook.path, **hook.signed(answers(said)))
            assert (sent.status_code, sent.json()["state"]) == (202, "processed")


def killed(worker: Worker) -> None:
    os.kill(worker.pid, SIGKILL)
    worker.end()


@pytest.mark.long
def test_people_teach_a_run_whatever_is_killed(stack: Stack, settings: Settings, tmp_path: Path) -> None:
    environment, name = stack.environment(settings), f"asks-{uuid4().hex[:8]}"

    def started(number: int) -> Worker:
        worker = Worker(environment, tmp_path / f"worker-{number}.log")
        worker.ready()
        return worker

    with serving(stack, settings) as gateway, relaying(stack, settings, tmp_path / "relay.log"):
        worker = started(1)
        run = Run(settings, tmp_path, name, "1")
        until(lambda: run.label(0), 90)
        killed(worker)  # while the pool is scored
        worker = started(2)
        first = run.asks(0)
        killed(worker)
        answer(settings, tmp_path, gateway.url, first)  # nobody but the gateway is there
        worker = started(3)
        second = run.asks(1)
        answer(settings, tmp_path, gateway.url, second)
        result = run.result()
        again = Run(settings, tmp_path, name, "2")
        third = again.asks(0)
        again.do(lambda client, handle: handle.execute_update("cancel", {"actor": "ann"}))
        cancelled = again.result()
        worker.end()
    assert (result["state"], result["released"], result["asked_until"]) == ("succeeded", True, "2 rounds of questions are the most")
    assert [(each["labeled"], each["version"]) for each in result["rounds"]] == [(0, 1), (20, 2), (40, 3)]
    detail = run.detail()
    assert [(each.pool, each.rows + each.test_rows) for each in detail.rounds if each.rows and each.test_rows] == [
        (350, 50),
        (330, 70),
        (310, 90),
    ]
    snapshots = [
        step.result["snapshot"]["sha256"] for step in detail.steps if step.step == "label" and step.result and step.result["tasks"]
    ]
    assert len(snapshots) == 2
    with Database.open(settings) as database:
        made = {edge["sha256"] for edge in lineage(database, detail.model, 3).artifacts if edge["kind"] == "labels"}
        assert made == set(snapshots)
        assert {edge["sha256"] for edge in lineage(database, detail.model, 2).artifacts if edge["kind"] == "labels"} == {snapshots[0]}
        with database.transaction() as session:
            everybody = [row[0] for row in session.execute(text("select principal from labeler where principal like '%/ada'"))]
        withdrawn = CampaignRows(database).named(third)
        reached = [affected(database, who) for who in everybody]
    models = {campaign.campaign: [each.number for each in found.models] for found in reached for campaign in found.campaigns}
    assert models == {first: [2, 3], second: [3]}
    reused = {str(step.step): step.reason for step in again.detail().steps}
    assert reused["prepare"].startswith("hit: "), "what people said in an earlier run counts from the start"
    assert reused["train"].startswith("hit: ")
    assert (cancelled["state"], withdrawn.state, withdrawn.closed_reason) == ("cancelled", CampaignState.CLOSED, WITHDRAWN)
