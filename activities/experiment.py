"""Experiments: a job makes figures of predictions and outcomes, and what they say becomes a row, once a look."""

from __future__ import annotations

from temporalio import activity

from perdure.activities.jobs import JobRunner, Watched
from perdure.messages.common import Json
from perdure.messages.experiment import ExperimentPlan, ExperimentRequest, ExperimentState, LookAtExperiment
from perdure.messages.jobs import Engine, JobKind, JobRequest
from perdure.messages.rollout import StageLook
from perdure.outcomes import OutcomeFiles, Outcomes
from perdure.ports import Run, Runs
from perdure.rollout.comparison import judge, stage_look
from perdure.rollout.experiments import ExperimentRow, Experiments
from perdure.spec.experiment import Experiment


class ExperimentActivities:
    """Looks at experiments."""

    def __init__(
        self, runs: Runs, experiments: Experiments, outcomes: Outcomes, files: OutcomeFiles, jobs: JobRunner, storage: str
    ) -> None:
        self._runs, self._experiments, self._outcomes, self._files = runs, experiments, outcomes, files
        self._jobs, self._storage = jobs, storage

    @activity.defn(name="experiment.plan", no_thread_cancel_exception=True)
    def plan(self, request: ExperimentRequest) -> ExperimentPlan:
        """When the experiment of this stage is looked at, or what it has come to before."""
        row = self._experiments.experiment(request.traffic)
        spec = Experiment.model_validate(row.spec)
        if row.judged.state is not ExperimentState.RUNNING:
            return ExperimentPlan(ended=stage_look(row.judged, spec))
        return ExperimentPlan(since=row.since, until=row.since + spec.max_duration, peek=spec.peek, looks=row.looks)

    @activity.defn(name="experiment.look", no_thread_cancel_exception=True)
    def look(self, request: LookAtExperiment) -> StageLook:
        """What the figures say at this look; a repeat says the same."""
        row = self._experiments.experiment(request.traffic)
        spec = Experiment.model_validate(row.spec)
        judged = row.judged
        if judged.state is ExperimentState.RUNNING:
            figures = self._figures(self._runs.run(request.run_id), row, spec, request)
            judged = self._experiments.decide(row.id, request.number, request.at, figures, judge(spec, figures, over=request.over))
        return stage_look(judged, spec)

    def _figures(self, run: Run, row: ExperimentRow, spec: Experiment, request: LookAtExperiment) -> Json:
        name = f"experiment-{row.id}-{request.number}"
        told = self._files.write(self._outcomes.received(row.model, row.since, request.at))
        job = JobRequest(
            job=f"{request.promotion}-{name}",
            kind=JobKind.EXPERIMENT,
            storage=self._storage,
            spec=run.spec,
            inputs={
                "experiment": row.spec,
                "model": row.model,
                "champion": row.champion,
                "challenger": row.challenger,
                "since": row.since.isoformat(),
                "until": request.at.isoformat(),
                "outcomes": told.as_json() if told else None,
            },
        )
        end = self._jobs.run(
            Watched(
                step_run=request.promotion,
                name=name,
                request=job,
                engine=Engine.LOCAL,
                stall=spec.stall,
                setting="promote.rollout.experiment.stall",
                detail={"phase": "experiment"},
            )
        )
        assert end.result is not None, "only training pauses"
        return end.result
