"""`LabelingCampaign`: waits for people. Labels are rows; the workflow looks at them when it is poked, or when it is time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.labeling import LabelingActivities
    from perdure.errors import Conflict, InvalidInput
    from perdure.messages.common import ArtifactRef
    from perdure.messages.labeling import (
        WITHDRAWN,
        AnswerResults,
        Answers,
        CampaignCommand,
        CampaignCursor,
        CampaignPlan,
        CampaignProgress,
        CampaignRef,
        CampaignRequest,
        CampaignResult,
        CampaignStanding,
        CampaignState,
        CloseCampaign,
        ImportTasks,
        OpenCampaign,
        RecordAnswers,
        RecordCommand,
        SnapshotTaken,
        Tick,
    )
    from perdure.workflows.failures import describe, readable, stop_if_cancelled
    from perdure.workflows.labelstudio import LabelStudioSync
    from perdure.workflows.policies import AWAY, DRAIN, QUIET, ROWS, TICK_EVERY, TICKS_PER_EXECUTION

STAGE = SearchAttributeKey.for_keyword("PerdureStage")
MOST_ANSWERS = 100  # in one update
LONGEST_NAME = 500  # characters of an actor, task, key or revision
_Answer = TypeVar("_Answer")


@workflow.defn(name="LabelingCampaign")
class LabelingCampaign:
    """One campaign: tasks in, answers as they come, decisions out as a snapshot."""

    @workflow.init
    def __init__(self, request: CampaignRequest) -> None:
        cursor = request.cursor
        self._request = request
        self._plan: CampaignPlan | None = cursor.plan if cursor else None
        self._snapshot_at: datetime | None = cursor.snapshot_at if cursor else None
        self._filled = cursor is not None  # the tasks that the request brings are in
        self._stage = "opening"
        self._poked = False
        self._looks = 0
        self._quiet = 0  # looks in a row that nobody asked for, and that found nothing new
        self._tick: Tick | None = None
        self._first: Tick | None = None  # the look that came with the opening
        self._snapshot: SnapshotTaken | None = None
        self._elsewhere = LabelStudioSync()
        self._refusal: str | None = None  # why updates are not taken any more

    @workflow.run
    async def run(self, request: CampaignRequest) -> CampaignResult:
        """The snapshot of what people decided, complete or not."""
        try:
            plan = self._plan or await self._open(request)
            result = None
            while result is None:
                result = await self._close(plan, await self._until_over(plan))
        except asyncio.CancelledError:
            await self._give_up("the campaign's workflow was cancelled")
            raise
        except FailureError as err:
            await self._give_up("the campaign's workflow has failed")
            raise err if is_cancelled_exception(err) else readable(err) from err
        await self._drain("the campaign is closed")
        return result

    async def _open(self, request: CampaignRequest) -> CampaignPlan:
        opening = OpenCampaign(workflow_id=workflow.info().workflow_id, request=request)
        opened = await workflow.execute_activity_method(LabelingActivities.open, opening, **ROWS)
        self._first, plan = opened.look, replace(opened, look=None)
        if plan.standing:
            self._snapshot_at = workflow.now() + plan.snapshot_every
        self._plan = plan
        stop_if_cancelled()
        if request.tasks is not None:
            await self._import(plan, request.tasks)
        self._filled = True
        return plan

    async def _import(self, plan: CampaignPlan, tasks: ArtifactRef) -> None:
        self._enter("importing")
        request = ImportTasks(campaign=plan.campaign, tasks=tasks, patience=plan.patience)
        await workflow.execute_activity_method(LabelingActivities.import_tasks, request, **ROWS)

    async def _until_over(self, plan: CampaignPlan) -> str:
        """Look, and wait for the next look, until there is a reason to close."""
        while True:
            began, woken, self._poked = workflow.now(), self._poked, False
            before, tick = self._tick, await self._look(plan, known=None if woken else self._first)
            self._first = None
            self._quiet = 0 if woken or tick is None or _changed(before, tick) else self._quiet + 1
            stop_if_cancelled()
            if tick is None:
                await self._renew_if_long(plan)
                await workflow.sleep(AWAY)
                continue
            if tick.over is not None:
                return tick.over
            imported = [await self._import_added(plan, tasks) for tasks in tick.imports]
            if self._elsewhere.ended:
                await self._elsewhere.settle()
            comparing = self._must_compare(plan)
            if self._is_rolling() and not comparing:
                await self._roll(plan)
            await self._renew_if_long(plan)
            if plan.labelstudio:
                self._elsewhere.begin(plan, tick, whole=comparing)
            if not tick.more and not any(imported):
                await self._wait(began, tick)

    async def _look(self, plan: CampaignPlan, known: Tick | None) -> Tick | None:
        """One tick, or the one that is *known*. None where the rows were out of reach for longer than patience: weeks are waited anyway."""
        self._looks += 1
        try:
            tick = known if known is not None else await workflow.execute_activity_method(LabelingActivities.tick, _ref(plan), **ROWS)
        except FailureError as err:
            if is_cancelled_exception(err):
                raise
            workflow.logger.warning("the campaign's rows could not be looked at", extra={"error": str(readable(err))})
            return None
        self._tick = tick
        self._enter(tick.state.value)
        return tick

    async def _import_added(self, plan: CampaignPlan, tasks: ArtifactRef) -> bool:
        """Tasks that were added later. A bad manifest is told in its row, and is no reason to end the campaign."""
        try:
            await self._import(plan, tasks)
        except FailureError as err:
            if is_cancelled_exception(err):
                raise
            workflow.logger.warning("tasks could not be imported", extra={"uri": tasks.uri, "error": str(readable(err))})
            return False
        return True

    def _is_rolling(self) -> bool:
        """Whether it is time for a standing campaign's next snapshot."""
        return self._snapshot_at is not None and self._snapshot_at <= workflow.now()

    def _must_compare(self, plan: CampaignPlan) -> bool:
        """Whether the snapshot for which it is time has to wait for Label Studio to be asked for all that it knows."""
        at = self._snapshot_at
        return plan.labelstudio and at is not None and self._is_rolling() and not self._elsewhere.compared_since(at)

    async def _roll(self, plan: CampaignPlan) -> None:
        """A standing campaign's snapshot; one that cannot be taken now is taken the next time."""
        self._snapshot_at = workflow.now() + plan.snapshot_every
        try:
            self._snapshot = await workflow.execute_activity_method(LabelingActivities.snapshot, _ref(plan), **ROWS)
        except FailureError as err:
            if is_cancelled_exception(err):
                raise
            workflow.logger.warning("no snapshot could be taken", extra={"error": str(readable(err))})

    async def _wait(self, began: datetime, tick: Tick) -> None:
        """Until somebody pokes, Label Studio has been asked, or it is time; but not sooner than a moment after the last look began."""
        snapshot_at = None if self._elsewhere.busy and self._is_rolling() else self._snapshot_at  # else its end is waited for
        times = [at - workflow.now() for at in (snapshot_at, self._elsewhere.next) if at is not None]
        timeout = pause(tick, self._quiet, min(times, default=None))
        try:
            await workflow.wait_condition(lambda: self._poked or self._elsewhere.ended, timeout=timeout)
        except TimeoutError:
            return
        rest = TICK_EVERY - (workflow.now() - began).total_seconds()
        if rest > 0:
            await workflow.sleep(rest)

    async def _renew_if_long(self, plan: CampaignPlan) -> None:
        if (self._looks >= TICKS_PER_EXECUTION and not self._elsewhere.busy) or workflow.info().is_continue_as_new_suggested():
            await self._renew(plan)

    async def _renew(self, plan: CampaignPlan) -> None:
        """Go on with an empty history. A poke that is lost on the way costs nothing: the new execution begins with a look."""
        await self._elsewhere.settle()
        await self._drain("the campaign's workflow is being renewed")
        cursor = CampaignCursor(plan=plan, snapshot_at=self._snapshot_at)
        workflow.continue_as_new(replace(self._request, spec=None, tasks=None, cursor=cursor))

    async def _drain(self, why: str) -> None:
        """Wait until every update is answered. Where they keep coming, refuse further ones after a while."""
        if workflow.all_handlers_finished():
            return
        try:
            await workflow.wait_condition(workflow.all_handlers_finished, timeout=DRAIN)
        except TimeoutError:
            self._refusal = why
            await workflow.wait_condition(workflow.all_handlers_finished)

    async def _close(self, plan: CampaignPlan, reason: str) -> CampaignResult | None:
        """From here on answers are late. What is full is decided, and the decisions become a snapshot.

        None where it is not over any more: tasks came, or a later deadline, after it was looked at.
        """
        self._enter("closing")
        await self._elsewhere.settle()
        silent = await self._elsewhere.reconcile(plan, whole=True, patience=plan.patience) if plan.labelstudio else None
        closing = CloseCampaign(campaign=plan.campaign, reason=reason, patience=plan.patience)
        standing = await workflow.execute_activity_method(LabelingActivities.close, closing, **ROWS)
        if standing.state is not CampaignState.CLOSED:
            return None
        tick = await workflow.execute_activity_method(LabelingActivities.tick, _ref(plan), **ROWS)
        while tick.more:
            tick = await workflow.execute_activity_method(LabelingActivities.tick, _ref(plan), **ROWS)
        self._tick = tick
        taken = self._snapshot = await workflow.execute_activity_method(LabelingActivities.snapshot, _ref(plan), **ROWS)
        self._enter("closed")
        return CampaignResult(
            campaign=plan.campaign,
            snapshot=taken.snapshot,
            number=taken.number,
            tasks=taken.tasks,
            complete=tick.left == 0,
            reason=reason,
            statistics=taken.statistics,
            missing=f"Label Studio could not be asked at the end: {describe(silent)['message']}" if silent else None,
        )

    async def _give_up(self, why: str) -> None:
        """A campaign that a run has started ends with it. One of its own stays as it is: it can be started again under its name."""
        if self._plan is not None and workflow.info().parent is not None:
            closing = CloseCampaign(campaign=self._plan.campaign, reason=WITHDRAWN, anyway=True, patience=self._plan.patience)
            try:
                await workflow.execute_activity_method(LabelingActivities.close, closing, **ROWS)
            except FailureError as err:
                workflow.logger.error("the campaign stays open without its run", extra={"error": str(readable(err))})
        await self._elsewhere.abandon()
        await self._drain(why)

    def _enter(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            workflow.upsert_search_attributes([STAGE.value_set(stage)])

    # --- what comes from outside -----------------------------------------------------------------------------------------

    @workflow.signal
    def poke(self) -> None:
        """The rows have changed: look at them soon."""
        self._poked = True

    @workflow.query
    def progress(self) -> CampaignProgress:
        """The workflow's own view; `perdure campaigns show` reads the rows, which know more."""
        return CampaignProgress(
            stage=self._stage, campaign=self._plan.campaign if self._plan else None, tick=self._tick, snapshot=self._snapshot
        )

    @workflow.update
    async def pause(self, command: CampaignCommand) -> CampaignStanding:
        """Give out no more tasks; answers are still taken."""
        return await self._command("pause", command)

    @workflow.update
    async def resume(self, command: CampaignCommand) -> CampaignStanding:
        """Give out tasks again."""
        return await self._command("resume", command)

    @workflow.update
    async def extend(self, command: CampaignCommand) -> CampaignStanding:
        """Move the deadline to a later time."""
        return await self._command("extend", command)

    @workflow.update
    async def close(self, command: CampaignCommand) -> CampaignStanding:
        """End the campaign with what is decided by now."""
        return await self._command("close", command)

    @workflow.update
    async def answer(self, answers: Answers) -> AnswerResults:
        """Answer tasks; returns when the answers are committed, with what became of each."""
        plan = await self._opened()
        if not self._filled:
            await workflow.wait_condition(lambda: self._filled or self._refusal is not None)
        request = RecordAnswers(campaign=plan.campaign, answers=answers, at=workflow.now(), patience=plan.patience)
        results = await _told(workflow.execute_activity_method(LabelingActivities.answer, request, **ROWS))
        self._poked = True
        return results

    async def _command(self, kind: str, command: CampaignCommand) -> CampaignStanding:
        plan = await self._opened()
        update = workflow.current_update_info()
        request = RecordCommand(
            campaign=plan.campaign,
            kind=kind,
            command_id=command.command_id or (update.id if update else str(workflow.uuid4())),
            command=command,
            patience=plan.patience,
        )
        standing = await _told(workflow.execute_activity_method(LabelingActivities.command, request, **ROWS))
        self._poked = True
        return standing

    async def _opened(self) -> CampaignPlan:
        if self._plan is None:
            await workflow.wait_condition(lambda: self._plan is not None or self._refusal is not None)
        if self._plan is None:
            raise Conflict(self._refusal or "", remedy="`temporal workflow show` says why")
        return self._plan

    @pause.validator
    def _may_pause(self, command: CampaignCommand) -> None:
        self._may_change()

    @resume.validator
    def _may_resume(self, command: CampaignCommand) -> None:
        self._may_change()

    @extend.validator
    def _may_extend(self, command: CampaignCommand) -> None:
        self._may_change()
        if command.deadline is None or command.deadline.tzinfo is None:
            raise InvalidInput(
                "a deadline with its time zone is needed", field="deadline", remedy='write {"deadline": "2027-01-31T12:00:00Z"}'
            )

    @close.validator
    def _may_close(self, command: CampaignCommand) -> None:
        self._may_change()

    @answer.validator
    def _may_answer(self, answers: Answers) -> None:
        """Refused before it is stored: no history event remains."""
        self._may_change()
        if not answers.actor.strip():
            raise InvalidInput("who answers is not said", field="actor", remedy="name yourself")
        texts = [answers.actor, *(text for item in answers.items for text in (item.task, item.key or "", item.revision))]
        if any(len(text) > LONGEST_NAME or "\x00" in text for text in texts):
            raise InvalidInput(f"names have at most {LONGEST_NAME} characters, and no NUL among them", field="items")
        if not 1 <= len(answers.items) <= MOST_ANSWERS:
            raise InvalidInput(f"an update takes from 1 to {MOST_ANSWERS} answers, not {len(answers.items)}", field="items")

    def _may_change(self) -> None:
        if self._refusal is not None:
            raise Conflict(self._refusal, remedy="say it again in a moment; `perdure campaigns show` tells how the campaign stands")


async def _told(work: Awaitable[_Answer]) -> _Answer:
    """The activity's answer, or its error as the update's own."""
    try:
        return await work
    except FailureError as err:
        raise err if is_cancelled_exception(err) else readable(err) from err


def pause(tick: Tick, quiet: int, snapshot: timedelta | None) -> timedelta:
    """How long to wait for a poke: ever longer in quiet times, but never past a rung, the deadline or the next snapshot."""
    pauses: list[timedelta] = [min(QUIET, tick.next_look * (1 << min(quiet, 10)))]
    if tick.due is not None:
        pauses.append(max(timedelta(seconds=1), tick.due))
    if snapshot is not None:
        pauses.append(max(timedelta(0), snapshot))
    return min(pauses)


def _changed(before: Tick | None, now: Tick) -> bool:
    return before is None or (before.total, before.left, before.state) != (now.total, now.left, now.state)


def _ref(plan: CampaignPlan) -> CampaignRef:
    return CampaignRef(campaign=plan.campaign, patience=plan.patience)
