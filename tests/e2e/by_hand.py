"""Slow trainings on workers that a test starts itself, so that no supervisor notices what becomes of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM
from typing import Any, TypeVar
from uuid import UUID, uuid4

from temporalio.client import Client, WorkflowHandle

from perdure import packaging
from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.errors import NotFound
from perdure.keys import identity
from perdure.messages.jobs import Latest
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_run
from perdure.metadata.upgrade import upgrade
from perdure.temporal import connect
from perdure.workflows.policies import DATA, MAIN, TRAIN
from tests.jobs.requests import OWNER
from tests.servers import Stack

SPEC = """
name: NAME
data:
  source: {uri: rows.csv, format: csv}
  target: {column: kind, positive: cat}
  partitions: 1
train:
  engine: ENGINE
  trainer: owner:logistic
  predict: owner:predict
  params: {rounds: 60, pace: 0.1}
  checkpoint: {every_rounds: 5}
  stall: 12s
"""
_Seen = TypeVar("_Seen")


def until(seen: Callable[[], _Seen], seconds: float = 60, every: float = 0.05) -> _Seen:
    """What *seen* returns, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(every)
    return found


def project(stack: Stack, folder: Path) -> Settings:
    """A database and a bucket of their own, with the pipelines ``slow-local`` and ``slow-ray``: six seconds of rounds."""
    settings = stack.isolated()
    upgrade(settings)
    (folder / "owner.py").write_text(OWNER.read_text())
    (folder / "rows.csv").write_text("kind,size\n" + "".join(f"{'cat' if i % 3 else 'dog'},{i % 17 + i % 3}\n" for i in range(200)))
    for engine in ("local", "ray"):
        file = folder / f"{engine}.yaml"
        file.write_text(SPEC.replace("NAME", f"slow-{engine}").replace("ENGINE", engine))
        packaging.apply(file, settings, actor="test")
    return settings


class Worker:
    """One ``python -m perdure.workers``; several start side by side, `ready` waits."""

    def __init__(self, variables: Mapping[str, str], log: Path, queues: Sequence[str] = (MAIN, DATA, TRAIN), threads: int = 8) -> None:
        self._log = log
        own = {
            "PERDURE_WORKER__QUEUES": json.dumps(queues),
            "PERDURE_WORKER__THREADS": str(threads),
            "PERDURE_WORKER__SHUTDOWN_SECONDS": "1",
        }
        environment = os.environ | dict(variables) | own
        with log.open("wb") as out:
            self._process = subprocess.Popen([sys.executable, "-m", "perdure.workers"], env=environment, stdout=out, stderr=out)
        self.pid = self._process.pid

    def ready(self) -> None:
        """Wait until it asks for work."""
        until(lambda: "worker ready" in self._log.read_text() or self._process.poll() is not None)
        assert self._process.poll() is None, self._log.read_text()

    def end(self) -> None:
        """Ask it to end, awake, and wait until all its attempts have."""
        if self._process.poll() is not None:
            return
        os.kill(self.pid, SIGCONT)
        os.kill(self.pid, SIGTERM)
        try:
            self._process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.kill(self.pid, SIGKILL)
            self._process.wait()


class Training:
    """One run of a slow pipeline, seen by its rows and objects."""

    def __init__(self, settings: Settings, engine: str, **request: Any) -> None:
        self.settings, self.workflow_id = settings, f"run/slow-{engine}/{uuid4().hex[:8]}"
        self.files = S3JobFiles(ObjectStore(settings.s3))
        request = {"pipeline": f"slow-{engine}", **request}
        self.do(lambda client, _: client.start_workflow("TrainingPipeline", request, id=self.workflow_id, task_queue="perdure"))

    @property
    def step(self) -> UUID:
        """The id of the training's step run."""
        return identity(self.detail().run.id, 0, "train")

    @property
    def job(self) -> str:
        """The name of its job."""
        return f"{self.step}-train"

    def detail(self) -> RunDetail:
        """What people are shown."""
        with Database.open(self.settings) as database:
            while True:
                with suppress(NotFound):
                    return show_run(database, self.workflow_id)
                time.sleep(0.1)

    def latest(self) -> Latest:
        """The job's state."""
        return self.files.latest(self.job)

    def trains(self) -> Latest:
        """The state just after a checkpoint, in the middle of the training."""
        after = self._committed(0)
        assert after.checkpoint is not None
        return self._committed(after.checkpoint.round)

    def _committed(self, after: int) -> Latest:
        job = self.job

        def seen() -> Latest | None:
            state = self.files.latest(job)
            return state if state.checkpoint is not None and state.checkpoint.round > after else None

        found = until(seen)
        assert found is not None
        return found

    def submissions(self) -> list[dict[str, Any]]:
        """The starts of its training, oldest first."""
        return next(step.submissions for step in self.detail().steps if step.step == "train")

    def result(self) -> dict[str, Any]:
        """The run's result, waited for."""
        return dict(self.do(lambda client, handle: asyncio.wait_for(handle.result(), 120)))

    def do(self, act: Callable[[Client, WorkflowHandle[Any, Any]], Any]) -> Any:
        """Act on the workflow by Temporal's client."""

        async def connected() -> Any:
            client = await connect(self.settings)
            return await act(client, client.get_workflow_handle(self.workflow_id))

        return asyncio.run(connected())
