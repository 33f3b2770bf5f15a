"""People compare challenger and champion, on real servers, with real jobs and a worker that is killed while they think."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import numpy as np
import polars as pl
import pytest
from sqlalchemy import text
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle

from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.s3 import ObjectStore
from perdure.cli.snapshots import snapshot
from perdure.config import Settings
from perdure.errors import EvidenceChanged
from perdure.keys import identity
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.labeling import WITHDRAWN, CampaignState
from perdure.messages.pipeline import StepKind
from perdure.messages.promotion import VoteDecision
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, RunSummary, list_runs, show_run
from perdure.metadata.queries.affected import affected
from perdure.metadata.repository import CampaignRows, DatasetRows, ModelRows, PromotionRows, RunRows, StepRows
from perdure.metadata.upgrade import upgrade
from perdure.ports import ModelVersion, Run
from perdure.spec.pipeline import load
from perdure.temporal import connect, ensure_search_attributes
from perdure.workflows.policies import MAIN
from tests.e2e.by_hand import Worker
from tests.gateway.serving import serving
from tests.gateway.world import People
from tests.jobs.running import Jobs, Prepared
from tests.jobs.test_evaluation import trained
from tests.servers import Stack

PAIRS = 6
_Seen = TypeVar("_Seen")


class World:
    """A champion that serves, and what a labeler does who knows which answers are the challenger's."""

    def __init__(self, stack: Stack, settings: Settings, database: Database, folder: Path) -> None:
        self.stack, self.settings, self.database, self.folder = stack, settings, database, folder
        self.objects = ObjectStore(settings.s3)
        self.runs, self.steps, self.models = RunRows(database), StepRows(database), ModelRows(database)
        self.campaigns, self.promotions = CampaignRows(database), PromotionRows(database)
        random = np.random.default_rng(4)
        x, y = random.normal(size=1_000), random.normal(size=1_000)
        labels = np.where(x + y / 2 + random.normal(size=1_000) * 0.3 > 0, "good", "bad")
        pl.DataFrame({"x": x, "y": y, "label": labels}).write_csv(folder / "rows.csv")
        data = {"source": {"uri": str(folder / "rows.csv"), "format": "csv"}, "target": {"column": "label", "positive": "good"}}
        human = {"sample": PAIRS, "min_win_rate": 0.5}
        self.prepared: Prepared = Jobs(self.objects, data, owner="ann", evaluate={"metrics": ["roc_auc"], "human": human}).prepare()
        self.spec = self.prepared.jobs.spec.as_json()
        self.worker = self.hire()

    def hire(self) -> Worker:
        worker = Worker(self.stack.environment(self.settings), self.folder / f"worker-{uuid4().hex[:4]}.log")
        worker.ready()
        return worker

    def fire(self) -> None:
        """As the kernel does it: -9, and somebody else takes over."""
        os.kill(self.worker.pid, SIGKILL)
        self.worker.end()
        self.worker = self.hire()

    def model(self, rounds: int, *, cache: bool = True, spec: Json | None = None) -> tuple[Run, ModelVersion]:
        """A run whose training has ended, with a model of so many rounds."""
        spec = spec or self.spec
        version = self.runs.apply(spec, load(spec).sha256, None, None, "ann")
        workflow_id = f"run/{spec['name']}/{uuid4().hex[:8]}"
        run = self.runs.open(workflow_id=workflow_id, chain="first", pipeline=version.id, spec=spec, request={"cache": cache})
        result = {**self.prepared.result, "source": self.prepared.inputs["plan"]["source"]}
        dataset = DatasetRows(self.database).commit(self.steps.begin(run.id, 0, StepKind.PREPARE).id, spec["name"], result, "miss: new")
        made = {"predictor": trained(self.prepared, rounds), "rounds": rounds, "metrics": {}}
        return run, self.models.commit(self.steps.begin(run.id, 0, StepKind.TRAIN).id, spec["name"], dataset.id, made, "")

    def find(self, workflow_id: str) -> RunSummary | None:
        """The run, once it is known."""
        return next((run for run in list_runs(self.database) if run.workflow_id == workflow_id), None)

    async def start(self, client: Client, run: Run, version: ModelVersion, **more: Any) -> Comparing:
        """As its run would."""
        request = {"run_id": run.id, "model_version": version.id, "dataset_version": version.dataset_version, **more}
        name = f"{run.workflow_id}/r{more.get('round', 0)}/evaluate"
        handle = await client.start_workflow("ModelEvaluation", request, id=name, task_queue=MAIN)
        return Comparing(self, client, run, handle)

    async def compare(self, client: Client, rounds: int, **how: Any) -> Comparing:
        return await self.start(client, *self.model(rounds, **how))

    async def crown(self, client: Client) -> None:
        """Release a first, weak version."""
        run, version = self.model(1)
        result = await (await self.start(client, run, version)).handle.result()
        assert result["passed"]
        assert result["reasons"] == ["people are not asked: there is no champion to compare with"]
        step = self.steps.begin(run.id, 0, StepKind.PROMOTE)
        promotion = self.promotions.open(step.id, version.id, UUID(result["evaluation"]), required=0, deadline_seconds=60)
        self.promotions.close(promotion.id, release=True, reason="all gates passed", actor="perdure")


