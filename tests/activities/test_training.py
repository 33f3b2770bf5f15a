"""When a training pauses, against ports that answer what a test says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from perdure.activities.jobs import JobEnd, Watched
from perdure.activities.training import TrainingActivities
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import Latest
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.preparation import DatasetRef
from perdure.messages.training import TrainRequest
from perdure.ports import Claim, PipelineVersion, Run, StepRun, SubmissionRow
from perdure.spec.pipeline import load

SPEC = load({"name": "p", "data": {"source": {"uri": "rows.csv", "format": "csv"}, "target": "y"}}).as_json()
RUN = Run(
    id=uuid4(),
    workflow_id="run/p/1",
    pipeline=PipelineVersion(id=uuid4(), name="p", number=1, sha256="0" * 64, spec=SPEC),
    spec=SPEC,
    state=RunState.RUNNING,
    paused=True,
)
STEP = StepRun(id=uuid4(), run_id=RUN.id, round=0, step=StepKind.TRAIN, state="running")
MANIFEST = ArtifactRef(uri="s3://bucket/m", sha256="0" * 64)
REQUEST = TrainRequest(
    run_id=RUN.id,
    patience=timedelta(minutes=1),
    dataset=DatasetRef(dataset_version=uuid4(), manifest=MANIFEST, train_rows=8, test_rows=2),
    model="p",
)


class Ports:
    """Rows of a run that people paused; ``done`` is what was asked of them, in order."""

    def __init__(self, submission: str | None) -> None:
        self.row: SubmissionRow | None = None
        if submission is not None:
            self.row = SubmissionRow(step_run=STEP.id, name="train", number=1, job_id="j", started_at=datetime.now(UTC), state=submission)
        self.done: list[str] = []

    def run(self, what: Any) -> Any:
        """Of `Runs`, and of `JobRunner`, whose job pauses at round 20."""
        if not isinstance(what, Watched):
            return RUN
        self.done.append("watched")
        return JobEnd(result=None, latest=Latest(epoch=1, paused=20), submissions=1)

    def begin(self, *_: Any) -> StepRun:
        return STEP

    def step(self, _: Any) -> StepRun:
        return replace(STEP, reason="miss")

    def claim(self, *_: Any, **__: Any) -> Claim:
        return Claim(mine=True, reason="miss")

    def submission(self, *_: Any) -> SubmissionRow | None:
        return self.row

    def release(self, _: Any) -> None:
        self.done.append("released")


@pytest.mark.parametrize(
    ("submission", "done", "rounds"),
    [(None, ["released"], 0), ("stopped", ["released"], 0), ("open", ["watched", "released"], 20)],
    ids=["never started", "paused before", "started by an attempt that died"],
)
def test_a_paused_training_has_no_job_and_no_claim(submission: str | None, done: list[str], rounds: int) -> None:
    ports: Any = Ports(submission)
    result = ActivityEnvironment().run(TrainingActivities(ports, ports, ports, ports, ports, "s3://bucket").run, REQUEST)
    assert (result.paused, result.rounds) == (True, rounds)
    assert ports.done == done
