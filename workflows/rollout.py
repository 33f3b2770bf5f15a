"""The stages between the decision to release a version and its release. Used by `ModelPromotion`.

A stage is an open row; this code only waits, has it looked at, and has the next one opened. So whatever dies, and whoever else ends the
row, the next look finds what is true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from perdure.activities.rollout import RolloutActivities
    from perdure.errors import Conflict, root
    from perdure.messages.common import Command
    from perdure.messages.experiment import ExperimentRequest
    from perdure.messages.promotion import PromoteRequest, PromotionPlan
    from perdure.messages.rollout import (
        LookAtStage,
        OpenStage,
        Stage,
        StageCommand,
        StageLook,
        Standing,
        TrafficKind,
        Verdict,
        Withdraw,
    )
    from perdure.workflows.experiment import compared
    from perdure.workflows.failures import stop_if_cancelled
    from perdure.workflows.policies import ROWS

OFTEN, SELDOM, LOOKS = timedelta(seconds=1), timedelta(minutes=1), 60
"""Bounds of the time between two looks at a stage, and how many there are within them."""


class Rollout:
    """One version on its way through its stages. Nothing of it outlives the workflow but rows."""

    def __init__(self, request: PromoteRequest, plan: PromotionPlan, renew: Callable[[], Awaitable[None]]) -> None:
        """*renew* continues the workflow as new where its history is long, and returns otherwise."""
        self._request, self._plan, self._renew = request, plan, renew
        self._at: Standing | None = None
        self._poked = self._entering = False
        self._skipped: tuple[UUID, str] | None = None  # a stage, and why its rest is skipped
        self.passed = ""  # how the last stage was passed

    def poke(self) -> None:
        """Look now."""
        self._poked = True

    @property
    def skipped(self) -> str:
        """Why the rest of the open stage is skipped; empty where it is not."""
        traffic, why = self._skipped or (None, "")
        return why if self._at is not None and self._at.traffic == traffic else ""

    @property
    def stage(self) -> str:
        """The stage that is open now, in words; empty where there is none."""
        return str(self._plan.stages[self._at.position]) if self._at is not None and self._at.traffic is not None else ""

    async def run(self) -> str:
        """Go through the stages. Why the version is not released; empty where all have passed, the last of them still open."""
        position = 0
        while position < len(self._plan.stages):
            at = self._at = await self._enter(position, self.passed)
            if at.traffic is None:
                return at.ended
            look = await self._bake(at.traffic, at.since or workflow.now(), self._plan.stages[at.position])
            if look.verdict is Verdict.FAILED:
                return f"{self.stage}: {look.reason}"
            position, self.passed = at.position + 1, f"{self.stage}: {look.reason}"
        return ""

    async def _enter(self, position: int, passed: str) -> Standing:
        opening = OpenStage(
            promotion=self._plan.promotion,
            position=position,
            stages=self._plan.stages,
            reason=passed,
            patience=self._request.patience,
        )
        self._entering = True
        try:
            standing = await workflow.execute_activity_method(RolloutActivities.open, opening, **ROWS)
        finally:
            self._entering = False
        stop_if_cancelled()
        return standing

    async def _bake(self, traffic: UUID, since: datetime, stage: Stage) -> StageLook:
        """Look until the stage has failed or passed, which it has at its end at the latest. An experiment says itself when it has ended."""
        if stage.kind is not TrafficKind.ARM:
            return await self._probe(traffic, since, stage)
        experiment = asyncio.create_task(compared(self._experiment(traffic)))
        try:
            return await self._probe(traffic, since, stage, experiment)
        finally:
            experiment.cancel()
            await asyncio.gather(experiment, return_exceptions=True)

    def _experiment(self, traffic: UUID) -> ExperimentRequest:
        request = self._request
        return ExperimentRequest(run_id=request.run_id, promotion=self._plan.promotion, traffic=traffic, patience=request.patience)

    async def _probe(self, traffic: UUID, since: datetime, stage: Stage, experiment: asyncio.Task[StageLook] | None = None) -> StageLook:
        until = since + stage.lasts
        every = OFTEN if stage.kind is TrafficKind.STANDBY else min(SELDOM, max(OFTEN, stage.lasts / LOOKS))
        while True:
            self._poked = False
            left = until - workflow.now() if experiment is None else every
            look = await self._look(traffic, left)
            stop_if_cancelled()
            if look.verdict is not Verdict.GO_ON:
                return look
            if self.skipped:
                return StageLook(verdict=Verdict.PASSED, reason=self.skipped)
            if experiment is not None and experiment.done():
                return await experiment
            await self._renew()
            # after its end more requests are waited for, perhaps a day: looked at less and less
            pause = min(every, max(left, OFTEN / 10)) if left > timedelta(0) else min(SELDOM, max(every, -left / LOOKS))
            await _sleep(pause, lambda: self._poked or (experiment is not None and experiment.done()))

    async def _look(self, traffic: UUID, left: timedelta) -> StageLook:
        looking = LookAtStage(
            run_id=self._request.run_id,
            promotion=self._plan.promotion,
            traffic=traffic,
            over=left <= timedelta(0),
            late=max(timedelta(0), -left),
            patience=self._request.patience,
        )
        return await workflow.execute_activity_method(RolloutActivities.look, looking, **ROWS)

    async def advance(self, command: Command) -> str:
        """Skip the rest of the stage."""
        traffic = await self._said("advance", command)
        self._skipped = traffic, f"skipped by {command.actor}" + (f": {command.reason}" if command.reason else "")
        self._poked = True
        return self.stage

    async def abort(self, command: Command) -> str:
        """End the rollout: the released version stays."""
        await self._said("abort", command)
        self._poked = True
        return self.stage

    async def _said(self, name: str, command: Command) -> UUID:
        await workflow.wait_condition(lambda: not self._entering)  # who sees a stage's row speaks of that stage
        at = self._at
        if at is None or at.traffic is None:
            raise Conflict("no stage is open now", remedy="`perdure show RUN` says where the promotion stands")
        update = workflow.current_update_info()
        said = StageCommand(
            promotion=self._plan.promotion,
            traffic=at.traffic,
            command=name,
            command_id=update.id if update else str(workflow.uuid4()),
            actor=command.actor,
            reason=command.reason,
            patience=self._request.patience,
        )
        await workflow.execute_activity_method(RolloutActivities.command, said, **ROWS)
        return at.traffic


async def withdraw(request: PromoteRequest, plan: PromotionPlan, reason: str) -> None:
    """The compensation. Where it cannot be done now, it is when the run's row is closed, by the run or by the reconciler."""
    withdrawing = Withdraw(promotion=plan.promotion, reason=reason, patience=request.patience)
    try:
        await workflow.execute_activity_method(RolloutActivities.withdraw, withdrawing, **ROWS)
    except FailureError as err:
        workflow.logger.error("the candidate was not withdrawn", extra={"error": str(root(err))})


async def _sleep(longest: timedelta, woken: Callable[[], bool]) -> None:
    try:
        await workflow.wait_condition(woken, timeout=longest)
    except TimeoutError:
        return