class Comparing:
    """The evaluation of one run, which waits for people. ``handle`` is its workflow, or that of the run."""

    def __init__(self, world: World, client: Client, run: Run | RunSummary, handle: WorkflowHandle[Any, Any]) -> None:
        self.world, self.client, self.run, self.handle = world, client, run, handle

    @property
    def step(self) -> UUID:
        return identity(self.run.id, 0, StepKind.EVALUATE)

    @property
    def version(self) -> ModelVersion:
        made = self.world.steps.step(identity(self.run.id, 0, StepKind.TRAIN)).result
        assert made is not None
        return self.world.models.version(UUID(made["model_version"]))

    def detail(self) -> RunDetail:
        return show_run(self.world.database, self.run.workflow_id)

    async def campaign(self) -> WorkflowHandle[Any, Any]:
        """The campaign, once it gives out its tasks."""

        def named() -> str | None:
            steps = self.detail().steps
            return next((step.waiting_for for step in steps if step.id == self.step and step.waiting_for), None)

        waiting = await until(named)
        assert waiting is not None
        assert waiting.startswith("people: campaign ")
        name = waiting.removeprefix("people: campaign ")
        await until(lambda: name in self.opened() and self.world.campaigns.named(name).total == PAIRS)
        return self.client.get_workflow_handle(f"campaign/{name}")

    def opened(self) -> list[str]:
        with self.world.database.transaction() as session:
            named = text("select name from campaign where name like :of")
            return list(session.scalars(named, {"of": f"%{self.run.workflow_id[-8:]}-human-%"}))

    def told(self) -> list[tuple[str, str, str]]:
        """Who was told what, with how many pairs left."""
        query = "select target, payload->>'kind', payload->>'left' from outbox where topic = 'notify' and payload->>'campaign' = :name"
        with self.world.database.transaction() as session:
            return [tuple(row) for row in session.execute(text(query), {"name": self.opened()[0]})]

    def sides(self) -> dict[str, str]:
        """Where the challenger's answers stand: only who reads the job's objects can know."""
        result = S3JobFiles(self.world.objects).latest(f"{self.step}-evaluate-1").result
        assert result is not None
        made = self.world.objects.get_json(ArtifactRef.from_json(result["pairs"]["sides"]))
        return {key: each["challenger"] for key, each in made.items()}

    async def answer(self, *labels: str) -> None:
        """``win``, ``loss`` or ``tie``, pair by pair, through the campaign."""
        campaign, sides = await self.campaign(), self.sides()
        other = {"left": "right", "right": "left"}
        values = [{"win": side, "loss": other[side], "tie": "tie"}[label] for side, label in zip(sides.values(), labels, strict=False)]
        items = [{"task": key, "value": value} for key, value in zip(sides, values, strict=False)]
        given = await campaign.execute_update("answer", {"actor": "ada", "items": items})
        assert [each["status"] for each in given["items"]] == ["valid"] * len(labels)

    def evaluation(self) -> Any:
        query = "select e.human, e.passed, e.evidence_sha256, a.sha256 as labels from evaluation e join artifact a on a.id = e.labels_id"
        with self.world.database.transaction() as session:
            return session.execute(text(f"{query} where e.step_run_id = :step"), {"step": self.step}).one()


async def until(seen: Callable[[], _Seen], seconds: float = 60) -> _Seen:
    for _ in range(int(seconds / 0.05)):
        if found := seen():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it did not happen within {seconds} s")


@pytest.fixture(scope="module")
async def client(stack: Stack) -> Client:
    client = await connect(stack.settings)
    await ensure_search_attributes(client)
    return client


