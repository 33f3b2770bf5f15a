"""Selection's activities against ports that answer what a test says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from perdure.activities.jobs import Watched
from perdure.activities.selection import SelectionActivities
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.preparation import DatasetRef
from perdure.messages.selection import RecordLabels, RoundDone, SelectRequest
from perdure.ports import Claim, ModelVersion, PipelineVersion, Run, StepRun
from perdure.spec.pipeline import load

LABELS, TASKS = (ArtifactRef(uri=f"s3://b/{name}", sha256=digit * 64) for name, digit in (("labels", "1"), ("tasks", "2")))
REF = ArtifactRef(uri="s3://b/p", sha256="0" * 64)
DATASET = DatasetRef(dataset_version=uuid4(), manifest=REF, train_rows=500, test_rows=100, pool_rows=900)


class Ports:
    """The step run of one round, and a job that chose 100 of 900 rows."""

    def __init__(self, **label: Any) -> None:
        data = {"source": {"uri": "x.tsv", "format": "tsv"}, "target": {"column": "y"}}
        spec = load({"name": "m", "owner": "ann", "data": data, "label": {"question": "?", "rounds": 2, **label}}).as_json()
        self.pipeline = PipelineVersion(id=uuid4(), name="m", number=1, sha256="0" * 64, spec=spec)
        self.row = StepRun(id=uuid4(), run_id=uuid4(), round=0, step=StepKind.LABEL, state="running")
        self.answer = Claim(mine=True, reason="miss")
        self.claimed: list[Json] = []
        self.reported: list[tuple[Json, str | None]] = []
        self.jobs: list[Watched] = []
        self.chosen: Json = {"tasks": TASKS.as_json(), "asked": 100, "classes": ["no", "yes"], "figures": {"pool": 900, "confident": 0.6}}
        every: Any = self
        self.activities = SelectionActivities(every, every, every, every, every, SimpleNamespace(run=self.work), "s3://b")  # type: ignore[arg-type]

    def begin(self, run_id: object, round: int, step: StepKind, scheduled: datetime) -> StepRun:
        assert (run_id, round, step) == (self.row.run_id, self.row.round, StepKind.LABEL)
        return self.row

    def run(self, run_id: object) -> Run:
        return Run(id=self.row.run_id, workflow_id="run/m/2", pipeline=self.pipeline, spec=self.pipeline.spec, state=RunState.RUNNING)

    def version(self, model_version: object) -> ModelVersion:
        return ModelVersion(id=uuid4(), model="m", number=3, predictor=REF, dataset_version=uuid4(), run_id=uuid4(), rounds=1)

    def claim(self, run: Run, step: StepRun, **asked: Any) -> Claim:
        self.claimed.append(asked)
        return self.answer

    def work(self, job: Watched) -> Any:
        self.jobs.append(job)
        return SimpleNamespace(result=self.chosen)

    def report(self, step_run: object, detail: Json, waiting_for: str | None = None) -> None:
        self.reported.append((detail, waiting_for))

    def finish(self, step_run: object, result: Json, reason: str) -> StepRun:
        self.row = replace(self.row, state="succeeded", reason=reason, result=result)
        return self.row

    def commit(self, step_run: object, *, result: Json, reason: str, **_: Any) -> StepRun:
        return self.finish(step_run, result, reason)

    def select(self, *rounds: tuple[int, float], pool: int = 900) -> Any:
        done = [
            RoundDone(round=n, rows=500, labeled=labeled, version=n + 1, metrics={"roc_auc": score})
            for n, (labeled, score) in enumerate(rounds or [(0, 0.9)])
        ]
        request = SelectRequest(run_id=self.row.run_id, dataset=replace(DATASET, pool_rows=pool), model_version=uuid4(), rounds=done)
        return ActivityEnvironment().run(self.activities.select, request)

    def record(self, tasks: int, *, complete: bool, reason: str) -> Any:
        request = RecordLabels(
            run_id=self.row.run_id,
            dataset_version=DATASET.dataset_version,
            model_version=uuid4(),
            campaign="c",
            chosen=TASKS,
            asked=100,
            figures={},
            snapshot=LABELS,
            tasks=tasks,
            complete=complete,
            reason=reason,
        )
        return ActivityEnvironment().run(self.activities.record, request)


def test_what_a_job_chose_is_asked_in_a_campaign() -> None:
    ports = Ports(deadline="14d")
    selected = ports.select()
    assert (selected.ended, selected.asked, selected.tasks) == (None, 100, TASKS)
    assert (selected.spec["choices"], selected.spec["owner"], selected.spec["deadline"]) == (["no", "yes"], "ann", "1209600s")
    assert selected.campaign.startswith("m-2-r0-")
    assert ports.select().campaign == selected.campaign, "a step that begins again finds what people have said"
    assert ports.jobs[0].request.inputs["model"] == {"model": "m", "version": 3}
    assert ports.reported[0] == ({"phase": "people", "campaign": selected.campaign}, f"people: campaign {selected.campaign}")


@pytest.mark.parametrize(
    ("label", "rounds", "pool", "told"),
    [
        ({}, [(0, 0.9), (100, 0.9), (200, 0.9)], 900, "2 rounds of questions are the most"),
        ({}, [(0, 0.9)], 0, "every row has a label"),
        ({"min_gain": 0.1}, [(0, 0.9), (100, 0.91)], 900, "roc_auc went from 0.9000 to 0.9100"),
    ],
)
def test_nobody_is_asked_without_a_look_at_the_pool(label: Json, rounds: list[tuple[int, float]], pool: int, told: str) -> None:
    ports = Ports(**label)
    ended = ports.select(*rounds, pool=pool).ended
    assert ended.reason.startswith(told)
    assert (ended.snapshot, ports.jobs, ports.claimed, ports.row.state) == (None, [], [], "succeeded")
    assert ports.select(*rounds, pool=pool).ended == ended, "what was decided stays so"


def test_nobody_is_asked_after_a_look_at_the_pool() -> None:
    sure = Ports(when={"confident_below": 0.5})
    assert sure.select().ended.reason == "the model is confident about 60.0% of the pool; people are asked below 50.0%"
    left = Ports()
    left.chosen |= {"tasks": None, "asked": 0}
    assert left.select().ended.reason == "no row is left that the model may learn from"


def test_all_answers_are_reused_and_some_are_not() -> None:
    ports = Ports()
    ended = ports.record(100, complete=True, reason="every task has its label")
    assert (ended.snapshot, ended.tasks) == (LABELS, 100)
    known = ports.row
    assert (known.result or {})["reusable"] == LABELS.as_json()
    other = Ports()
    other.answer = Claim(hit=known, reason="hit: run/m/1")
    again = other.select().ended
    assert (again.snapshot, again.cached, other.jobs) == (LABELS, True, [])
    assert other.claimed[0]["artifacts"] == "reusable"
    partly = Ports()
    assert partly.record(40, complete=False, reason="the deadline is over").snapshot == LABELS
    assert "reusable" not in (partly.row.result or {})
    nobody = Ports()
    silent = nobody.record(0, complete=False, reason="the deadline is over")
    assert (silent.snapshot, silent.reason) == (None, "nobody answered: the deadline is over")
    assert "snapshot" not in (nobody.row.result or {})


def test_how_long_people_are_waited_for_makes_no_other_question() -> None:
    one, same, other = Ports(), Ports(deadline="1d", rounds=5, min_gain=0.5), Ports(batch=50)
    for ports in (one, same, other):
        ports.select()
    assert one.claimed[0]["params"] == same.claimed[0]["params"] != other.claimed[0]["params"]
