"""What only local processes promise: warm ones, bound to one version of the owner's code, gone with their worker."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import predictor
from perdure.adapters.local_jobs import LocalJobs
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.jobs.latest import RunState
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import EXIT_ERROR, JobStatus, Submission
from tests.adapters.test_compute import ended, processes
from tests.jobs import requests
from tests.servers import Stack

SOURCE = requests.OWNER.read_text()
TRAINER: dict[str, Any] = {"trainer": "owner:act", "predict": "owner:predict"}


@pytest.fixture(scope="module")
def settings(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return stack.isolated().model_copy(update={"home": tmp_path_factory.mktemp("home")})


@pytest.fixture(scope="module")
def objects(settings: Settings) -> ObjectStore:
    return ObjectStore(settings.s3)


@pytest.fixture(scope="module")
def manifest(objects: ObjectStore) -> ArtifactRef:
    return requests.dataset(objects, rows=20)


@pytest.fixture(scope="module")
def compute(settings: Settings) -> Iterator[LocalJobs]:
    with_two = settings.model_copy(update={"worker": settings.worker.model_copy(update={"processes": 2})})
    jobs = LocalJobs(with_two)
    yield jobs
    jobs.close()


def about(objects: ObjectStore, job: str) -> dict[str, Any]:
    """What the owner's code saw of its process."""
    result = RunState(objects, job).latest().result or {}
    made = predictor.load(objects.get(ArtifactRef.from_json(result["predictor"])))
    return dict(json.loads((made.folder / "model" / "about.json").read_text()))


def test_processes_stay_warm_and_keep_versions_of_code_apart(compute: LocalJobs, objects: ObjectStore, manifest: ArtifactRef) -> None:
    codes = [requests.package(objects), requests.package(objects, SOURCE + "\n# another version\n")]
    pids: list[set[int]] = [set(), set()]
    for which in (0, 1, 0, 1):
        request = requests.training(manifest, code=codes[which], params={"act": "work", "rounds": 1}, **TRAINER)
        compute.submit(submission := requests.submission(objects, request))
        assert ended(compute, submission).exit_code == 0
        seen = about(objects, request.job)
        pids[which].add(seen["pid"])
        assert seen["secrets"] == []
    assert [len(each) for each in pids] == [1, 1]
    assert not pids[0] & pids[1]


def test_more_jobs_than_processes_wait_in_order(compute: LocalJobs, objects: ObjectStore, manifest: ArtifactRef) -> None:
    code = requests.package(objects)
    submissions = []
    for _ in range(5):
        request = requests.training(manifest, code=code, params={"act": "work", "rounds": 1}, **TRAINER)
        submissions.append(requests.submission(objects, request))
        compute.submit(submissions[-1])
    running = sum(compute.state(each.id).status is JobStatus.RUNNING for each in submissions)
    assert running <= 2
    compute.stop(submissions[-1].id)
    assert compute.state(submissions[-1].id).status is JobStatus.STOPPED
    assert [ended(compute, each).exit_code for each in submissions[:-1]] == [0] * 4


def test_a_segfault_costs_its_own_process_only(compute: LocalJobs, objects: ObjectStore, manifest: ArtifactRef) -> None:
    code = requests.package(objects)
    requested = [requests.training(manifest, code=code, params={"act": what, "rounds": 1}, **TRAINER) for what in ("segfault", "work")]
    submissions = [requests.submission(objects, request) for request in requested]
    for each in submissions:
        compute.submit(each)
    crashed = ended(compute, submissions[0])
    assert (crashed.status, crashed.exit_code) == (JobStatus.FAILED, -signal.SIGSEGV)
    assert "SIGSEGV" in crashed.message
    assert "owner.py" in crashed.message  # where it happened
    assert ended(compute, submissions[1]).exit_code == 0


