"""The training job, killed, paused and gone on with: the predictor has the bytes of an undisturbed training's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from perdure import predictor
from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.local_jobs import LocalJobs
from perdure.adapters.ray_jobs import RayJobs
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import EXIT_PAUSED, ControlCommand, JobRequest, JobStatus, Latest
from perdure.ports import Compute
from tests.adapters.test_compute import ended, processes
from tests.jobs import requests
from tests.servers import Stack

SAMPLING = {"subsample": 0.8, "colsample_bytree": 0.8}


@pytest.fixture(scope="module")
def settings(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return stack.isolated().model_copy(update={"home": tmp_path_factory.mktemp("home")})


@pytest.fixture(scope="module")
def objects(settings: Settings) -> ObjectStore:
    return ObjectStore(settings.s3)


@pytest.fixture(scope="module")
def files(objects: ObjectStore) -> S3JobFiles:
    return S3JobFiles(objects)


@pytest.fixture(scope="module")
def local(settings: Settings) -> Iterator[LocalJobs]:
    compute = LocalJobs(settings)
    yield compute
    compute.close()


@pytest.fixture(scope="module")
def ray(ray_stack: Stack) -> Iterator[RayJobs]:
    compute = RayJobs(ray_stack.settings.ray)
    yield compute
    compute.close()


def run(compute: Compute, objects: ObjectStore, request: JobRequest, number: int = 1) -> Latest:
    """Run the job to an end of its submission."""
    compute.submit(submission := requests.submission(objects, request, number))
    ended(compute, submission, 120)
    return S3JobFiles(objects).latest(request.job)


def seen(files: S3JobFiles, job: str, condition: Callable[[Latest, dict[str, Any]], bool], limit: float = 120) -> dict[str, Any]:
    """The status in which *condition* holds for the first time."""
    deadline = time.monotonic() + limit
    while True:
        latest = files.latest(job)
        status = files.status(job, latest.epoch) if latest.epoch else {}
        if condition(latest, status):
            return status
        assert time.monotonic() < deadline, (latest, status)
        time.sleep(0.02)


def at(round: int) -> Callable[[Latest, dict[str, Any]], bool]:
    """Whether a checkpoint of at least this round is committed."""
    return lambda latest, status: latest.checkpoint is not None and latest.checkpoint.round >= round


def kill(*pids: int | str) -> None:
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)


def test_xgboost_here(local: LocalJobs, objects: ObjectStore, files: S3JobFiles) -> None:
    manifest = requests.dataset(objects)
    request = requests.training(manifest, params={"rounds": 30}, checkpoint={"every_rounds": 10})
    result = run(local, objects, request).result or {}
    assert (result["rounds"], set(result["seconds"]), result["device"]) == (30, {"load", "fit"}, "cpu")
    status = files.status(request.job, 1)
    assert (status["phase"], status["round"], len(status["history"])) == ("saving", 30, 30)
    assert status["history"][-1] == [30, result["metrics"]]
    scored = predictor.load(objects.get(ArtifactRef.from_json(result["predictor"]))).predict(requests.frames()[0])
    truth = pl.Series(["no", "yes"]).gather(requests.frames()[0]["__label"].cast(pl.Int32))
    assert (scored["prediction"] == truth).mean() > 0.9
    other = requests.training(requests.dataset(objects, classes=0), classification=False, params={"rounds": 5})
    assert set((run(local, objects, other).result or {})["metrics"]) == {"train-rmse"}
    wrong = requests.training(manifest, params={"rounds": 5, "max_depth": -3})
    assert (run(local, objects, wrong).error or {})["field"] == "train.params.max_depth"


def test_a_function_of_ones_own_killed_and_paused_here(local: LocalJobs, objects: ObjectStore, files: S3JobFiles) -> None:
    manifest, code = requests.dataset(objects), requests.package(objects)
    own: dict[str, Any] = {"trainer": "owner:logistic", "predict": "owner:predict", "checkpoint": {"every_rounds": 10}}

    def request(pace: float) -> JobRequest:
        return requests.training(manifest, code=code, params={"rounds": 60, "pace": pace}, **own)

    slow = request(0.03)
    first = requests.submission(objects, slow)
    local.submit(first)
    status = seen(files, slow.job, at(10))
    assert status["phase"] == "training"
    kill(*processes(f"perdure.jobs.pool {os.getpid()}"))
    assert ended(local, first).exit_code == -signal.SIGKILL
    second = requests.submission(objects, slow, 2)
    local.submit(second)
    seen(files, slow.job, at(20))
    files.control(slow.job, ControlCommand.PAUSE)
    assert ended(local, second).exit_code == EXIT_PAUSED
    paused = files.latest(slow.job)
    assert paused.checkpoint
    assert paused.paused == paused.checkpoint.round < 60
    assert (paused.epoch, paused.result) == (2, None)
    files.control(slow.job, ControlCommand.RUN)
    resumed = run(local, objects, slow, 3)
    assert (resumed.epoch, resumed.paused) == (3, None)
    # The pace is no part of the weights, but of the parameters: the model's files are compared.
    undisturbed = run(local, objects, request(0))
    assert resumed.checkpoint
    assert undisturbed.checkpoint
    assert resumed.checkpoint.files == undisturbed.checkpoint.files
    assert resumed.result
    assert undisturbed.result
    assert resumed.result["predictor"] == undisturbed.result["predictor"]
    made = predictor.load(objects.get(ArtifactRef.from_json(resumed.result["predictor"])))
    assert made.predict(requests.frames()[0])["p_yes"].is_between(0, 1).all()


def test_more_workers_than_shards_are_refused(local: LocalJobs, objects: ObjectStore) -> None:
    request = requests.training(requests.dataset(objects, parts=1, rows=50), engine="ray", scaling={"workers": 2}, params={"rounds": 1})
    error = run(local, objects, request).error or {}  # before Ray is asked for anything
    assert (error["type"], error["field"]) == ("InvalidInput", "train.scaling.workers")


@pytest.fixture(scope="module")
def big(objects: ObjectStore) -> ArtifactRef:
    """Rows for some seconds of training."""
    return requests.dataset(objects, rows=20_000, columns=12)


def gang(manifest: ArtifactRef, **scaling: Any) -> JobRequest:
    return requests.training(
        manifest,
        engine="ray",
        scaling={"workers": 2, **scaling},
        params={"rounds": 80, "max_depth": 8, **SAMPLING},
        checkpoint={"every_rounds": 10},
    )


@pytest.mark.long
def test_a_gang_killed_paused_and_stopped_gives_the_undisturbed_bytes(
    ray: RayJobs, objects: ObjectStore, files: S3JobFiles, big: ArtifactRef
) -> None:
    request = gang(big)
    first = requests.submission(objects, request)
    ray.submit(first)
    status = seen(files, request.job, lambda latest, status: at(10)(latest, status) and "workers" in status)
    kill(status["workers"][1])
    status = seen(files, request.job, lambda latest, status: latest.epoch == 2 and at(20)(latest, status) and "workers" in status)
    assert ray.state(first.id).status is JobStatus.RUNNING  # the driver restarted its group by itself
    kill(*processes(first.request.sha256))
    assert ended(ray, first).exit_code == -signal.SIGKILL

    second = requests.submission(objects, request, 2)
    ray.submit(second)
    seen(files, request.job, lambda latest, status: latest.epoch == 3 and "round" in status)
    files.control(request.job, ControlCommand.PAUSE)
    assert ended(ray, second).exit_code == EXIT_PAUSED
    assert (files.latest(request.job).paused or 0) > 20
    files.control(request.job, ControlCommand.RUN)
    files.reopen(request.job)

    third = requests.submission(objects, request, 3)
    ray.submit(third)
    status = seen(files, request.job, lambda latest, status: latest.epoch == 5 and "workers" in status)
    ray.stop(third.id)
    assert ray.state(third.id).status is JobStatus.STOPPED
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in status["workers"]) or processes(third.request.sha256):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    latest = run(ray, objects, request, 4)
    undisturbed = run(ray, objects, gang(big, gpus_per_worker=1, allow_cpu=True))
    assert (latest.epoch, undisturbed.epoch) == (6, 1)
    assert latest.result
    assert undisturbed.result
    assert undisturbed.result["device"] == "cpu"  # allowed, and said
    assert latest.result["predictor"] == undisturbed.result["predictor"]
    assert latest.result["metrics"] == undisturbed.result["metrics"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "workers", "epochs", "error", "text"),
    [("raise", 2, 1, "UserCodeError", "no luck today"), ("exit", 1, 3, "JobCrashed", "3 times without progress")],
)
def test_a_trainers_own_error_is_told_from_a_lost_worker(
    ray: RayJobs, objects: ObjectStore, what: str, workers: int, epochs: int, error: str, text: str
) -> None:
    request = requests.training(
        requests.dataset(objects),
        code=requests.package(objects),
        engine="ray",
        scaling={"workers": workers, "cpus_per_worker": 0.5},
        trainer="owner:act",
        predict="owner:predict",
        params={"act": what, "rounds": 1},
    )
    latest = run(ray, objects, request)
    assert (latest.epoch, (latest.error or {})["type"]) == (epochs, error)
    assert text in (latest.error or {})["message"]


def test_predictors_of_xgboost_and_of_numpy_score_the_same_rows(local: LocalJobs, objects: ObjectStore) -> None:
    manifest, rows = requests.dataset(objects), requests.frames()[0].head(5)
    scores = []
    for train in ({}, {"trainer": "owner:logistic", "predict": "owner:predict"}):
        request = requests.training(manifest, code=requests.package(objects), params={"rounds": 10}, **train)
        result = run(local, objects, request).result or {}
        scores.append(predictor.load(objects.get(ArtifactRef.from_json(result["predictor"]))).predict(rows))
    assert [made.columns for made in scores] == [["p_no", "p_yes", "prediction"]] * 2
    assert not np.array_equal(scores[0]["p_yes"], scores[1]["p_yes"])
