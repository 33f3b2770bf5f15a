"""Evaluation: a job scores challenger and champion on the same frozen rows; the gates' verdicts become rows."""

from __future__ import annotations

from temporalio import activity

from perdure import gates
from perdure.activities.claims import Claims
from perdure.activities.jobs import JobRunner, Watched
from perdure.keys import digest, step_params
from perdure.messages.common import Json
from perdure.messages.evaluation import EvaluateRequest, EvaluateResult
from perdure.messages.jobs import Engine, JobKind, JobRequest
from perdure.messages.pipeline import StepKind
from perdure.ports import Datasets, DatasetVersion, Evaluation, Models, ModelVersion, Run, Runs, StepRun, Steps
from perdure.spec import load


class EvaluationActivities:
    """Runs an evaluation to its verdict."""

    def __init__(self, runs: Runs, steps: Steps, datasets: Datasets, models: Models, claims: Claims, jobs: JobRunner, storage: str) -> None:
        self._runs, self._steps, self._datasets, self._models = runs, steps, datasets, models
        self._claims, self._jobs, self._storage = claims, jobs, storage

    @activity.defn(name="evaluation.run", no_thread_cancel_exception=True)
    def run(self, request: EvaluateRequest) -> EvaluateResult:
        """Score, compare, judge; the champion is the version that serves when the evaluation begins."""
        run = self._runs.run(request.run_id)
        step = self._steps.begin(request.run_id, request.round, StepKind.EVALUATE, activity.info().scheduled_time)
        challenger = self._models.version(request.model_version)
        dataset = self._datasets.version(request.dataset_version)
        champion = self._models.champion(challenger.model)
        claim = self._claims.claim(
            run,
            step,
            params=step_params(StepKind.EVALUATE, run.spec, challenger.model),
            inputs=[challenger.predictor.sha256, champion.predictor.sha256 if champion else "none", dataset.manifest.sha256],
            artifacts="scores",
        )
        figures = (claim.hit.result or {})["figures"] if claim.hit else self._score(run, step, challenger, champion, dataset)
        return self._commit(run, step, challenger, champion, dataset, figures, cached=claim.hit is not None, reason=claim.reason)

    def _score(self, run: Run, step: StepRun, challenger: ModelVersion, champion: ModelVersion | None, dataset: DatasetVersion) -> Json:
        name = f"evaluate-{champion.number if champion else 'none'}"  # another champion, meanwhile released, is another comparison
        request = JobRequest(
            job=f"{step.id}-{name}",
            kind=JobKind.EVALUATE,
            storage=self._storage,
            spec=run.spec,
            inputs={
                "manifest": dataset.manifest.as_json(),
                "challenger": challenger.predictor.as_json(),
                "champion": champion.predictor.as_json() if champion else None,
            },
            code=run.pipeline.code,
        )
        stall = load(run.spec).evaluate.stall
        end = self._jobs.run(
            Watched(step_run=step.id, name=name, request=request, engine=Engine.LOCAL, stall=stall, setting="evaluate.stall")
        )
        assert end.result is not None, "only training pauses"
        return end.result

    def _commit(
        self,
        run: Run,
        step: StepRun,
        challenger: ModelVersion,
        champion: ModelVersion | None,
        dataset: DatasetVersion,
        figures: Json,
        *,
        cached: bool,
        reason: str,
    ) -> EvaluateResult:
        verdicts = gates.judge(load(run.spec).evaluate.gates, figures, champion_number=champion.number if champion else None)
        evidence = digest(
            {
                "model": challenger.predictor.sha256,
                "champion": champion.predictor.sha256 if champion else None,
                "dataset": dataset.manifest.sha256,
                "figures": figures,
                "verdicts": [[v.gate, v.passed, v.reason] for v in verdicts],
            }
        )
        evaluation: Evaluation = self._models.commit_evaluation(
            step.id,
            model_version=challenger.id,
            dataset_version=dataset.id,
            champion=champion.id if champion else None,
            verdicts=verdicts,
            evidence_sha256=evidence,
            result={"figures": figures, "scores": figures["scores"]},
            reason=reason,
        )
        return EvaluateResult(
            evaluation=evaluation.id,
            passed=evaluation.passed,
            reasons=[v.reason for v in evaluation.verdicts],
            metrics=evaluation.metrics,
            evidence_sha256=evaluation.evidence_sha256,
            champion_version=evaluation.champion_version,
            cached=cached,
            reason=reason,
        )
