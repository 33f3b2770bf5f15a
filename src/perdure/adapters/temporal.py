"""Temporal for processes that are no workers: how workflows ended (asked one by one, as visibility is late), and pokes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from perdure.config import Settings
from perdure.errors import TemporalUnavailable, root
from perdure.messages.common import Json
from perdure.messages.labeling import CampaignRequest
from perdure.messages.retraining import ControllerRequest
from perdure.temporal import connect

ANSWER = 10.0  # seconds
AT_ONCE = 50  # requests
GONE = "gone"
CONTROLLER = "retrain/"  # what the ids of controllers begin with
_AWAY = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.PERMISSION_DENIED,
)


async def _signal(client: Client, workflow_id: str) -> None:
    """Poke it. The controller of a model begins with its first poke: it has nothing to do before. Raises RPCError."""
    timeout = timedelta(seconds=ANSWER / 2)
    model = workflow_id.removeprefix(CONTROLLER)
    if model == workflow_id:
        await client.get_workflow_handle(workflow_id).signal("poke", rpc_timeout=timeout)
        return
    await client.start_workflow(
        "RetrainingController",
        ControllerRequest(model=model),
        id=workflow_id,
        task_queue="perdure",
        start_signal="poke",
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        rpc_timeout=timeout,
    )


class TemporalExecutions:
    """A blocking face of the client, on a loop in a thread of its own. Connects when first asked."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings, self._loop = settings, loop
        self._client: Client | None = None

    @classmethod
    @contextmanager
    def open(cls, settings: Settings) -> Iterator[TemporalExecutions]:
        """Executions whose loop ends with the block."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="temporal", daemon=True)
        thread.start()
        try:
            yield cls(settings, loop)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(ANSWER)
            loop.close()

    def ended_as(self, workflow_id: str) -> str | None:
        """How the workflow ended, or None while it runs. Raises TemporalUnavailable."""
        try:
            return asyncio.run_coroutine_threadsafe(self._ended_as(workflow_id), self._loop).result(ANSWER)
        except (RPCError, RuntimeError, TimeoutError) as err:
            raise TemporalUnavailable(f"Temporal does not answer: {err}") from err

    def failure(self, workflow_id: str) -> Json | None:
        """The error with which the workflow failed, or None if it told none. Raises TemporalUnavailable."""
        try:
            return asyncio.run_coroutine_threadsafe(self._failure(workflow_id), self._loop).result(ANSWER)
        except (RPCError, RuntimeError, TimeoutError) as err:
            raise TemporalUnavailable(f"Temporal does not answer: {err}") from err

    def poke(self, workflow_ids: list[str]) -> dict[str, str]:
        """Signal ``poke`` to each; those that could not be, and why. One that has ended needs none, but a controller is started.

        Raises TemporalUnavailable where nobody could be told.
        """
        running = asyncio.run_coroutine_threadsafe(self._poke_all(workflow_ids), self._loop)
        try:
            return running.result(2 * ANSWER)
        except (RPCError, RuntimeError, TimeoutError) as err:
            running.cancel()
            raise TemporalUnavailable(f"Temporal does not answer: {err}") from err

    def start_campaign(self, campaign: str, workflow_id: str, requested_by: str) -> None:
        """Start the workflow of a campaign that is open in rows, unless it runs. Raises TemporalUnavailable."""
        request = CampaignRequest(campaign=campaign, requested_by=requested_by)
        try:
            asyncio.run_coroutine_threadsafe(self._start("LabelingCampaign", request, workflow_id), self._loop).result(ANSWER)
        except (RPCError, RuntimeError, TimeoutError) as err:
            raise TemporalUnavailable(f"Temporal does not answer: {err}") from err

    async def _start(self, kind: str, request: object, workflow_id: str) -> None:
        client = await self._connected()
        await client.start_workflow(
            kind, request, id=workflow_id, task_queue="perdure", id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
        )

    async def _poke_all(self, workflow_ids: list[str]) -> dict[str, str]:
        client = await self._connected()
        window = asyncio.Semaphore(AT_ONCE)

        async def one(workflow_id: str) -> str | None:
            async with window:
                try:
                    await _signal(client, workflow_id)
                except RPCError as err:
                    if err.status is RPCStatusCode.NOT_FOUND:
                        return GONE
                    if err.status in _AWAY:
                        raise
                    return err.message
            return None

        asked = {workflow_id: asyncio.ensure_future(one(workflow_id)) for workflow_id in workflow_ids}
        _, late = await asyncio.wait(asked.values(), timeout=ANSWER)
        for each in late:
            each.cancel()
        failed: dict[str, str] = {}
        away: BaseException | None = None
        for workflow_id, task in asked.items():
            if task in late:
                failed[workflow_id] = "Temporal has not answered yet"
            elif (error := task.exception()) is not None:
                away, failed[workflow_id] = error, str(error)
            elif (why := task.result()) not in (None, GONE):
                failed[workflow_id] = str(why)
        if away is not None and len(failed) == len(asked):
            raise away
        if any(task not in late and task.exception() is None and task.result() == GONE for task in asked.values()):
            await self._know_the_namespace(client)
        return failed

    async def _ended_as(self, workflow_id: str) -> str | None:
        client = await self._connected()
        try:
            found = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=timedelta(seconds=ANSWER / 2))
        except RPCError as err:
            if err.status is not RPCStatusCode.NOT_FOUND:
                raise
            await self._know_the_namespace(client)
            return GONE
        status = found.status or WorkflowExecutionStatus.RUNNING
        if status in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW):
            return None
        return status.name.lower().replace("_", " ")

    async def _failure(self, workflow_id: str) -> Json | None:
        client = await self._connected()
        try:
            await client.get_workflow_handle(workflow_id).result(follow_runs=False, rpc_timeout=timedelta(seconds=ANSWER / 2))
        except WorkflowFailureError as err:
            cause = root(err.cause)
            if isinstance(cause, ApplicationError):
                told = cause.details[0] if cause.details else None
                return told if isinstance(told, dict) else {"type": cause.type, "message": cause.message, "field": None, "remedy": None}
        return None

    async def _connected(self) -> Client:
        if self._client is None:
            self._client = await connect(self._settings)
        return self._client

    async def _know_the_namespace(self, client: Client) -> None:
        """An unknown namespace answers as an unknown workflow does, and must not end every run, nor mark every poke: this raises then."""
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
