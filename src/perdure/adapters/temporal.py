"""How workflows ended, asked of Temporal one by one (never by visibility, which is late)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from perdure.config import Settings
from perdure.errors import TemporalUnavailable
from perdure.temporal import connect

ANSWER = 10.0  # seconds


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

    async def _ended_as(self, workflow_id: str) -> str | None:
        if self._client is None:
            self._client = await connect(self._settings)
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=timedelta(seconds=ANSWER / 2))
        except RPCError as err:
            if err.status is not RPCStatusCode.NOT_FOUND:
                raise
            # An unknown namespace answers alike, and must not end every run: this raises then.
            await self._client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=self._client.namespace))
            return "gone"
        status = found.status or WorkflowExecutionStatus.RUNNING
        if status in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW):
            return None
        return status.name.lower().replace("_", " ")
