"""`ModelEvaluation`: challenger and champion on the same frozen rows; people compare them where the specification asks for it."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from perdure.activities.evaluation import EvaluationActivities
    from perdure.messages.evaluation import AskPeople, ConcludeEvaluation, EvaluateRequest, EvaluateResult
    from perdure.messages.labeling import CampaignRequest, CampaignResult
    from perdure.workflows.children import started
    from perdure.workflows.failures import stop_if_cancelled
    from perdure.workflows.labeling import LabelingCampaign
    from perdure.workflows.policies import CHILD, JOB


@workflow.defn(name="ModelEvaluation")
class ModelEvaluation:
    """One evaluation; its verdict is a result, whatever it says."""

    @workflow.run
    async def run(self, request: EvaluateRequest) -> EvaluateResult:
        """The verdict with its reasons. While people are asked, nothing runs."""
        evaluated = await workflow.execute_activity_method(EvaluationActivities.run, request, **JOB)
        if evaluated.people is None:
            return evaluated
        stop_if_cancelled()
        assert evaluated.champion_version is not None, "people compare with a champion"
        said = await self._ask(request, evaluated.people)
        stop_if_cancelled()
        concluding = ConcludeEvaluation(
            run_id=request.run_id,
            round=request.round,
            patience=request.patience,
            model_version=request.model_version,
            dataset_version=request.dataset_version,
            champion_version=evaluated.champion_version,
            campaign=evaluated.people.campaign,
            snapshot=said.snapshot,
            reason=said.reason,
        )
        return await workflow.execute_activity_method(EvaluationActivities.conclude, concluding, **JOB)

    async def _ask(self, request: EvaluateRequest, people: AskPeople) -> CampaignResult:
        """What the campaign came to. It ends with this evaluation: what people still say after a cancellation counts for nothing."""
        opening = CampaignRequest(
            campaign=people.campaign,
            spec=people.spec,
            tasks=people.tasks,
            requested_by=people.requested_by,
            patience=request.patience,
        )
        waiting = await started(
            request.patience,
            lambda: workflow.start_child_workflow(LabelingCampaign.run, opening, id=f"campaign/{people.campaign}", **CHILD),
        )
        return await waiting
