"""A process is cut off in the middle of a training, its successor ends the run, and then it wakes up: nothing that counts may change."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import pytest

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.metadata.database import Database
from perdure.workflows.policies import DATA, MAIN, TRAIN
from tests.e2e.by_hand import Training, Worker, project, until
from tests.metadata.world import World
from tests.servers import Stack

pytestmark = pytest.mark.long
AWAKE = 3.0  # seconds in which who woke up may do harm: several looks, reports and heartbeats


@pytest.fixture(scope="module")
def settings(ray_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return project(ray_stack, tmp_path_factory.mktemp("project"))


class Fleet:
    """A worker for everything but training, and one that trains. The latter has one place, so that it takes no task when it is asleep."""

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        self._variables, self._folder = variables, folder
        self.started = [Worker(variables, folder / "rest", (MAIN, DATA))]
        self.trainer = self.another_trainer()
        for worker in self.started:
            worker.ready()

    def another_trainer(self) -> Worker:
        """The successor of the one that trains."""
        self.started.append(Worker(self._variables, self._folder / str(len(self.started)), (TRAIN,), threads=1))
        self.trainer = self.started[-1]
        return self.trainer


@pytest.fixture(scope="module")
def fleet(ray_stack: Stack, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(ray_stack.environment(settings), tmp_path_factory.mktemp("workers"))
    yield fleet
    for worker in fleet.started:
        worker.end()


class Evidence:
    """What counts, and what lies around, before somebody wakes up."""

    def __init__(self, run: Training) -> None:
        self._run, self._objects = run, ObjectStore(run.settings.s3)
        self.rows, self.latest, self.keys = self._rows(), run.latest(), self._keys()

    def _rows(self) -> dict[str, list[tuple[Any, ...]]]:
        with Database.open(self._run.settings) as database:
            return World(database).rows()

    def _keys(self) -> set[str]:
        return {key for key, _ in self._objects.list(f"jobs/{self._run.job}/")}

    def unchanged(self) -> set[str]:
        """Assert that all rows and the job's state are as they were; returns the checkpoints' folders that no row of the job names."""
        assert self._rows() == self.rows
        assert self._run.latest() == self.latest
        step = str(self._run.step)
        named = " ".join(repr(row) for rows in self.rows.values() for row in rows if step in repr(row)) + repr(self.latest)
        folders = {"/".join(key.split("/")[2:4]) for key in self._keys() if "/round-" in key}
        return {folder for folder in folders if folder not in named}

    def added(self) -> set[str]:
        """Objects of the job that were not there before."""
        return self._keys() - self.keys


def released(run: Training) -> None:
    result = run.result()
    assert (result["state"], result["released"]) == ("succeeded", True), result


def test_a_worker_and_its_local_job_that_slept_change_nothing(fleet: Fleet, settings: Settings) -> None:
    """The job wakes up first, while nobody watches it, then the worker with its attempt at the activity."""
    sleeper = fleet.trainer
    run = Training(settings, "local", cache=False)
    until(lambda: run.latest().epoch)
    fleet.another_trainer()  # too late to take this training, unless it is lost
    before = run.trains()
    job = int((before.owner or "").split("/")[1])
    stopped = time.monotonic()
    for pid in (sleeper.pid, job):
        os.kill(pid, SIGSTOP)
    until(lambda: run.latest().epoch > before.epoch)
    print(f"its successor trained after {time.monotonic() - stopped:.1f} s")
    released(run)
    print(f"released after {time.monotonic() - stopped:.1f} s")

    evidence = Evidence(run)
    os.kill(job, SIGCONT)
    until(lambda: any("/round-" in key for key in evidence.added()))
    time.sleep(AWAKE)
    written = {"/".join(key.split("/")[2:4]) for key in evidence.added() if "/round-" in key}
    assert {folder.partition("/")[0] for folder in written} == {f"e{before.epoch:04d}"}
    assert evidence.unchanged() >= written
    os.kill(sleeper.pid, SIGCONT)
    time.sleep(AWAKE)
    sleeper.end()
    assert evidence.unchanged() >= written


def test_a_ray_worker_that_slept_is_gone_before_its_successor_starts(fleet: Fleet, settings: Settings) -> None:
    """It is noticed after `train.stall`. Ray kills the stopped process, too, so on this machine nobody is left to wake up."""
    run = Training(settings, "ray", cache=False)
    before = run.trains()
    [pid] = run.files.status(run.job, before.epoch)["workers"]
    stopped = time.monotonic()
    os.kill(pid, SIGSTOP)
    until(lambda: run.latest().epoch > before.epoch)
    print(f"its successor trained after {time.monotonic() - stopped:.1f} s")
    assert not Path(f"/proc/{pid}").exists()
    released(run)
    assert [row["state"] for row in run.submissions()] == ["stalled", "succeeded"]
