"""Looks at a run, again and again: at its rows, and at its workflow where no row says enough; whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from perdure.cli.clients import temporal
from perdure.cli.output import lasting
from perdure.cli.progress import Changes, Event, Pace, Snapshot
from perdure.cli.snapshots import snapshot
from perdure.cli.starting import QUEUE
from perdure.config import Settings
from perdure.errors import NotFound, PerdureError, SchemaTooOld, Transient
from perdure.metadata.database import Database
from perdure.metadata.queries import show_run

LOOK = 0.5  # seconds between two looks at the rows
WORKFLOW_LOOK = 2.0  # seconds between two looks at the workflow
LATE = 5.0  # seconds after which it is worth a word that nobody takes the run up


@dataclass(frozen=True, kw_only=True)
class View:
    """One look: how the run stands (None before its first row), and what is new since the last look."""

    run: Snapshot | None
    news: list[Event]


@dataclass(frozen=True, kw_only=True)
class WorkflowLook:
    """What Temporal knows: whether the execution runs, how it failed, and whether any worker is there."""

    state: str = "unknown"  # running | completed | failed | canceled | terminated | timed_out | unknown
    error: Mapping[str, str | None] | None = None
    workers: bool = True


class Watcher:
    """Follows run *name*. A part that does not answer is told once, and again when it answers; then watching goes on."""

    def __init__(self, settings: Settings, name: str, *, every: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.pace = name, Pace(clock)
        self.run: Snapshot | None = None
        self.silent: dict[str, float] = {}  # part: since when
        self._settings, self._clock = settings, clock
        self._changes = Changes(every, clock)
        self._workflow: WorkflowLook | Transient | None = None
        self._stop = threading.Event()
        self._database = Database(settings.postgres, tenant=settings.tenant)
        self._began = clock()
        self._told_late = self._told_end = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._look_at_workflow, name="workflow", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._database.close()

    def looks(self) -> Iterator[View]:
        """A view every half second; the last one shows the run's end."""
        while True:
            news = [*self._rows(), *self._said_by_temporal()]
            yield View(run=self.run, news=news)
            if self.run is not None and self.run.ended:
                return
            time.sleep(LOOK)

    def _rows(self) -> Iterator[Event]:
        try:
            now = snapshot(show_run(self._database, self.name))
        except NotFound:
            yield from self._heard("Postgres")
        except (Transient, SchemaTooOld):  # the schema is missing while the database is being restored
            yield from self._lost("Postgres", "a job that computes does not need it")
        else:
            yield from self._heard("Postgres")
            self.run = now
            for step in now.steps:
                self.pace.note(step)
            yield from self._changes.of(now, self.pace)

    def _said_by_temporal(self) -> Iterator[Event]:
        look = self._workflow
        if isinstance(look, Transient):
            yield from self._lost("Temporal", "jobs go on without it")
        elif look is not None:
            yield from self._heard("Temporal")
            yield from self._compare(look)

    def _compare(self, look: WorkflowLook) -> Iterator[Event]:
        """What the workflow says beyond the rows."""
        if self.run is None and look.state not in ("running", "unknown"):
            self.run = self._without_rows(look)
        elif self.run is None and not self._told_late and self._clock() - self._began > LATE:
            self._told_late = True
            yield Event(
                "waiting for a worker to take it up" if look.workers else "no worker is there to take it up; `perdure up` starts one"
            )
        elif self.run is not None and not self.run.ended and look.state not in ("running", "unknown") and not self._told_end:
            self._told_end = True
            yield Event(f"Temporal says that the workflow is {look.state}; waiting until the rows say so, too")

    def _without_rows(self, look: WorkflowLook) -> Snapshot:
        """A run that ended before it had a row: its request was refused."""
        pipeline = self.name.split("/")[1] if self.name.count("/") > 1 else ""
        return Snapshot(id="", workflow_id=self.name, state=look.state, pipeline=pipeline, pipeline_version=0, error=look.error)

    def _lost(self, part: str, comfort: str) -> Iterator[Event]:
        if part not in self.silent:
            self.silent[part] = self._clock()
            yield Event(f"{part} does not answer; looking again ({comfort})")

    def _heard(self, part: str) -> Iterator[Event]:
        if (since := self.silent.pop(part, None)) is not None:
            yield Event(f"{part} answers again, after {lasting(self._clock() - since)}")

    def _look_at_workflow(self) -> None:
        """In a thread of its own: a Temporal that hangs must not stop the display."""
        while not self._stop.wait(WORKFLOW_LOOK):
            try:
                self._workflow = asyncio.run(look(self._settings, self.name))
            except Transient as err:
                self._workflow = err
            except PerdureError:  # not known to this server, or not allowed to look: the rows must do
                self._workflow = WorkflowLook()


async def look(settings: Settings, name: str) -> WorkflowLook:
    """One look at the workflow. Raises TemporalUnavailable, NotFound, AccessDenied."""
    from temporalio.client import WorkflowExecutionStatus

    async with temporal(settings, f"workflow {name}") as client:
        handle = client.get_workflow_handle(name)
        status = (await handle.describe()).status
        if status is WorkflowExecutionStatus.RUNNING or status is None:
            return WorkflowLook(state="running", workers=await _has_workers(client))
        error = await _failure(handle) if status is WorkflowExecutionStatus.FAILED else None
        return WorkflowLook(state=status.name.lower(), error=error)


async def _failure(handle: Any) -> Mapping[str, str | None]:
    from temporalio.client import WorkflowFailureError
    from temporalio.exceptions import ApplicationError

    from perdure.errors import root

    try:
        await handle.result()
    except WorkflowFailureError as err:
        cause = root(err.cause)
        if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
            return dict(cause.details[0])
        return {"type": getattr(cause, "type", None) or type(cause).__name__, "message": str(cause), "field": None, "remedy": None}
    return {}


async def _has_workers(client: Any) -> bool:
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    queue = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=QUEUE), task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    )
    return bool((await client.workflow_service.describe_task_queue(queue)).pollers)