@pytest.fixture(scope="module")
def world(stack: Stack, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = stack.isolated()
    upgrade(settings)
    with Database.open(settings) as database:
        made = World(stack, settings, database, tmp_path_factory.mktemp("human"))
        try:
            yield made
        finally:
            made.worker.end()


@pytest.fixture
async def champion(world: World, client: Client) -> None:
    if world.models.champion(world.spec["name"]) is None:
        await world.crown(client)


async def test_who_wins_may_be_released_though_the_worker_died_while_people_thought(world: World, client: Client, champion: None) -> None:
    comparing = await world.compare(client, 30)
    await comparing.answer("win", "win", "loss")
    waiting = next(step for step in comparing.detail().steps if step.id == comparing.step)
    assert waiting.campaign is not None
    assert (waiting.campaign["name"], waiting.campaign["total"]) == (comparing.opened()[0], PAIRS)
    assert waiting.campaign["deadline"] == world.campaigns.named(comparing.opened()[0]).deadline
    world.fire()
    campaign = await comparing.campaign()
    assert ("ann", "remind", str(PAIRS)) in comparing.told()  # the owner knows at once
    items = [{"task": key, "value": "tie" if n < 5 else side} for n, (key, side) in enumerate(comparing.sides().items()) if n >= 3]
    await campaign.execute_update("answer", {"actor": "bob", "items": items})
    result = await comparing.handle.result()
    assert result["passed"]
    judged = affected(world.database, "ada").judged
    assert (judged[-1].name, judged[-1].number) == (comparing.version.model, comparing.version.number)
    told = "people preferred it to version 1 in 3 of 6 pairs, with 2 ties: win rate 0.6667 ≥ 0.5; 95% interval 0.30 to 0.90"
    assert result["reasons"] == [told]
    kept = comparing.evaluation()
    assert (kept.passed, kept.evidence_sha256) == (True, result["evidence_sha256"])
    assert [kept.human["said"][name] for name in ("asked", "wins", "losses", "ties")] == [6, 3, 1, 2]
    assert kept.labels == kept.human["snapshot"]["sha256"]
    (verdict,) = comparing.detail().verdicts
    assert (verdict["gate"], verdict["value"]) == ({"rubric": "pairwise", "sample": 6, "min_win_rate": 0.5}, pytest.approx(4 / 6))


async def test_who_loses_is_refused_and_the_evidence_is_another(world: World, client: Client, champion: None) -> None:
    """The same models, figures and pairs: only what people say differs."""
    spec = {**world.spec, "promote": {"approval": {"required": 1, "deadline": "7d"}}}
    won = await world.compare(client, 25, cache=False, spec=spec)
    await won.answer(*["win"] * PAIRS)
    kept = await won.handle.result()
    lost = await world.compare(client, 25, cache=False, spec=spec)
    await lost.answer(*["loss"] * 4, "win", "tie")
    result = await lost.handle.result()
    assert not result["passed"]
    assert "in 1 of 6 pairs, with 1 ties: win rate 0.25 < 0.5" in result["reasons"][0]
    assert lost.sides() == won.sides()
    assert result["metrics"] == kept["metrics"]
    assert result["evidence_sha256"] != kept["evidence_sha256"]
    step = world.steps.begin(won.run.id, 0, StepKind.PROMOTE)
    promotion = world.promotions.open(step.id, won.version.id, UUID(kept["evaluation"]), required=1, deadline_seconds=60)
    with pytest.raises(EvidenceChanged):
        world.promotions.vote(promotion.id, VoteDecision.APPROVE, "ann", "", result["evidence_sha256"], "temporal")

    again = await (await world.compare(client, 25, spec=spec)).handle.result()  # nobody is asked twice
    assert again["cached"]
    assert again["reasons"] == result["reasons"]


async def test_a_campaign_that_closes_early_is_judged_by_what_is_decided(world: World, client: Client, champion: None) -> None:
    comparing = await world.compare(client, 20)
    await comparing.answer("win", "tie")
    await (await comparing.campaign()).execute_update("close", {"actor": "ann", "reason": "enough for now"})
    result = await comparing.handle.result()
    assert result["passed"]
    assert "in 1 of 2 pairs, with 1 ties (6 were asked about: enough for now): win rate 0.75 ≥ 0.5" in result["reasons"][0]


async def test_nothing_decided_is_a_refusal_with_a_remedy(world: World, client: Client, champion: None) -> None:
    comparing = await world.compare(client, 15)
    await (await comparing.campaign()).execute_update("close", {"actor": "ann", "reason": "nobody has time"})
    result = await comparing.handle.result()
    assert not result["passed"]
    assert "people decided none of 6 pairs: nobody has time; for another try set a later evaluate.human.deadline" in result["reasons"][0]


async def test_a_deadline_that_passes_by_itself(world: World, client: Client, champion: None) -> None:
    """Nobody looks, pokes or closes: the campaign's own timer ends it."""
    human = {**world.spec["evaluate"]["human"], "deadline": "6s"}
    comparing = await world.compare(client, 22, spec={**world.spec, "evaluate": {**world.spec["evaluate"], "human": human}})
    await comparing.answer("win", "win", "tie")
    result = await asyncio.wait_for(comparing.handle.result(), 30)
    assert result["passed"]
    assert "in 2 of 3 pairs, with 1 ties (6 were asked about: the deadline is over): win rate 0.8333 ≥ 0.5" in result["reasons"][0]


async def test_answers_by_http_of_somebody_who_sees_no_more_than_the_pair(world: World, client: Client, champion: None) -> None:
    comparing = await world.compare(client, 28)
    campaign = await comparing.campaign()
    name = campaign.id.removeprefix("campaign/")
    headers = People(world.database)("carl", "label")
    with serving(world.stack, world.settings) as process:
        async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=30) as http:
            leases = (await http.post(f"/v1/campaigns/{name}/lease", json={"max": 50})).json()["leases"]
            assert {lease["task"] for lease in leases} == set(comparing.sides())
            for lease in leases:
                assert set(lease) <= {"assignment_id", "lease_token", "expires_at", "task", "payload", "prediction"}
                assert lease.get("prediction") is None
                assert set(lease["payload"]) == {"x", "y", "left", "right"}
                value = comparing.sides()[lease["task"]]
                path, proof = f"/v1/assignments/{lease['assignment_id']}/submit", {"lease_token": lease["lease_token"]}
                assert (await http.post(path, json={**proof, "value": "challenger"})).status_code == 422
                assert (await http.post(path, json={**proof, "value": value})).status_code == 201
    await campaign.signal("poke")  # as the relay does
    result = await comparing.handle.result()
    assert result["passed"]
    assert "in 6 of 6 pairs, with 0 ties: win rate 1 ≥ 0.5" in result["reasons"][0]


