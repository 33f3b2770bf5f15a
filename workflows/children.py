"""How workflows start their children."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from perdure.errors import Conflict

_Started = TypeVar("_Started")


async def started(patience: timedelta, start: Callable[[], Awaitable[_Started]]) -> _Started:
    """What *start* starts. After a reset the earlier child of the same id may still be ending: it is waited for, with patience.

    Raises Conflict.
    """
    pause, deadline = 0.5, workflow.now() + patience
    while True:
        try:
            return await start()
        except WorkflowAlreadyStartedError as err:
            if workflow.now() > deadline:
                raise Conflict(
                    f"the workflow {err.workflow_id!r} still runs, so this run cannot start its own",
                    remedy="end that workflow, then reset this run or run again: what was committed is reused",
                ) from err
        await asyncio.sleep(pause)
        pause = min(2 * pause, 15.0)
