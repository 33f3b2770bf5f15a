"""`DataPreparation`: partitions in a sliding window, one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure.activities.preparation import PreparationActivities
    from perdure.messages.common import StepRunRef
    from perdure.messages.preparation import DatasetRef, PrepareCursor, PreparePlan, PrepareRequest
    from perdure.workflows.failures import stop_if_cancelled
    from perdure.workflows.policies import JOB, PARTITIONS_PER_EXECUTION


@workflow.defn(name="DataPreparation")
class DataPreparation:
    """Plan, then every partition once, then fit, then every partition's features once, then one commit."""

    @workflow.run
    async def run(self, request: PrepareRequest) -> DatasetRef:
        """The committed (or cached) dataset version."""
        cursor = request.cursor
        if cursor is None:
            plan = await workflow.execute_activity_method(PreparationActivities.begin, request, **JOB)
            stop_if_cancelled()
            if plan.cached is not None:
                return plan.cached
            cursor = PrepareCursor(plan=plan, phase="partition", index=0)
        budget = PARTITIONS_PER_EXECUTION
        step = StepRunRef(step_run=cursor.plan.step_run, patience=request.patience)
        if cursor.phase == "partition":
            budget = await self._phase(request, cursor, PreparationActivities.partition, budget)
            if cursor.plan.fits:
                await workflow.execute_activity_method(PreparationActivities.fit, step, **JOB)
                stop_if_cancelled()
            cursor = PrepareCursor(plan=cursor.plan, phase="features", index=0)
        await self._phase(request, cursor, PreparationActivities.features, budget)
        return await workflow.execute_activity_method(PreparationActivities.commit, step, **JOB)

    async def _phase(self, request: PrepareRequest, cursor: PrepareCursor, method: Callable[..., Any], budget: int) -> int:
        """Run *method* on the partitions from the cursor on; continues as new when the history's budget is spent."""
        plan: PreparePlan = cursor.plan
        end = min(plan.partitions, cursor.index + budget)
        window = asyncio.Semaphore(request.window)

        async def one(index: int) -> None:
            async with window:
                ref = StepRunRef(step_run=plan.step_run, index=index, patience=request.patience)
                await workflow.execute_activity_method(method, ref, **JOB)

        await asyncio.gather(*(one(index) for index in range(cursor.index, end)))
        stop_if_cancelled()
        if end < plan.partitions:
            workflow.continue_as_new(replace(request, cursor=replace(cursor, index=end)))
        return budget - (end - cursor.index)
