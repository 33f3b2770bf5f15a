"""What schedules start: `RetrainTrigger` writes down that a date has come; `Backfill` runs a pipeline over data cut-offs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from temporalio import workflow
from temporalio.common import SearchAttributeKey, WorkflowIDReusePolicy
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from perdure.activities.retraining import RetrainingActivities
    from perdure.messages.controller import BackfillRequest, BackfillResult, TriggerRequest
    from perdure.messages.pipeline import RunRequest
    from perdure.workflows.failures import readable
    from perdure.workflows.pipeline import TrainingPipeline
    from perdure.workflows.policies import CHILD, ROWS, RUNS_PER_EXECUTION

SCHEDULED = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")


@workflow.defn(name="RetrainTrigger")
class RetrainTrigger:
    """One date of a schedule, or one look at a source. Whether something follows is the controller's business."""

    @workflow.run
    async def run(self, request: TriggerRequest) -> bool:
        """Whether there is a reason to train that was not known before. The data cut-off is the date, never the clock."""
        at = request.at or workflow.info().typed_search_attributes.get(SCHEDULED) or workflow.now()
        try:
            return await workflow.execute_activity_method(RetrainingActivities.trigger, replace(request, at=at), **ROWS)
        except FailureError as err:
            raise err if is_cancelled_exception(err) else readable(err) from err


@workflow.defn(name="Backfill")
class Backfill:
    """One run for each data cut-off, oldest first, one at a time: each is judged against the one before it."""

    @workflow.run
    async def run(self, request: BackfillRequest) -> BackfillResult:
        """How many runs there were. One that fails ends nothing; one that there was before is left alone."""
        done, failed = request.done, request.failed
        for named in request.cutoffs[done : done + RUNS_PER_EXECUTION]:
            cutoff = named.astimezone(UTC) if named.tzinfo is not None else named.replace(tzinfo=UTC)
            asked = RunRequest(pipeline=request.pipeline, version=request.version, requested_by=request.requested_by, cutoff=cutoff)
            try:
                await workflow.execute_child_workflow(
                    TrainingPipeline.run,
                    asked,
                    id=f"run/{request.pipeline}/backfill-{cutoff:%Y%m%dT%H%M%SZ}",
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    **CHILD,
                )
            except WorkflowAlreadyStartedError:
                workflow.logger.info("there was a run of this cut-off before", extra={"cutoff": cutoff.isoformat()})
            except FailureError as err:
                if is_cancelled_exception(err):
                    raise
                failed += 1
            done += 1
        if done < len(request.cutoffs):
            workflow.continue_as_new(replace(request, done=done, failed=failed))
        return BackfillResult(runs=done, failed=failed)
