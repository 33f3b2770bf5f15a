"""An exception that nobody foresaw is tried again for a while, and then ends the run with a typed error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure.activities import guard
from perdure.activities.guard import Guard, pulse
from perdure.errors import root
from perdure.temporal import connect
from perdure.workflows.policies import JOB
from tests.servers import Stack


class Broken:
    """An activity that has a mistake, which goes away after some attempts."""

    def __init__(self, passes_after: int) -> None:
        self.passes_after, self.tried = passes_after, 0

    @activity.defn(name="broken", no_thread_cancel_exception=True)
    def broken(self) -> str:
        pulse().ok(round=1)
        self.tried += 1
        if self.tried <= self.passes_after:
            raise KeyError("no such field")
        return "passed"


@workflow.defn(name="Try")
class Try:
    @workflow.run
    async def run(self) -> Any:
        config: workflow.ActivityConfig = {**JOB, "task_queue": workflow.info().task_queue}
        return await workflow.execute_activity("broken", **config)


async def tried(stack: Stack, broken: Broken) -> Any:
    client: Client = await connect(stack.settings)
    queue = f"guard-{uuid4()}"
    with ThreadPoolExecutor(2) as pool:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[Try],
            activities=[broken.broken],
            activity_executor=pool,
            interceptors=[Guard()],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_heartbeat_throttle_interval=timedelta(seconds=1),
            default_heartbeat_throttle_interval=timedelta(seconds=1),
        ):
            return await client.execute_workflow("Try", id=f"try-{uuid4()}", task_queue=queue)


async def test_a_defect_ends_the_run_after_a_while(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_RETRY", timedelta(milliseconds=1))
    monkeypatch.setattr(guard, "DEFECTS", 4)
    broken = Broken(passes_after=1000)
    with pytest.raises(WorkflowFailureError) as ended:
        await tried(stack, broken)
    failure = root(ended.value.cause)
    assert isinstance(failure, ApplicationError)
    assert (failure.type, failure.non_retryable, broken.tried) == ("Defect", True, 4)
    assert "KeyError: 'no such field'" in failure.message
    assert "defect of Perdure" in failure.message


async def test_one_that_passes_does_no_harm(stack: Stack) -> None:
    assert await tried(stack, Broken(passes_after=3)) == "passed"
