"""Jobs whose step ended without them: each is stopped by who can reach it, and its row is closed by nobody else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure import reconciler
from perdure.adapters.local_jobs import LocalJobs
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.errors import ClusterUnavailable
from perdure.messages.common import Json
from perdure.messages.jobs import JobState, JobStatus, Submission
from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from perdure.ports import Run, SubmissionRow
from perdure.reconciler import Reconciler
from perdure.workers import orphans
from tests.adapters.test_compute import processes
from tests.jobs import requests
from tests.metadata.world import World
from tests.servers import Stack

_numbers = itertools.count(1)
_seconds = itertools.count(300_000)


class Ended:
    """A Temporal in which every workflow has ended in one way."""

    def __init__(self, how: str = "terminated", failure: Json | None = None) -> None:
        self.how, self.told = how, failure

    def ended_as(self, workflow_id: str) -> str:
        return self.how

    def failure(self, workflow_id: str) -> Json | None:
        return self.told


class Stubborn:
    """A cluster that knows every job, and does not see one of them gone."""

    def __init__(self, stays: str) -> None:
        self.stays, self.stopped = stays, set[str]()

    def state(self, job_id: str) -> JobState:
        return JobState(status=JobStatus.RUNNING)

    def stop(self, job_id: str) -> None:
        if job_id == self.stays:
            raise ClusterUnavailable(f"job {job_id} is not gone")
        self.stopped.add(job_id)


@pytest.fixture(scope="module")
def settings(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = stack.isolated().model_copy(update={"home": tmp_path_factory.mktemp("home")})
    upgrade(settings)
    return settings


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with Database.open(settings) as database:
        yield World(database)


@pytest.fixture
def jobs(settings: Settings) -> Iterator[LocalJobs]:
    jobs = LocalJobs(settings.model_copy(update={"worker": settings.worker.model_copy(update={"processes": 1})}))
    yield jobs
    jobs.close()


@pytest.fixture
def reconcile(world: World) -> Callable[[], reconciler.Pass]:
    return Reconciler(world.runs, world.steps, world.projections, Ended(), None, []).run_once


@pytest.fixture
def hanging(settings: Settings) -> Callable[[LocalJobs, str], str]:
    """Starts a job that hangs; returns a command line by which what it started is known."""
    objects = ObjectStore(settings.s3)
    manifest, code = requests.dataset(objects, rows=20), requests.package(objects)

    def start(jobs: LocalJobs, job_id: str) -> str:
        seconds = next(_seconds)
        params = {"act": "hang", "rounds": 1, "seconds": seconds}
        request = requests.training(manifest, code=code, trainer="owner:act", predict="owner:predict", params=params)
        jobs.submit(Submission(id=job_id, request=requests.submission(objects, request).request, code=code.sha256))
        assert within(30, lambda: len(processes(f"sleep {seconds}")) == 2), jobs.logs(job_id)
        return f"sleep {seconds}"

    return start


def within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def submitted(world: World) -> tuple[Run, SubmissionRow]:
    run = world.run(f"orphan-{next(_numbers)}")
    return run, world.steps.next_submission(world.step(run).id, "train", 1)


def state(world: World, row: SubmissionRow) -> str:
    found = world.steps.submission(row.step_run, row.name)
    assert found is not None
    return found.state


def test_a_local_job_of_a_terminated_run_is_stopped_by_its_worker(
    world: World, jobs: LocalJobs, reconcile: Callable[[], reconciler.Pass], hanging: Callable[[LocalJobs, str], str]
) -> None:
    run, row = submitted(world)
    started = hanging(jobs, row.job_id)
    orphans.stop_orphans(world.steps, jobs)
    assert jobs.state(row.job_id).status is JobStatus.RUNNING, "its step runs"
    reconcile()  # a suspect
    reconcile()  # closed
    assert not world.runs.run(run.id).state.is_live
    assert reconcile() == reconciler.Pass(done=0, repaired=0, failed=0)
    assert state(world, row) == "open", "the reconciler cannot reach it"
    closed = time.monotonic()
    with orphans.stopping_orphans(world.steps, jobs):
        assert within(10, lambda: state(world, row) == "stopped")
    assert time.monotonic() - closed < 2 * orphans.EVERY + 2
    assert within(2, lambda: processes(started) == [])  # what was killed is gone in a moment
    assert jobs.state(row.job_id).status is JobStatus.STOPPED
    assert jobs.active() == []


def test_a_job_whose_row_was_closed_by_somebody_else_is_stopped(
    world: World, jobs: LocalJobs, hanging: Callable[[LocalJobs, str], str]
) -> None:
    _, row = submitted(world)
    started = hanging(jobs, row.job_id)
    world.steps.end_submission(row.step_run, row.name, row.number, "lost", None, "by another attempt", None)
    orphans.stop_orphans(world.steps, jobs)
    assert processes(started) == []
    assert state(world, row) == "lost"


def test_the_row_of_a_job_that_died_with_its_worker_is_closed(
    world: World, reconcile: Callable[[], reconciler.Pass], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, row = submitted(world)
    for _ in range(3):
        reconcile()
    assert not world.runs.run(run.id).state.is_live
    assert state(world, row) == "open", "its worker may only be slow"
    monkeypatch.setattr(reconciler, "GONE", 0.0)
    reconcile()
    assert state(world, row) == "stopped"


def test_a_job_of_an_engine_that_can_be_reached_is_stopped_by_the_reconciler(
    world: World, jobs: LocalJobs, hanging: Callable[[LocalJobs, str], str]
) -> None:
    _, row = submitted(world)
    started = hanging(jobs, row.job_id)
    passes = Reconciler(world.runs, world.steps, world.projections, Ended(), None, [jobs])
    for _ in range(2):
        passes.run_once()
    assert state(world, row) == "stopped"
    assert processes(started) == []


def test_a_job_that_cannot_be_stopped_holds_up_no_other(world: World) -> None:
    rows = [submitted(world)[1] for _ in range(2)]
    cluster: Any = Stubborn(rows[0].job_id)
    passes = Reconciler(world.runs, world.steps, world.projections, Ended(), None, [cluster])
    passes.run_once()
    assert passes.run_once().failed == 1
    assert [state(world, row) for row in rows] == ["open", "stopped"]
    cluster.stays = ""
    assert passes.run_once().failed == 0
    assert cluster.stopped >= {row.job_id for row in rows}


REFUSED = {"type": "PatienceExhausted", "message": "Postgres did not answer for 600 s", "field": None, "remedy": "see that Postgres runs"}


@pytest.mark.parametrize(
    ("how", "failure", "ends_as", "message", "remedy"),
    [
        ("terminated", None, "terminated", "without closing its run: terminated", "temporal workflow reset"),
        ("gone", None, "terminated", "gone from Temporal", "start a new run"),
        ("failed", REFUSED, "failed", "Postgres did not answer", "see that Postgres runs"),
        ("failed", None, "terminated", "without closing its run: failed", "temporal workflow reset"),
    ],
)
def test_a_run_whose_workflow_ended_says_how_and_what_to_do(
    world: World, how: str, failure: Json | None, ends_as: str, message: str, remedy: str
) -> None:
    run, _ = submitted(world)
    passes = Reconciler(world.runs, world.steps, world.projections, Ended(how, failure), None, [])
    passes.run_once()
    passes.run_once()
    ended = world.runs.run(run.id)
    assert (ended.state, ended.error is not None) == (ends_as, True)
    error: Any = ended.error
    assert message in error["message"]
    assert error["remedy"].startswith(remedy) or f"`{remedy}`" in error["remedy"]
    assert ("reset" in error["remedy"]) is ("reset" in remedy), "what is gone cannot be reset"