async def test_a_round_after_which_more_may_be_learned_asks_nobody(world: World, client: Client, champion: None) -> None:
    run, version = world.model(24)
    result = await (await world.start(client, run, version, people=False)).handle.result()
    assert (result["passed"], result["reasons"]) == (True, [])
    assert result["metrics"]
    comparing = await world.start(client, run, version, round=1)
    campaign = await until(lambda: next(iter(comparing.opened()), None))
    assert campaign is not None
    await client.get_workflow_handle(f"campaign/{campaign}").execute_update("close", {"actor": "ann", "reason": "enough"})
    last = await comparing.handle.result()
    assert (last["passed"], last["cached"], last["metrics"]) == (False, False, result["metrics"])
    assert "people decided none of 6 pairs" in last["reasons"][0]
    told = [(step.name, step.round) for step in snapshot(comparing.detail()).steps]
    assert told == [("prepare", 0), ("train", 0), ("evaluate", 0), ("evaluate", 1), ("promote", 1)], "nothing is prepared or trained again"


async def test_a_cancelled_run_ends_its_campaign_and_a_reset_goes_on_with_the_answers(world: World, client: Client, champion: None) -> None:
    """A whole run, to its release."""
    train = {**world.spec["train"], "engine": "local", "params": {"objective": "binary:logistic", "rounds": 40}}
    spec = {**world.spec, "train": train}
    world.runs.apply(spec, load(spec).sha256, None, None, "ann")
    workflow_id = f"run/{spec['name']}/{uuid4().hex[:8]}"
    handle = await client.start_workflow("TrainingPipeline", {"pipeline": spec["name"]}, id=workflow_id, task_queue=MAIN)
    run = await until(lambda: world.find(workflow_id))
    comparing = Comparing(world, client, run, handle)
    await comparing.answer("win", "win")
    await handle.execute_update("cancel", {"actor": "ann"})
    assert (await handle.result())["state"] == "cancelled"
    (name,) = comparing.opened()
    closed = world.campaigns.named(name)
    assert (closed.state, closed.closed_reason) == (CampaignState.CLOSED, WITHDRAWN)
    assert closed.deadline is not None

    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            reason="it was not meant",
            workflow_task_finish_event_id=4,
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE],
            request_id=str(uuid4()),
        )
    )
    await until(lambda: world.campaigns.named(name).state is CampaignState.OPEN)
    opened = world.campaigns.named(name)
    assert opened.deadline is not None
    assert opened.deadline > closed.deadline  # the time that it was closed is given back
    items = [{"task": key, "value": "tie"} for key in list(comparing.sides())[2:]]
    await (await comparing.campaign()).execute_update("answer", {"actor": "bob", "items": items})
    result = await client.get_workflow_handle(workflow_id).result()
    assert (result["state"], result["released"], result["reason"]) == ("succeeded", True, "all gates passed")
    assert comparing.opened() == [name]
    told = "people preferred it to version 1 in 2 of 6 pairs, with 4 ties: win rate 0.6667 ≥ 0.5"
    assert [told in verdict["reason"] for verdict in comparing.detail().verdicts] == [True]
