"""How runs end, wait and begin again while others want the same: terminated, reset, paused; with one worker and its local jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from perdure.adapters.temporal import TemporalExecutions
from perdure.config import Settings
from perdure.metadata.database import Database
from perdure.metadata.repository import ProjectionRows, RunRows, StepRows
from perdure.reconciler import Reconciler
from tests.e2e.by_hand import Training, Worker, project, until
from tests.servers import Stack

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def settings(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return project(stack, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module", autouse=True)
def _worker(stack: Stack, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    worker = Worker(stack.environment(settings), tmp_path_factory.mktemp("worker") / "log")
    worker.ready()
    yield
    worker.end()


def test_a_terminated_run_leaves_no_local_job_and_can_be_reset(settings: Settings) -> None:
    run = Training(settings, "local", cache=False, params={"rounds": 150})
    before = run.trains()
    job = Path(f"/proc/{(before.owner or '').split('/')[1]}")
    assert job.exists()

    async def terminate(client: Client, handle: WorkflowHandle[object, object]) -> None:
        await client.get_workflow_handle(f"{run.workflow_id}/r0/train").terminate("no longer wanted")  # so nobody cancels its activity
        with suppress(RPCError):  # it may have failed in consequence
            await handle.terminate("no longer wanted")

    terminated = time.monotonic()
    run.do(terminate)
    with Database.open(settings) as database, TemporalExecutions.open(settings) as executions:
        passes = Reconciler(RunRows(database), StepRows(database), ProjectionRows(database), executions, None, [])
        until(lambda: passes.run_once() and not job.exists(), 20, every=0.5)
        print(f"its job was gone after {time.monotonic() - terminated:.1f} s")
        until(lambda: run.submissions()[-1]["message"] == "its step has ended", 10)
        until(lambda: passes.run_once() and not run.detail().run.state.is_live, 20, every=0.5)
    assert run.latest().result is None

    async def reset(client: Client, handle: WorkflowHandle[object, object]) -> None:
        await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=run.workflow_id),
                reason="the parameters were right after all",
                workflow_task_finish_event_id=4,
                request_id=str(uuid4()),
            )
        )

    run.do(reset)
    assert run.result()["state"] == "succeeded"
    assert [row["state"] for row in run.submissions()] == ["stopped", "succeeded"]
    first = run.files.status(run.job, run.latest().epoch)["history"][0][0]
    assert run.latest().epoch == before.epoch + 1
    assert before.checkpoint is not None
    assert first > before.checkpoint.round, "it goes on from its last checkpoint"


def test_who_waits_for_a_run_that_pauses_computes_itself(settings: Settings) -> None:
    first = Training(settings, "local", params={"rounds": 70})
    first.trains()
    second = Training(settings, "local", params={"rounds": 70})

    def waiting() -> str | None:
        return next((step.waiting_for for step in second.detail().steps if step.step == "train"), None)

    assert until(waiting) == f"{first.workflow_id}, which computes the same step"
    first.do(lambda client, handle: handle.execute_update("pause", {"actor": "ann"}))
    assert second.result()["released"]
    first.do(lambda client, handle: handle.execute_update("resume", {"actor": "ann"}))
    result = first.result()
    assert (result["state"], result["version"]) == ("succeeded", second.result()["version"]), "what the other made is used"
    steps = {str(step.step): step for step in first.detail().steps}
    assert steps["train"].reason.startswith("hit: ")
    assert [row["state"] for row in first.submissions()] == ["stopped"]
