"""`RetrainingController`: one per model, for ever. Events, triggers and decisions are rows, which it looks at when it is poked or time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey, WorkflowIDReusePolicy
from temporalio.exceptions import ChildWorkflowError, FailureError, WorkflowAlreadyStartedError, is_cancelled_exception
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from perdure.activities.retraining import RetrainingActivities
    from perdure.errors import Conflict, InvalidInput
    from perdure.messages.common import Json
    from perdure.messages.controller import (
        ControllerProgress,
        Look,
        LookAtModel,
        RecordForce,
        RecordSignal,
        RecordSnooze,
        RunNotOpened,
        StartRun,
    )
    from perdure.messages.pipeline import RunResult
    from perdure.messages.retraining import ControllerRequest, Force, Snooze
    from perdure.workflows.failures import describe, readable
    from perdure.workflows.pipeline import TrainingPipeline
    from perdure.workflows.policies import AWAY, DRAIN, LOOKS_PER_EXECUTION, MAIN, MODEL_AGAIN, MODEL_QUIET, NEVER, ROWS, TICK_EVERY

MODEL = SearchAttributeKey.for_keyword("PerdureModel")
MOST_SIGNALS = 1_000  # that wait to be written
LONGEST = 2_000  # characters of a reason
LOST: dict[str, str | None] = {"type": "RunNotOpened", "message": "the run was started, and ended before it had a row"}
_Answer = TypeVar("_Answer")


@workflow.defn(name="RetrainingController")
class RetrainingController:
    """What follows from drift and triggers for one model: at most one run at a time, started under the id of its decision."""

    @workflow.init
    def __init__(self, request: ControllerRequest) -> None:
        self._request = request
        self._poked = False
        self._looks = 0
        self._quiet = 0  # looks in a row that nobody asked for, and that decided nothing
        self._look: Look | None = None
        self._signals: list[Json] = []
        self._started: set[str] = set()
        self._runs: set[asyncio.Task[None]] = set()
        self._refusal: str | None = None

    @workflow.run
    async def run(self, request: ControllerRequest) -> None:
        """Never ends by itself."""
        workflow.upsert_search_attributes([MODEL.value_set(request.model)])
        while True:
            began, woken, self._poked = workflow.now(), self._poked, False
            await self._keep_signals()
            look = await self._looked()
            if look is not None:
                self._quiet = 0 if woken or look.decided else self._quiet + 1
                for start in look.starts:
                    await self._start(start)
            if self._looks >= LOOKS_PER_EXECUTION or workflow.info().is_continue_as_new_suggested():
                await self._renew()
            if look is None or not look.more:
                await self._wait(look)
                rest = TICK_EVERY - (workflow.now() - began).total_seconds()
                if rest > 0:
                    await workflow.sleep(rest)

    async def _looked(self) -> Look | None:
        """One look. None where the rows could not be reached for longer than patience: it is tried again."""
        self._looks += 1
        asked = LookAtModel(model=self._request.model, patience=self._request.patience)
        try:
            self._look = await workflow.execute_activity_method(RetrainingActivities.look, asked, **ROWS)
        except FailureError as err:
            if is_cancelled_exception(err):
                raise
            workflow.logger.warning("the model's rows could not be looked at", extra={"error": str(readable(err))})
            return None
        return self._look

    async def _keep_signals(self) -> None:
        """What signals carried goes where everything else comes in, in order; it is forgotten here once it is there."""
        while self._signals:
            recording = RecordSignal(event=self._signals[0], patience=self._request.patience)
            try:
                await workflow.execute_activity_method(RetrainingActivities.drift, recording, **ROWS)
            except FailureError as err:
                if is_cancelled_exception(err):
                    raise
                workflow.logger.warning("a signal could not be kept yet", extra={"error": str(readable(err))})
                await workflow.sleep(AWAY)
                continue
            self._signals.pop(0)

    async def _start(self, start: StartRun) -> None:
        """The run of a decision. Its id is the decision's: one that was started before is left alone."""
        if start.workflow_id in self._started:
            return
        try:
            handle = await workflow.start_child_workflow(
                TrainingPipeline.run,
                start.request,
                id=start.workflow_id,
                task_queue=MAIN,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=ParentClosePolicy.ABANDON,
            )
        except WorkflowAlreadyStartedError:  # by an execution before this one, which alone would have heard of its end
            await self._tell(RunNotOpened(decision=start.decision, error=LOST, after=NEVER, patience=self._request.patience))
            return
        self._started.add(start.workflow_id)
        self._runs.add(asyncio.create_task(self._watch(start, handle)))

    async def _watch(self, start: StartRun, run: Awaitable[RunResult]) -> None:
        """A run that ends without a row is told here; all others tell themselves, by row and poke."""
        try:
            await run
        except ChildWorkflowError as err:
            self._started.discard(start.workflow_id)  # a look that asks for it again tells it, if this cannot be written down
            await self._tell(RunNotOpened(decision=start.decision, error=describe(err), patience=self._request.patience))
        self._poked = True

    async def _tell(self, failed: RunNotOpened) -> None:
        """A run ended without a row. Where that cannot be written down, a later look asks for the run again."""
        try:
            await workflow.execute_activity_method(RetrainingActivities.failed, failed, **ROWS)
        except FailureError as err:
            if is_cancelled_exception(err):
                raise
            workflow.logger.warning("that a run never opened could not be written down", extra={"error": str(readable(err))})

    async def _wait(self, look: Look | None) -> None:
        """Until somebody pokes or signals, or it is time: ever later in quiet times, but when what holds something back ends."""
        timeout = AWAY if look is None else pause(look, self._quiet)
        try:
            await workflow.wait_condition(lambda: self._poked or bool(self._signals), timeout=timeout)
        except TimeoutError:
            return

    async def _renew(self) -> None:
        """Go on with an empty history. All that counts is in rows; the new execution begins with a look."""
        try:
            await workflow.wait_condition(self._is_idle, timeout=DRAIN)
        except TimeoutError:
            self._refusal = "the controller is being renewed"
            while not self._is_idle():
                await self._keep_signals()
                await workflow.wait_condition(lambda: bool(self._signals) or self._is_idle())
        workflow.continue_as_new(self._request)

    def _is_idle(self) -> bool:
        return workflow.all_handlers_finished() and not self._signals

    # --- what comes from outside -----------------------------------------------------------------------------------------

    @workflow.signal
    def poke(self) -> None:
        """The rows have changed: look at them soon."""
        self._poked = True

    @workflow.signal
    def drift(self, event: Any) -> None:
        """A drift event by the bare command line: any JSON, as an argument of another form would be dropped before anybody sees it."""
        if len(self._signals) < MOST_SIGNALS:
            self._signals.append(event if isinstance(event, dict) else {"said": event})
        else:
            workflow.logger.error("a drift signal is dropped: a thousand wait to be written")

    @workflow.query
    def progress(self) -> ControllerProgress:
        """The last look; `perdure retrain why` reads the rows, which know more."""
        return ControllerProgress(model=self._request.model, looks=self._looks, look=self._look)

    @workflow.update
    async def force(self, force: Force) -> ControllerProgress:
        """Train now, whatever the policy says; while a run of the model goes on, after it."""
        update = workflow.current_update_info()
        command = force.command_id or (update.id if update else str(workflow.uuid4()))
        said = Force(actor=force.actor, reason=force.reason, command_id=command)
        recording = RecordForce(model=self._request.model, force=said, patience=self._request.patience)
        await _told(workflow.execute_activity_method(RetrainingActivities.force, recording, **ROWS))
        self._poked = True
        return self.progress()

    @workflow.update
    async def snooze(self, snooze: Snooze) -> ControllerProgress:
        """No action before a time, except what a person forces; without a time, actions again."""
        update = workflow.current_update_info()
        command = update.id if update else str(workflow.uuid4())
        recording = RecordSnooze(model=self._request.model, snooze=snooze, command_id=command, patience=self._request.patience)
        await _told(workflow.execute_activity_method(RetrainingActivities.snooze, recording, **ROWS))
        self._poked = True
        return self.progress()

    @force.validator
    def _may_force(self, force: Force) -> None:
        self._may_change(force.actor, force.reason)
        if len(force.command_id) > LONGEST or "\x00" in force.command_id:
            raise InvalidInput(f"a command's id has at most {LONGEST} characters, and no NUL among them", field="command_id")

    @snooze.validator
    def _may_snooze(self, snooze: Snooze) -> None:
        self._may_change(snooze.actor, snooze.reason)
        if snooze.until is not None and (snooze.until.tzinfo is None or not 1970 <= snooze.until.year <= 9000):
            raise InvalidInput(
                "a time with its zone is needed, between the years 1970 and 9000",
                field="until",
                remedy='write {"until": "2027-01-31T12:00:00Z"}',
            )

    def _may_change(self, actor: str, reason: str) -> None:
        if not actor.strip():
            raise InvalidInput("who asks is not said", field="actor", remedy="name yourself")
        if len(actor) > LONGEST or len(reason) > LONGEST or "\x00" in actor + reason:
            raise InvalidInput(f"names and reasons have at most {LONGEST} characters, and no NUL among them", field="reason")
        if self._refusal is not None:
            raise Conflict(self._refusal, remedy="say it again in a moment")


async def _told(work: Awaitable[_Answer]) -> _Answer:
    """The activity's answer, or its error as the update's own."""
    try:
        return await work
    except FailureError as err:
        raise err if is_cancelled_exception(err) else readable(err) from err


def pause(look: Look, quiet: int) -> timedelta:
    """How long to wait for a poke at the most."""
    longest = min(MODEL_QUIET, MODEL_AGAIN * (1 << min(quiet, 10)))
    return longest if look.due is None else min(longest, max(timedelta(seconds=1), look.due))
