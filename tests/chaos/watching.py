"""One run, watched from outside by rows and objects, whatever is dead meanwhile."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio.client import Client
from temporalio.service import RPCError

from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.errors import PerdureError
from perdure.keys import identity
from perdure.messages.jobs import Latest
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_run
from perdure.temporal import connect


@dataclass
class Look:
    """What could be seen at one moment; parts that did not answer keep their last answer."""

    at: float
    detail: RunDetail | None = None
    latest: Latest = field(default_factory=Latest)
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def round(self) -> int:
        return int(self.status.get("round") or 0)

    @property
    def committed(self) -> int:
        return self.latest.checkpoint.round if self.latest.checkpoint else 0

    @property
    def step(self) -> str:
        running = [step.step for step in self.detail.steps if step.state == "running"] if self.detail else []
        return str(running[-1]) if running else ""

    def done(self) -> tuple[Any, ...]:
        """Grows whenever anything is committed, or a round is trained."""
        steps = [(str(s.step), str(s.state), sum(s.partitions.values())) for s in self.detail.steps] if self.detail else []
        ended = [len([x for x in s.submissions if x["state"] == "succeeded"]) for s in self.detail.steps] if self.detail else []
        return (steps, ended, self.latest.epoch and self.round, self.latest.result is not None)


class Watcher:
    """Looks at one run."""

    def __init__(self, settings: Settings, workflow_id: str) -> None:
        self.settings, self.workflow_id = settings, workflow_id
        self._database = Database(settings.postgres)
        self._files = S3JobFiles(ObjectStore(settings.s3, attempts=1))
        self._last = Look(time.monotonic())

    def look(self) -> Look:
        """What can be seen now."""
        last = self._last
        detail, latest, status = last.detail, last.latest, last.status
        with suppress(PerdureError):
            detail = show_run(self._database, self.workflow_id)
        if detail is not None:
            with suppress(PerdureError):
                job = f"{identity(detail.run.id, 0, 'train')}-train"
                latest = self._files.latest(job)
                status = self._files.status(job, latest.epoch) if latest.epoch else {}
        self._last = Look(time.monotonic(), detail, latest, status)
        return self._last

    def until(self, true: Any, limit: float, every: float = 0.1) -> Look:
        """Look until *true* of a look. Raises TimeoutError with the last look."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if true(look := self.look()):
                return look
            time.sleep(every)
        raise TimeoutError(f"{self.workflow_id}: not within {limit} s; last seen {self._last}")

    def close(self) -> None:
        self._database.close()


async def start(settings: Settings, workflow_id: str) -> None:
    """Start one run of the chaos pipeline, computing everything."""
    client = await connect(settings)
    request = {"pipeline": "chaos", "cache": False, "requested_by": "chaos"}
    await client.start_workflow("TrainingPipeline", request, id=workflow_id, task_queue="perdure")
    await asyncio.sleep(0.1)


async def approve(settings: Settings, workflow_id: str, limit: float = 120) -> None:
    """Vote until the vote is taken: servers and worker may be dead."""
    deadline = time.monotonic() + limit
    client: Client | None = None
    while True:
        try:
            client = client or await connect(settings)
            handle = client.get_workflow_handle(workflow_id)
            await handle.execute_update("approve", {"actor": "chaos"}, rpc_timeout=timedelta(seconds=1.5))
            return
        except Exception as err:
            if time.monotonic() > deadline:
                raise
            if isinstance(err, RPCError) and "completed" in str(err):
                return
            await asyncio.sleep(0.3)


def counts(settings: Settings, run: UUID) -> dict[str, int]:
    """Rows that must be one each."""
    from sqlalchemy import func, select

    from perdure.metadata import tables as t

    database = Database(settings.postgres)
    with database.transaction() as session:
        versions = session.scalars(select(t.ModelVersion.id).where(t.ModelVersion.run_id == run)).all()
        releases = session.scalar(select(func.count()).select_from(t.Release).where(t.Release.model_version_id.in_(versions)))
    database.close()
    return {"versions": len(versions), "releases": int(releases or 0)}
