"""`BatchInference`: shards in a sliding window, one commit."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.inference import InferenceActivities
    from perdure.errors import Conflict, PatienceExhausted
    from perdure.messages.common import Command, StepRunRef
    from perdure.messages.inference import BatchCursor, BatchPlan, BatchProgress, BatchRequest, BatchResult, OpenBatch, Scored
    from perdure.messages.pipeline import RunState
    from perdure.workflows import runs
    from perdure.workflows.failures import describe, readable, stop_if_cancelled
    from perdure.workflows.policies import JOB, PARTITIONS_PER_EXECUTION, ROWS

MODEL = SearchAttributeKey.for_keyword("PerdureModel")
STAGE = SearchAttributeKey.for_keyword("PerdureStage")


@workflow.defn(name="BatchInference")
class BatchInference:
    """Decide what scores what, then plan, then every shard once, then one dataset version. It is a run with one step."""

    @workflow.init
    def __init__(self, request: BatchRequest) -> None:
        self._request = request
        self._cursor = request.cursor
        self._plan: BatchPlan | None = request.cursor.plan if request.cursor else None
        self._paused = request.cursor.paused if request.cursor else False
        self._stage = "opening"
        self._done = request.cursor.index if request.cursor else 0
        self._cancelled = False
        self._commands = asyncio.Lock()  # they take effect in the order in which people gave them
        self._work: asyncio.Task[Scored | None] | None = None

    @workflow.run
    async def run(self, request: BatchRequest) -> BatchResult:
        """The scores as a dataset version; they are there as a whole, or not at all."""
        try:
            plan = self._plan = self._plan or await self._open(request)
        except FailureError as err:
            if is_cancelled_exception(err):
                raise  # the execution ends as Canceled; if its row is there after all, the reconciler closes it
            raise readable(err) from err
        self._work = asyncio.create_task(self._score(plan))
        try:
            scored = await self._work
            if scored is None:
                await workflow.wait_condition(workflow.all_handlers_finished)
                if self._cancelled:
                    raise asyncio.CancelledError("cancelled")
        except (FailureError, asyncio.CancelledError) as err:
            return await self._failed(plan, err)
        if scored is None:
            assert self._cursor is not None, "shards were counted"
            workflow.continue_as_new(replace(request, cursor=replace(self._cursor, index=self._done, paused=self._paused)))
        self._enter(RunState.SUCCEEDED.value)
        await runs.succeeded(plan.run_id)
        return BatchResult(run_id=plan.run_id, state=RunState.SUCCEEDED, model=plan.model, version=plan.version, scored=scored)

    async def _open(self, request: BatchRequest) -> BatchPlan:
        info = workflow.info()
        pinned = await workflow.execute_activity_method(InferenceActivities.pin, request, **ROWS)
        opening = OpenBatch(workflow_id=info.workflow_id, chain=info.first_execution_run_id, request=request, pinned=pinned)
        plan = await workflow.execute_activity_method(InferenceActivities.open, opening, **ROWS)
        workflow.upsert_search_attributes([MODEL.value_set(plan.model)])
        return plan

    async def _score(self, plan: BatchPlan) -> Scored | None:
        """The commit, after all shards; None where this execution's history has had its share of them."""
        step = StepRunRef(step_run=plan.step_run, patience=plan.patience)
        if self._cursor is None:
            await self._go_on()
            self._enter("plan")
            shards = await workflow.execute_activity_method(InferenceActivities.plan, step, **JOB)
            self._cursor = BatchCursor(plan=plan, shards=shards, index=0)
        self._enter("score")
        first, shards = self._cursor.index, self._cursor.shards
        end = min(shards, first + PARTITIONS_PER_EXECUTION)
        window = asyncio.Semaphore(plan.window)

        async def one(index: int) -> None:
            async with window:
                await self._go_on()
                await workflow.execute_activity_method(InferenceActivities.score, replace(step, index=index), **JOB)
                self._done += 1

        await asyncio.gather(*(one(index) for index in range(first, end)))
        await self._go_on()
        if end < shards:
            return None
        self._enter("commit")
        return await workflow.execute_activity_method(InferenceActivities.commit, step, **JOB)

    async def _go_on(self) -> None:
        """Wait while somebody wants the run paused. Raises CancelledError: an activity that completes swallows a cancellation."""
        await self._while_paused()
        stop_if_cancelled()
        if self._cancelled:
            raise asyncio.CancelledError("cancelled")

    async def _while_paused(self) -> None:
        if not self._paused:
            return
        try:
            await workflow.wait_condition(lambda: not self._paused, timeout=self._request.pause_limit)
        except TimeoutError:
            raise PatienceExhausted(
                f"the run stayed paused for longer than {self._request.pause_limit}",
                field="pause_limit",
                remedy="run again: shards that were scored are reused",
            ) from None

    async def _failed(self, plan: BatchPlan, err: BaseException) -> BatchResult:
        """Close the rows, then end as people and tools expect: cancelled, or failed with the one readable error."""
        if is_cancelled_exception(err):
            reason = {"type": "Cancelled", "message": "cancelled on request", "field": None, "remedy": None}
            self._enter(RunState.CANCELLED.value)
            await runs.ended(plan.run_id, RunState.CANCELLED, reason, plan.patience)
            if not self._cancelled:
                raise err  # asked of Temporal itself: the execution ends as Canceled
            return BatchResult(
                run_id=plan.run_id, state=RunState.CANCELLED, model=plan.model, version=plan.version, reason="cancelled on request"
            )
        self._enter(RunState.FAILED.value)
        await runs.ended(plan.run_id, RunState.FAILED, describe(err), plan.patience)
        assert isinstance(err, FailureError)
        raise readable(err) from err

    def _enter(self, stage: str) -> None:
        self._stage = stage
        workflow.upsert_search_attributes([STAGE.value_set(stage)])

    # --- what people say -------------------------------------------------------------------------------------------------

    @workflow.query
    def progress(self) -> BatchProgress:
        """The workflow's own view; `perdure show` reads the rows, which know more."""
        return BatchProgress(
            stage="paused" if self._paused else self._stage,
            paused=self._paused,
            run_id=self._plan.run_id if self._plan else None,
            model=self._request.model,
            version=self._plan.version if self._plan else None,
            done=self._done,
            shards=self._cursor.shards if self._cursor else None,
        )

    @workflow.update
    async def pause(self, command: Command) -> BatchProgress:
        """Begin no further shard; those in flight are finished."""
        async with self._commands:
            if self._stage not in ("opening", "plan", "score"):
                raise Conflict("all shards are scored: nothing is left to hold", remedy="let it end, or cancel it")
            await self._command("pause", command)
            self._paused = True
        return self.progress()

    @workflow.update
    async def resume(self, command: Command) -> BatchProgress:
        """Go on with the shards that are left."""
        async with self._commands:
            await self._command("resume", command)
            self._paused = False
        return self.progress()

    @workflow.update
    async def cancel(self, command: Command) -> BatchProgress:
        """End the run: jobs are stopped; shards that were scored are reused by the next one."""
        async with self._commands:
            await self._command("cancel", command)
        self._cancelled = True
        if self._work is not None:
            self._work.cancel()
        return self.progress()

    async def _command(self, name: str, command: Command) -> None:
        await workflow.wait_condition(lambda: self._plan is not None)
        assert self._plan is not None
        await runs.commanded(self._plan.run_id, name, command, self._plan.patience)
