"""What becomes of a job that dies or stands still again and again, against ports that answer what a test says."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from perdure.activities import jobs
from perdure.activities.jobs import JobEnd, JobRunner, Watched
from perdure.errors import JobCrashed, JobStalled, ObjectsUnavailable, PatienceExhausted, PerdureError
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import Engine, JobKind, JobRequest, JobState, JobStatus, Latest
from perdure.messages.pipeline import RunState
from perdure.ports import PipelineVersion, Run, SubmissionRow
from perdure.printed import error_line

RUN = Run(
    id=uuid4(),
    workflow_id="run/p/1",
    pipeline=PipelineVersion(id=uuid4(), name="p", number=1, sha256="0" * 64, spec={}),
    spec={},
    state=RunState.RUNNING,
)
AWAY = error_line(ObjectsUnavailable("S3 at http://s3:9000 does not answer: ConnectTimeoutError"))


class Rows:
    """Submissions of one step, the files of its job, and an engine in which the job comes to *state*."""

    def __init__(self, state: JobState, output: str = "", ends_at: int = 99) -> None:
        self.died_of, self.output, self.ends_at = state, output, ends_at
        self.rows: list[SubmissionRow] = []
        self.waiting_for: list[str | None] = []
        self.stopped: set[str] = set()

    # --- Steps

    def submission(self, *_: Any) -> SubmissionRow | None:
        return self.rows[-1] if self.rows else None

    def submissions(self, *_: Any) -> list[SubmissionRow]:
        return [*self.rows]

    def next_submission(self, step_run: Any, name: str, number: int) -> SubmissionRow:
        self.rows.append(SubmissionRow(step_run=step_run, name=name, number=number, job_id=f"j{number}", started_at=datetime.now(UTC)))
        return self.rows[-1]

    def end_submission(self, step_run: Any, name: str, number: int, state: str, *_: Any) -> None:
        if (row := self.rows[number - 1]).state == "open":
            object.__setattr__(row, "state", state)

    def report(self, step_run: Any, detail: Any, waiting_for: str | None = None) -> Run:
        self.waiting_for.append(waiting_for)
        return RUN

    # --- JobFiles

    def latest(self, _: str) -> Latest:
        return Latest(epoch=1, result={"rounds": 1}) if len(self.rows) == self.ends_at else Latest(epoch=1)

    def status(self, *_: Any) -> Any:
        return {}

    def put_request(self, _: Any) -> ArtifactRef:
        return ArtifactRef(uri="s3://bucket/request", sha256="0" * 64)

    def reopen(self, _: str) -> None:
        pass

    # --- Compute

    def submit(self, _: Any) -> None:
        pass

    def state(self, job_id: str) -> JobState:
        return JobState(status=JobStatus.STOPPED) if job_id in self.stopped else self.died_of

    def stop(self, job_id: str) -> None:
        self.stopped.add(job_id)

    def logs(self, _: str) -> str:
        return self.output


def watch(rows: Any, scheduled: datetime | None = None) -> JobEnd:
    request = JobRequest(job="j", kind=JobKind.FIT, storage="s3://bucket", spec={})
    job = Watched(step_run=uuid4(), name="fit-0", request=request, engine=Engine.LOCAL, stall=timedelta(seconds=0.1), setting="data.stall")
    environment = ActivityEnvironment()
    if scheduled is not None:
        environment.info = replace(environment.info, scheduled_time=scheduled)
    end: JobEnd = environment.run(JobRunner(rows, rows, {Engine.LOCAL: rows}).run, job)
    return end


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOOK", 0.01)
    monkeypatch.setitem(jobs.POLL, Engine.LOCAL, 0.01)


PENDING = JobState(status=JobStatus.PENDING, message="room for a process")
RUNNING = JobState(status=JobStatus.RUNNING)
KILLED = JobState(status=JobStatus.FAILED, exit_code=-9, message="the job's process was killed by SIGKILL\nlast words")
GAVE_UP = JobState(status=JobStatus.FAILED, exit_code=1, message="the job's process ended with exit code 1")


@pytest.mark.parametrize(
    ("state", "output", "kind", "mentions", "field", "remedy"),
    [
        (RUNNING, "fit()", JobStalled, ("longer than 0:00:00.1", "3 times", "fit()"), "data.stall", "raise data.stall"),
        (KILLED, "", JobCrashed, ("killed by SIGKILL",), "preparation.fit", "too little memory"),
        (GAVE_UP, "perdure-error of the owner's", JobCrashed, ("exit code 1",), "preparation.fit", "os._exit"),
        (GAVE_UP, AWAY, PatienceExhausted, ("S3", "from the node that runs the job", "http://s3:9000"), None, "this node reaches S3"),
    ],
    ids=["stands still", "killed", "prints what it likes", "does not reach S3"],
)
def test_three_times_without_progress(
    state: JobState, output: str, kind: type[PerdureError], mentions: tuple[str, ...], field: str | None, remedy: str
) -> None:
    rows = Rows(state, output)
    with pytest.raises(kind) as refused:
        watch(rows)
    assert len(rows.rows) == 3
    assert {row.state for row in rows.rows} == {"stalled" if state is RUNNING else "failed"}
    assert all(mention in refused.value.problem for mention in mentions), refused.value.problem
    assert refused.value.field == field
    assert remedy in (refused.value.remedy or "")


@pytest.mark.parametrize("state", [RUNNING, KILLED], ids=["stood still", "died"])
def test_what_happens_less_often_costs_a_submission_each(state: JobState) -> None:
    rows = Rows(state, ends_at=3)
    assert watch(rows).result == {"rounds": 1}
    assert len(rows.rows) == 3


def test_deaths_from_before_a_reset_do_not_count() -> None:
    rows = Rows(KILLED)
    with pytest.raises(JobCrashed):
        watch(rows)
    with pytest.raises(JobCrashed, match="3 times"):
        watch(rows, scheduled=datetime.now(UTC))
    assert len(rows.rows) == 6


def test_a_job_that_waits_for_its_turn_does_not_stand_still() -> None:
    """However long it waits: the time counts from when it runs."""
    began, rows = time.monotonic(), Rows(RUNNING)
    rows.state = lambda _: PENDING if time.monotonic() - began < 0.3 else RUNNING  # type: ignore[method-assign]
    rows.latest = lambda _: Latest(result={"rounds": 1} if time.monotonic() - began > 0.35 else None)  # type: ignore[method-assign]
    assert watch(rows).result == {"rounds": 1}
    assert rows.stopped == set()
    assert "room for a process" in rows.waiting_for


def test_an_unforeseen_exception_is_shown_as_what_the_step_waits_for() -> None:
    rows = Rows(RUNNING)

    def broken(*_: Any) -> Any:
        raise TypeError("a defect")

    rows.status = broken  # type: ignore[method-assign]
    with pytest.raises(TypeError):
        watch(rows)
    assert rows.waiting_for[-1] == "another try after TypeError: a defect"
