"""Training: one job on the training engine, watched; its checkpoints, metrics and model become rows."""

from __future__ import annotations

from uuid import UUID

from temporalio import activity

from perdure.activities.claims import Claims
from perdure.activities.jobs import JobRunner, Watched
from perdure.keys import step_params
from perdure.messages.common import Json
from perdure.messages.jobs import Engine, JobKind, JobRequest, Latest, Resources
from perdure.messages.pipeline import StepKind
from perdure.messages.training import TrainRequest, TrainResult
from perdure.ports import Models, ModelVersion, Run, Runs, StepRun, Steps
from perdure.spec.pipeline import Pipeline, load


class TrainingActivities:
    """Runs a training to a model version."""

    def __init__(self, runs: Runs, steps: Steps, models: Models, claims: Claims, jobs: JobRunner, storage: str) -> None:
        self._runs, self._steps, self._models, self._claims, self._jobs, self._storage = runs, steps, models, claims, jobs, storage

    @activity.defn(name="training.run", no_thread_cancel_exception=True)
    def run(self, request: TrainRequest) -> TrainResult:
        """Train, or attach to the training that an earlier attempt started; ``paused`` if people want the run paused."""
        run = self._runs.run(request.run_id)
        spec = load(run.spec)
        step = self._steps.begin(request.run_id, request.round, StepKind.TRAIN, activity.info().scheduled_time)
        if step.state == "succeeded":
            return self._result(step, self._models.version(UUID((step.result or {})["model_version"])), cached=False)
        if run.paused and not self._has_job(step):
            return self._paused(step)
        claim = self._claims.claim(
            run,
            step,
            params=step_params(StepKind.TRAIN, run.spec, request.model),
            inputs=[request.dataset.manifest.sha256],
            artifacts="predictor",
        )
        if claim.hit is not None:
            step = self._steps.finish(step.id, claim.hit.result or {}, claim.reason)
            return self._result(step, self._models.version(UUID((step.result or {})["model_version"])), cached=True)
        return self._train(request, run, spec, self._steps.step(step.id))

    def _train(self, request: TrainRequest, run: Run, spec: Pipeline, step: StepRun) -> TrainResult:
        scaling = spec.train.scaling
        job = JobRequest(
            job=f"{step.id}-train",
            kind=JobKind.TRAIN,
            storage=self._storage,
            spec=run.spec,
            inputs={"manifest": request.dataset.manifest.as_json()},
            code=run.pipeline.code,
            resources=Resources(
                workers=scaling.workers,
                cpus_per_worker=scaling.cpus_per_worker,
                gpus_per_worker=scaling.gpus_per_worker,
                accelerator=scaling.accelerator,
                allow_cpu=scaling.allow_cpu,
            ),
        )
        copier = _Copier(self._models, step.id)
        end = self._jobs.run(
            Watched(
                step_run=step.id,
                name="train",
                request=job,
                engine=Engine(spec.train.engine),
                stall=spec.train.stall,
                setting="train.stall",
                obeys_pause=True,
                on_look=copier.copy,
                detail={"rounds": spec.train.params.get("rounds", 100)},
            )
        )
        if end.result is None:
            return self._paused(step, end.latest.paused or 0)
        version = self._models.commit(step.id, request.model, request.dataset.dataset_version, end.result, step.reason)
        return self._result(step, version, cached=False)

    def _has_job(self, step: StepRun) -> bool:
        """Whether an earlier attempt started a job, which must be told of the pause."""
        submission = self._steps.submission(step.id, "train")
        return submission is not None and submission.state == "open"

    def _paused(self, step: StepRun, rounds: int = 0) -> TrainResult:
        """No job runs, and whoever waits for the same training may have it."""
        self._steps.release(step.id)
        return TrainResult(step_run=step.id, paused=True, rounds=rounds)

    def _result(self, step: StepRun, version: ModelVersion, *, cached: bool) -> TrainResult:
        return TrainResult(
            step_run=step.id,
            model_version=version.id,
            version=version.number,
            predictor=version.predictor,
            rounds=version.rounds,
            metrics=version.metrics,
            cached=cached,
            reason=step.reason,
        )


class _Copier:
    """Copies what the job committed or reported into rows, each once per attempt (and at most once in the rows)."""

    def __init__(self, models: Models, step_run: UUID) -> None:
        self._models, self._step_run = models, step_run
        self._checkpoint: str | None = None
        self._round = 0

    def copy(self, latest: Latest, status: Json) -> None:
        if latest.checkpoint is not None and latest.checkpoint.key != self._checkpoint:
            self._models.record_checkpoint(self._step_run, latest.epoch, latest.checkpoint)
            self._checkpoint = latest.checkpoint.key
        fresh = [(int(round), dict(metrics)) for round, metrics in status.get("history", []) if int(round) > self._round]
        if fresh:
            self._models.record_metrics(self._step_run, fresh)
            self._round = fresh[-1][0]
