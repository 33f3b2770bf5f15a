"""How workflows start their children."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from perdure.errors import Conflict

_Started = TypeVar("_Started")


async def started(patience: timedelta, start: Callable[[], Awaitable[_Started]], *, own: bool = True) -> _Started:
    """What *start* starts. After a reset the earlier child of the same id may still run: it is asked to end, and waited for with patience.

    Temporal leaves the children of a run that is reset alone. Where others may have started that workflow (not *own*), it is only waited
    for. Raises Conflict.
    """
    pause, deadline = 0.5, workflow.now() + patience
    asked = not own
    while True:
        try:
            return await start()
        except WorkflowAlreadyStartedError as err:
            if workflow.now() > deadline:
                raise Conflict(
                    f"the workflow {err.workflow_id!r} still runs, so this run cannot start its own",
                    remedy="end that workflow, then reset this run or run again: what was committed is reused",
                ) from err
            if not asked:
                asked = True
                with contextlib.suppress(FailureError):  # it may have ended meanwhile
                    await workflow.get_external_workflow_handle(err.workflow_id).cancel()
        await asyncio.sleep(pause)
        pause = min(2 * pause, 15.0)
