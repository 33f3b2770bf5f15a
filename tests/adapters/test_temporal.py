"""How workflows ended, asked of a real Temporal."""

from __future__ import annotations

from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from perdure.adapters.temporal import TemporalExecutions
from perdure.errors import StorageFull
from perdure.temporal import connect
from tests.servers import Stack


@workflow.defn(name="Fails")
class Fails:
    @workflow.run
    async def run(self, typed: bool) -> None:
        raise StorageFull("no room", remedy="make room") if typed else ApplicationError("not today", type="Odd", non_retryable=True)


async def test_how_a_workflow_failed(stack: Stack) -> None:
    client = await connect(stack.settings)
    queue, ids = f"fails-{uuid4()}", [f"fails-{uuid4()}" for _ in range(2)]
    async with Worker(client, task_queue=queue, workflows=[Fails], workflow_runner=UnsandboxedWorkflowRunner()):
        for id, typed in zip(ids, (True, False), strict=True):
            with pytest.raises(WorkflowFailureError):
                await client.execute_workflow("Fails", typed, id=id, task_queue=queue)
    with TemporalExecutions.open(stack.settings) as executions:
        assert [executions.ended_as(id) for id in (*ids, f"none-{uuid4()}")] == ["failed", "failed", "gone"]
        assert [executions.failure(id) for id in ids] == [
            {"type": "StorageFull", "message": "no room", "field": None, "remedy": "make room"},
            {"type": "Odd", "message": "not today", "field": None, "remedy": None},
        ]
