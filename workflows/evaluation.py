"""`ModelEvaluation`: challenger and champion on the same frozen rows."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure.activities.evaluation import EvaluationActivities
    from perdure.messages.evaluation import EvaluateRequest, EvaluateResult
    from perdure.workflows.policies import JOB


@workflow.defn(name="ModelEvaluation")
class ModelEvaluation:
    """One evaluation; its verdict is a result, whatever it says."""

    @workflow.run
    async def run(self, request: EvaluateRequest) -> EvaluateResult:
        """The verdict with its reasons."""
        return await workflow.execute_activity_method(EvaluationActivities.run, request, **JOB)
