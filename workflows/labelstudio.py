"""Label Studio beside a campaign: asked now and then, and never what a campaign waits for, but for a while at its end."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.labelstudio import LabelStudioActivities
    from perdure.errors import PatienceExhausted, caused_by
    from perdure.messages.labeling import CampaignPlan, CampaignRef, CampaignState, Reconcile, Tick
    from perdure.workflows.failures import describe
    from perdure.workflows.policies import AT_ONCE, AWAY, RECONCILE_EVERY, ROWS


class LabelStudioSync:
    """What the workflow remembers of it: nothing that an execution after this one would miss."""

    def __init__(self) -> None:
        self.next: datetime | None = None  # when it is to be asked
        self._sent: int | None = None  # tasks of the campaign when all were there

    async def run(self, plan: CampaignPlan, tick: Tick) -> bool:
        """Send what is new, and, when it is time, take what the web hook has lost. Whether there is more to send at once."""
        due = self.next is None or self.next <= workflow.now()
        giving = tick.state is CampaignState.OPEN
        if not due and (tick.total == self._sent or not giving):
            return False
        problem: FailureError | None = None
        if giving:
            try:
                request = CampaignRef(campaign=plan.campaign, patience=AT_ONCE)
                if (await workflow.execute_activity_method(LabelStudioActivities.push, request, **ROWS)).more:
                    return True
            except FailureError as err:
                problem = _told(err)
            self._sent = tick.total
        if due:
            if problem is None or not caused_by(problem, PatienceExhausted):  # else nobody answers
                problem = await self.reconcile(plan, whole=False, patience=AT_ONCE) or problem
            self.next = workflow.now() + (RECONCILE_EVERY if problem is None else AWAY)
        return False

    async def reconcile(self, plan: CampaignPlan, *, whole: bool, patience: timedelta) -> FailureError | None:
        """Take what it knows and no web hook has told, deletions only with *whole*; why that could not be done."""
        try:
            request = Reconcile(campaign=plan.campaign, whole=whole, patience=patience)
            await workflow.execute_activity_method(LabelStudioActivities.reconcile, request, **ROWS)
        except FailureError as err:
            return _told(err)
        return None


def _told(err: FailureError) -> FailureError:
    """*err* as a note, unless it is the end of the campaign's workflow."""
    if is_cancelled_exception(err):
        raise err
    workflow.logger.warning("Label Studio could not be asked", extra={"error": describe(err)["message"]})
    return err
