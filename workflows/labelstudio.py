"""Label Studio beside a campaign: asked now and then, and never what a campaign waits for, but for a while at its end."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.labelstudio import LabelStudioActivities
    from perdure.errors import PatienceExhausted, caused_by
    from perdure.messages.labeling import CampaignPlan, CampaignRef, CampaignState, Reconcile, Tick
    from perdure.workflows.failures import describe
    from perdure.workflows.policies import AT_ONCE, AWAY, BESIDE, RECONCILE_EVERY


class LabelStudioSync:
    """A task of its own, so that a look at the campaign never waits for Label Studio; there is one at a time.

    What it remembers is nothing that an execution after this one would miss.
    """

    def __init__(self) -> None:
        self._next: datetime | None = None  # when it is to be asked
        self._sent: int | None = None  # tasks of the campaign when all were there
        self._compared: datetime | None = None  # when it was last tried to compare all
        self._work: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether it is being asked."""
        return self._work is not None and not self._work.done()

    @property
    def ended(self) -> bool:
        """Whether there is an end to `settle`: the campaign is to be looked at."""
        return self._work is not None and self._work.done()

    @property
    def next(self) -> datetime | None:
        """When it is to be asked again; None while that is not known."""
        return None if self.busy else self._next

    def compared_since(self, at: datetime) -> bool:
        """Whether it was tried after *at* to take all that it knows."""
        return self._compared is not None and self._compared >= at

    def begin(self, plan: CampaignPlan, tick: Tick, *, whole: bool) -> None:
        """Send what is new, and, when it is time, take what the web hook has lost: deletions, too, with *whole*, for which it is time."""
        due = whole or self._next is None or self._next <= workflow.now()
        if self._work is None and (due or (tick.state is CampaignState.OPEN and tick.total != self._sent)):
            self._work = asyncio.create_task(self._run(plan, tick, due=due, whole=whole))

    async def settle(self) -> None:
        """Wait for the end of what has begun."""
        if self._work is not None:
            await self._work
            self._work = None

    async def abandon(self) -> None:
        """End what has begun."""
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError, FailureError):
                await self._work

    async def _run(self, plan: CampaignPlan, tick: Tick, *, due: bool, whole: bool) -> None:
        problem: FailureError | None = None
        if tick.state is CampaignState.OPEN:
            try:
                request = CampaignRef(campaign=plan.campaign, patience=AT_ONCE)
                if (await workflow.execute_activity_method(LabelStudioActivities.push, request, **BESIDE)).more:
                    return  # the next look goes on, if tasks may still be given out
            except FailureError as err:
                problem = _told(err)
            self._sent = tick.total
        if due:
            if problem is None or not caused_by(problem, PatienceExhausted):  # else nobody answers
                problem = await self.reconcile(plan, whole=whole, patience=AT_ONCE) or problem
            self._next = workflow.now() + (RECONCILE_EVERY if problem is None else AWAY)
        if whole:
            self._compared = workflow.now()

    async def reconcile(self, plan: CampaignPlan, *, whole: bool, patience: timedelta) -> FailureError | None:
        """Take what it knows and no web hook has told, deletions only with *whole*; why that could not be done."""
        try:
            request = Reconcile(campaign=plan.campaign, whole=whole, patience=patience)
            await workflow.execute_activity_method(LabelStudioActivities.reconcile, request, **BESIDE)
        except FailureError as err:
            return _told(err)
        return None


def _told(err: FailureError) -> FailureError:
    """*err* as a note, unless it is the end of the campaign's workflow."""
    if is_cancelled_exception(err):
        raise err
    workflow.logger.warning("Label Studio could not be asked", extra={"error": describe(err)["message"]})
    return err
