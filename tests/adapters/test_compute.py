"""The contract of port `Compute`, run through by both adapters."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.adapters.local_jobs import LocalJobs
from perdure.adapters.ray_jobs import RayJobs
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.errors import ResourcesUnavailable
from perdure.jobs.latest import RunState
from perdure.messages.jobs import EXIT_ERROR, JobRequest, JobState, JobStatus, Resources, Submission
from perdure.ports import Compute
from tests.jobs import requests
from tests.servers import Stack

_seconds = itertools.count(100_000)
Act = Callable[..., JobRequest]


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    return stack.isolated()


@pytest.fixture(scope="module")
def objects(settings: Settings) -> ObjectStore:
    return ObjectStore(settings.s3)


@pytest.fixture(scope="module", params=["local", "ray"])
def compute(request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    if request.param == "local":
        adapter: LocalJobs | RayJobs = LocalJobs(settings.model_copy(update={"home": tmp_path_factory.mktemp("home")}))
    else:
        adapter = RayJobs(request.getfixturevalue("ray_stack").settings.ray)
    yield adapter
    adapter.close()


@pytest.fixture(scope="module")
def act(objects: ObjectStore) -> Act:
    """Makes requests for a job that does what it is told."""
    manifest, code = requests.dataset(objects, rows=20), requests.package(objects)

    def make(what: str, **params: object) -> JobRequest:
        params = {"act": what, "rounds": 1, **params}
        return requests.training(manifest, code=code, trainer="owner:act", predict="owner:predict", params=params)

    return make


def ended(compute: Compute, submission: Submission, limit: float = 60) -> JobState:
    deadline = time.monotonic() + limit
    while (state := compute.state(submission.id)).status.is_active:
        assert time.monotonic() < deadline, f"{state}\n{compute.logs(submission.id)}"
        time.sleep(0.05)
    return state


def processes(command: str) -> list[str]:
    """Pids of processes whose command line holds *command*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command in path.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_submitting_twice_runs_once(compute: Compute, objects: ObjectStore, act: Act) -> None:
    submission = requests.submission(objects, request := act("work"))
    compute.submit(submission)
    compute.submit(submission)
    assert ended(compute, submission) == JobState(status=JobStatus.SUCCEEDED, exit_code=0, message=compute.state(submission.id).message)
    compute.submit(submission)
    assert compute.state(submission.id).status is JobStatus.SUCCEEDED
    latest = RunState(objects, request.job).latest()
    assert (latest.epoch, latest.result is not None) == (1, True)
    assert compute.logs(submission.id).count("epoch 1") == 1
    again = requests.submission(objects, request, number=2)  # another start of a job that has its result
    compute.submit(again)
    assert ended(compute, again).exit_code == 0
    assert RunState(objects, request.job).latest() == latest


def test_unknown_ids(compute: Compute) -> None:
    assert compute.state("perdure-none-1").status is JobStatus.UNKNOWN
    assert compute.logs("perdure-none-1") == ""
    compute.stop("perdure-none-1")


def test_a_crash_is_a_failure_with_its_code(compute: Compute, objects: ObjectStore, act: Act) -> None:
    submission = requests.submission(objects, request := act("exit"))
    compute.submit(submission)
    state = ended(compute, submission)
    assert (state.status, state.exit_code) == (JobStatus.FAILED, 7)
    assert "exit code 7" in state.message
    latest = RunState(objects, request.job).latest()
    assert (latest.result, latest.error) == (None, None)  # it may be tried again


def test_an_error_is_published_and_no_crash(compute: Compute, objects: ObjectStore, act: Act) -> None:
    submission = requests.submission(objects, request := act("raise"))
    compute.submit(submission)
    state = ended(compute, submission)
    assert (state.status, state.exit_code) == (JobStatus.FAILED, EXIT_ERROR)
    assert "no luck today" in (RunState(objects, request.job).latest().error or {})["message"]


def test_stop_leaves_no_process(compute: Compute, objects: ObjectStore, act: Act) -> None:
    seconds = next(_seconds)
    submission = requests.submission(objects, act("hang", seconds=seconds))
    compute.submit(submission)
    deadline = time.monotonic() + 60
    while "hanging" not in compute.logs(submission.id):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(processes(f"sleep {seconds}")) == 2
    compute.stop(submission.id)
    assert compute.state(submission.id).status is JobStatus.STOPPED
    assert processes(f"sleep {seconds}") == []
    assert processes(submission.request.uri) == []
    compute.stop(submission.id)


def test_logs_are_bounded_and_hold_the_end(compute: Compute, objects: ObjectStore, act: Act) -> None:
    submission = requests.submission(objects, act("print"))
    compute.submit(submission)
    ended(compute, submission)
    logs = compute.logs(submission.id)
    assert 1_000 < len(logs.encode()) <= 64 << 10
    assert "line 19999 of the owner" in logs
    assert logs.rstrip().splitlines()[-1].startswith("exit code 0")


def test_ray_refuses_what_no_node_has(ray_stack: Stack, objects: ObjectStore, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.adapters.ray_jobs._SETTLED", 0.0)  # this head has been there for seconds only
    compute = RayJobs(ray_stack.settings.ray)
    for resources, field in (
        (Resources(gpus_per_worker=1), "train.scaling.gpus_per_worker"),
        (Resources(cpus_per_worker=10_000), "train.scaling.cpus_per_worker"),
        (Resources(workers=10_000), "train.scaling.workers"),
    ):
        submission = Submission(
            id=f"perdure-refused-{field}", request=requests.submission(objects, act("work")).request, resources=resources
        )
        with pytest.raises(ResourcesUnavailable) as refused:
            compute.submit(submission)
        assert refused.value.field == field
        assert compute.state(submission.id).status is JobStatus.UNKNOWN
    compute.close()
