"""Selection: a job chooses what people are asked; what they said becomes rows, and an input of the next preparation."""

from __future__ import annotations

from temporalio import activity

from perdure.activities.claims import Claims
from perdure.activities.jobs import JobRunner, Watched
from perdure.keys import step_params
from perdure.labeling.naming import campaign_name
from perdure.labeling.rounds import confident, enough
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.jobs import Engine, JobKind, JobRequest
from perdure.messages.pipeline import StepKind
from perdure.messages.preparation import DatasetRef
from perdure.messages.selection import LabelResult, RecordLabels, Selected, SelectRequest
from perdure.ports import Models, ModelVersion, Run, Runs, Selections, StepRun, Steps
from perdure.spec.pipeline import METRICS, Pipeline, load


class SelectionActivities:
    """Decides whether and what people are asked, and keeps what they said."""

    def __init__(
        self, runs: Runs, steps: Steps, models: Models, selections: Selections, claims: Claims, jobs: JobRunner, storage: str
    ) -> None:
        self._runs, self._steps, self._models, self._selections = runs, steps, models, selections
        self._claims, self._jobs, self._storage = claims, jobs, storage

    @activity.defn(name="selection.select", no_thread_cancel_exception=True)
    def select(self, request: SelectRequest) -> Selected:
        """What people are asked in this round; or why nobody is, or what they said before to the same questions."""
        run = self._runs.run(request.run_id)
        step = self._steps.begin(request.run_id, request.round, StepKind.LABEL, activity.info().scheduled_time)
        if step.state == "succeeded":
            return Selected(step_run=step.id, ended=_ended(step))
        spec = load(run.spec)
        label, model = spec.label, self._models.version(request.model_version)
        assert label is not None, "people are asked only where the specification says so"
        if why := enough(label, _metric(spec), request.rounds, request.dataset.pool_rows):
            return self._nobody(step, why)
        claim = self._claims.claim(
            run,
            step,
            params=step_params(StepKind.LABEL, run.spec, model.model),
            inputs=[model.predictor.sha256, request.dataset.manifest.sha256],
            artifacts="reusable",
        )
        if claim.hit is not None:
            return Selected(step_run=step.id, ended=_ended(self._steps.finish(step.id, claim.hit.result or {}, claim.reason), cached=True))
        chosen = self._choose(run, spec, step, request.dataset, model)
        if why := confident(label, chosen["figures"]):
            return self._nobody(step, why, chosen["figures"])
        if chosen["tasks"] is None:
            return self._nobody(step, "no row is left that the model may learn from", chosen["figures"])
        campaign = campaign_name(run.workflow_id, f"r{request.round}", step.id, chosen["tasks"]["sha256"])
        self._steps.report(step.id, {"phase": "people", "campaign": campaign}, waiting_for=f"people: campaign {campaign}")
        return Selected(
            step_run=step.id,
            campaign=campaign,
            spec=label.campaign(owner=spec.owner, classes=chosen["classes"]),
            tasks=ArtifactRef.from_json(chosen["tasks"]),
            asked=chosen["asked"],
            requested_by=run.requested_by,
            figures=chosen["figures"],
        )

    @activity.defn(name="selection.record", no_thread_cancel_exception=True)
    def record(self, request: RecordLabels) -> LabelResult:
        """Keep what people said. Answers to some of the questions are not reused by other runs, which may ask for all of them."""
        step = self._steps.begin(request.run_id, request.round, StepKind.LABEL, activity.info().scheduled_time)
        if step.state == "succeeded":
            return _ended(step)
        snapshot = request.snapshot.as_json()
        result: Json = {
            "campaign": request.campaign,
            "asked": request.asked,
            "tasks": request.tasks,
            "reason": request.reason if request.tasks else f"nobody answered: {request.reason}",
            "figures": request.figures,
            **({"snapshot": snapshot} if request.tasks else {}),
            **({"reusable": snapshot} if request.tasks and request.complete else {}),
        }
        step = self._selections.commit(
            step.id,
            model_version=request.model_version,
            dataset_version=request.dataset_version,
            tasks=request.chosen,
            snapshot=request.snapshot,
            result=result,
            reason=step.reason,
        )
        return _ended(step)

    def _nobody(self, step: StepRun, why: str, figures: Json | None = None) -> Selected:
        step = self._steps.finish(step.id, {"asked": 0, "tasks": 0, "reason": why, "figures": figures or {}}, step.reason)
        return Selected(step_run=step.id, ended=_ended(step))

    def _choose(self, run: Run, spec: Pipeline, step: StepRun, dataset: DatasetRef, model: ModelVersion) -> Json:
        request = JobRequest(
            job=f"{step.id}-select",
            kind=JobKind.SELECT,
            storage=self._storage,
            spec=run.spec,
            inputs={
                "manifest": dataset.manifest.as_json(),
                "predictor": model.predictor.as_json(),
                "model": {"model": model.model, "version": model.number},
            },
            code=run.pipeline.code,
        )
        stall = spec.evaluate.stall
        end = self._jobs.run(
            Watched(step_run=step.id, name="select", request=request, engine=Engine.LOCAL, stall=stall, setting="evaluate.stall")
        )
        assert end.result is not None, "only training pauses"
        return end.result


def _metric(spec: Pipeline) -> str:
    """What a round's gain is measured by."""
    named = spec.label.metric if spec.label else None
    return named or (spec.evaluate.metrics or METRICS[spec.data.target.task])[0]


def _ended(step: StepRun, *, cached: bool = False) -> LabelResult:
    """What the step came to."""
    result = step.result or {}
    snapshot = result.get("snapshot")
    return LabelResult(
        step_run=step.id,
        reason=str(result["reason"]),
        snapshot=ArtifactRef.from_json(snapshot) if snapshot else None,
        tasks=int(result["tasks"]),
        cached=cached,
    )