def test_idle_processes_end(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("perdure.adapters.local_jobs.IDLE_SECONDS", 0.5)
    compute = LocalJobs(settings.model_copy(update={"home": tmp_path}))
    compute.submit(submission := Submission(id="a", request=ArtifactRef(uri=f"s3://{settings.s3.bucket}/jobs/none", sha256="0")))
    assert ended(compute, submission).exit_code == EXIT_ERROR
    deadline = time.monotonic() + 60
    while processes(f"{tmp_path}/scratch") or [*(tmp_path / "scratch" / str(os.getpid())).glob("*")]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    compute.close()


def test_jobs_die_with_their_worker(objects: ObjectStore, settings: Settings, manifest: ArtifactRef) -> None:
    request = requests.training(manifest, code=requests.package(objects), params={"act": "hang", "seconds": 98_765, "rounds": 1}, **TRAINER)
    submission = requests.submission(objects, request)
    script = (
        "import sys, time, json\n"
        "from perdure.adapters.local_jobs import LocalJobs\n"
        "from perdure.config import Settings\n"
        "from perdure.messages.common import ArtifactRef\n"
        "from perdure.messages.jobs import Submission\n"
        "jobs = LocalJobs(Settings.model_validate_json(sys.argv[1]))\n"
        "jobs.submit(Submission(id='a', request=ArtifactRef(**json.loads(sys.argv[2]))))\n"
        "while 'hanging' not in jobs.logs('a'): time.sleep(0.05)\n"
        "print('running', flush=True)\n"
        "time.sleep(1000)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script, settings.model_dump_json(), json.dumps(submission.request.as_json())], stdout=subprocess.PIPE
    )
    assert worker.stdout
    assert worker.stdout.readline() == b"running\n"
    worker.kill()
    worker.wait()
    worker.stdout.close()
    deadline = time.monotonic() + 10
    while processes(f"perdure.jobs.pool {worker.pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stale = settings.home / "scratch" / str(worker.pid)
    assert stale.exists()
    LocalJobs(settings).close()  # the next worker tidies up
    assert not stale.exists()
    assert processes("sleep 98765") == []


def test_an_unreachable_store_is_tried_again_and_a_refusing_one_is_typed(
    settings: Settings, objects: ObjectStore, manifest: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "wrong")
    request = requests.training(manifest, params={"rounds": 1})
    submission = requests.submission(objects, request)
    refused = LocalJobs(settings.model_copy(update={"s3": settings.s3.model_copy(update={"secret_key": "env:WRONG"})}))
    refused.submit(submission)
    state = ended(refused, submission)
    assert state.exit_code == EXIT_ERROR
    assert '"type": "AccessDenied"' in refused.logs(submission.id)
    refused.close()


def test_a_crowded_machine_has_room_later(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("perdure.adapters.local_jobs._PAUSE", 0.05)
    start, pipe, tried, opened = subprocess.Popen, os.pipe, [], []

    def crowded(*args: Any, **kwargs: Any) -> Any:
        tried.append(args)
        if len(tried) < 4:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return start(*args, **kwargs)

    def remembered() -> tuple[int, int]:
        ends = pipe()
        opened.append({end: os.readlink(f"/proc/self/fd/{end}") for end in ends})
        return ends

    monkeypatch.setattr("perdure.adapters.job_process.subprocess.Popen", crowded)
    monkeypatch.setattr("perdure.adapters.job_process.os.pipe", remembered)
    one = settings.model_copy(update={"home": tmp_path, "worker": settings.worker.model_copy(update={"processes": 1})})
    compute = LocalJobs(one)
    compute.submit(submission := Submission(id="a", request=ArtifactRef(uri=f"s3://{settings.s3.bucket}/jobs/none", sha256="0")))
    deadline = time.monotonic() + 30
    while len(tried) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    waiting = compute.state("a")
    assert (waiting.status, "room for a process" in waiting.message) == (JobStatus.PENDING, True)
    assert ended(compute, submission).exit_code == EXIT_ERROR, "it ran: its request is not there"
    assert "room for a process" not in compute.state("a").message
    compute.close()
    for ends in opened[:6]:  # of the starts that failed
        assert not any(os.path.exists(f"/proc/self/fd/{end}") and os.readlink(f"/proc/self/fd/{end}") == what for end, what in ends.items())
    assert not [*(tmp_path / "scratch").glob("*/*")]


def test_submissions_are_remembered_for_a_while_only(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.adapters.local_jobs._REMEMBERED", 3)
    compute = LocalJobs(settings)
    ref = ArtifactRef(uri=f"s3://{settings.s3.bucket}/jobs/none/request.json", sha256="0" * 64)
    for number in range(6):
        compute.submit(Submission(id=str(number), request=ref))
        ended(compute, Submission(id=str(number), request=ref))
    assert [compute.state(str(number)).status is JobStatus.UNKNOWN for number in range(6)] == [True, True, False, False, False, False]
    compute.close()
