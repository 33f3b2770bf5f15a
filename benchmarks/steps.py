"""An orchestrated step with Perdure's worker (guard, converter, policies) against the same activity on bare Temporal, in the same run.

Bar: at most 1.3 times. The activity inserts nothing and computes nothing: what is measured is the orchestration.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from benchmarks.common import record, running_stack
    from perdure.config import Settings
    from perdure.messages.common import StepRunRef
    from perdure.temporal import connect
    from perdure.workers.bootstrap import build_worker
    from perdure.workers.registry import WorkerSpec
    from perdure.workflows.policies import ROWS

RUNS, STEPS = 15, 20


@activity.defn(name="bench.step", no_thread_cancel_exception=True)
def step(request: StepRunRef) -> int:
    """What a step does at least: take a message, give one back."""
    return request.index


@workflow.defn(name="BareSteps")
class BareSteps:
    """Activities with Temporal's defaults."""

    @workflow.run
    async def run(self, request: StepRunRef) -> int:
        """A chain of steps."""
        for _ in range(STEPS):
            await workflow.execute_activity(step, request, start_to_close_timeout=timedelta(minutes=1))
        return STEPS


@workflow.defn(name="PerdureSteps")
class PerdureSteps:
    """The same with Perdure's policy."""

    @workflow.run
    async def run(self, request: StepRunRef) -> int:
        """A chain of steps."""
        for _ in range(STEPS):
            await workflow.execute_activity(step, request, **{**ROWS, "task_queue": "bench-perdure"})  # type: ignore[misc]
        return STEPS


async def measure(client: Client, kind: str, queue: str) -> float:
    """Milliseconds a step in one chain."""
    request = StepRunRef(step_run=uuid.uuid4())
    began = time.perf_counter()
    await client.execute_workflow(kind, request, id=f"bench/{uuid.uuid4()}", task_queue=queue)
    return (time.perf_counter() - began) / STEPS * 1000


async def compare(settings: Settings) -> None:
    """Alternate both."""
    bare_client = await Client.connect(settings.temporal.address, data_converter=pydantic_data_converter)
    client = await connect(settings)
    with ThreadPoolExecutor(8) as pool:
        spec = WorkerSpec(queue="bench-perdure", workflows=[PerdureSteps], activities=[step])
        async with (
            Worker(bare_client, task_queue="bench-bare", workflows=[BareSteps], activities=[step], activity_executor=pool),
            build_worker(client, spec, settings, pool),
        ):
            bare, ours = [], []
            for _ in range(RUNS):
                bare.append(await measure(bare_client, "BareSteps", "bench-bare"))
                ours.append(await measure(client, "PerdureSteps", "bench-perdure"))
    ratio = statistics.median(ours) / statistics.median(bare)
    record("steps", {"bare_ms": bare, "perdure_ms": ours, "ratio_of_medians": round(ratio, 3), "bar": "<= 1.3"})


def main() -> None:
    """Measure on a stack of its own."""
    with running_stack() as settings:
        asyncio.run(compare(settings))


if __name__ == "__main__":
    main()
