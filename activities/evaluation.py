"""Evaluation: a job scores challenger and champion on the same frozen rows; the gates' verdicts become rows.

Where people are asked too, `run` ends with what to ask them, a campaign waits, and `conclude` judges what they said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from temporalio import activity

from perdure import gates
from perdure.activities.claims import Claims
from perdure.activities.jobs import JobRunner, Watched
from perdure.keys import digest, identity, step_params
from perdure.labeling import pairwise
from perdure.labeling.naming import campaign_name
from perdure.labeling.ports import Lines
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.evaluation import AskPeople, ConcludeEvaluation, EvaluateRequest, EvaluateResult
from perdure.messages.jobs import Engine, JobKind, JobRequest
from perdure.messages.pipeline import StepKind
from perdure.ports import Datasets, DatasetVersion, Evaluation, JobFiles, Models, ModelVersion, Run, Runs, StepRun, Steps, Verdict
from perdure.spec.human import without_people
from perdure.spec.pipeline import Evaluate, load


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """One comparison: what was scored, for whom, and the job's figures."""

    run: Run
    spec: Json
    step: StepRun
    challenger: ModelVersion
    champion: ModelVersion | None
    dataset: DatasetVersion
    figures: Json

    @property
    def wanted(self) -> Evaluate:
        """What the specification asks for."""
        return load(self.spec).evaluate

    @property
    def number(self) -> int | None:
        """The champion's."""
        return self.champion.number if self.champion else None

    def judged(self) -> list[Verdict]:
        """The verdicts of the gates on metrics."""
        return gates.judge(self.wanted.gates, self.figures, champion_number=self.number)


class EvaluationActivities:
    """Runs an evaluation to its verdict."""

    def __init__(
        self,
        runs: Runs,
        steps: Steps,
        datasets: Datasets,
        models: Models,
        claims: Claims,
        jobs: JobRunner,
        files: JobFiles,
        lines: Lines,
        storage: str,
    ) -> None:
        self._runs, self._steps, self._datasets, self._models = runs, steps, datasets, models
        self._claims, self._jobs, self._files, self._lines, self._storage = claims, jobs, files, lines, storage

    @activity.defn(name="evaluation.run", no_thread_cancel_exception=True)
    def run(self, request: EvaluateRequest) -> EvaluateResult:
        """Score, compare, judge; the champion is the version that serves when the evaluation begins."""
        run = self._runs.run(request.run_id)
        step = self._steps.begin(request.run_id, request.round, StepKind.EVALUATE, activity.info().scheduled_time)
        challenger = self._models.version(request.model_version)
        dataset = self._datasets.version(request.dataset_version)
        champion = self._models.champion(challenger.model)
        spec = run.spec if request.people else without_people(run.spec)
        claim = self._claims.claim(
            run,
            step,
            params=step_params(StepKind.EVALUATE, spec, challenger.model),
            inputs=[challenger.predictor.sha256, champion.predictor.sha256 if champion else "none", dataset.manifest.sha256],
            artifacts="scores",
        )
        known = claim.hit.result or {} if claim.hit else {}
        figures = known["figures"] if claim.hit else self._score(run, spec, step, challenger, champion, dataset)
        compared = _Compared(run=run, spec=spec, step=step, challenger=challenger, champion=champion, dataset=dataset, figures=figures)
        if claim.hit is None and (people := self._people(compared)) is not None:
            return people
        return self._commit(compared, known.get("human"), cached=claim.hit is not None, reason=claim.reason)

    @activity.defn(name="evaluation.conclude", no_thread_cancel_exception=True)
    def conclude(self, request: ConcludeEvaluation) -> EvaluateResult:
        """Judge with what people said, of the champion that they were asked about, whoever serves by now."""
        run = self._runs.run(request.run_id)
        step = self._steps.begin(request.run_id, request.round, StepKind.EVALUATE, activity.info().scheduled_time)
        challenger, champion = self._models.version(request.model_version), self._models.version(request.champion_version)
        dataset = self._datasets.version(request.dataset_version)
        figures = self._score(run, run.spec, step, challenger, champion, dataset)  # the job has ended: this is what it left
        compared = _Compared(run=run, spec=run.spec, step=step, challenger=challenger, champion=champion, dataset=dataset, figures=figures)
        return self._commit(compared, self._said(figures, request), cached=False, reason=step.reason)

    def _score(
        self, run: Run, spec: Json, step: StepRun, challenger: ModelVersion, champion: ModelVersion | None, dataset: DatasetVersion
    ) -> Json:
        name = f"evaluate-{champion.number if champion else 'none'}"  # another champion, meanwhile released, is another comparison
        request = JobRequest(
            job=f"{step.id}-{name}",
            kind=JobKind.EVALUATE,
            storage=self._storage,
            spec=spec,
            inputs={
                "manifest": dataset.manifest.as_json(),
                "challenger": challenger.predictor.as_json(),
                "champion": champion.predictor.as_json() if champion else None,
            },
            code=run.pipeline.code,
        )
        stall = load(spec).evaluate.stall
        end = self._jobs.run(
            Watched(step_run=step.id, name=name, request=request, engine=Engine.LOCAL, stall=stall, setting="evaluate.stall")
        )
        assert end.result is not None, "only training pauses"
        return end.result

    def _people(self, compared: _Compared) -> EvaluateResult | None:
        """What people are to be asked before there is a verdict; None where they are not."""
        human, pairs = compared.wanted.human, compared.figures.get("pairs")
        if human is None or gates.unasked(human, compared.figures, compared.judged(), champion_number=compared.number) is not None:
            return None
        assert pairs is not None, "there is something to compare"
        assert compared.champion is not None, "there is something to compare with"
        campaign = campaign_name(compared.run.workflow_id, "human", compared.step.id, pairs["tasks"]["sha256"])
        self._steps.report(compared.step.id, {"phase": "people", "campaign": campaign}, waiting_for=f"people: campaign {campaign}")
        return EvaluateResult(
            evaluation=identity(compared.step.id, "evaluation"),
            passed=False,
            champion_version=compared.champion.id,
            people=AskPeople(
                campaign=campaign,
                spec=human.campaign(load(compared.spec).owner),
                tasks=ArtifactRef.from_json(pairs["tasks"]),
                requested_by=compared.run.requested_by,
            ),
        )

    def _said(self, figures: Json, request: ConcludeEvaluation) -> Json:
        """What people said, as it is kept and bound by the evidence."""
        sides = self._files.get_json(ArtifactRef.from_json(figures["pairs"]["sides"]))
        with self._lines.read(request.snapshot) as lines:
            said = pairwise.count(_parsed(lines), {key: each["challenger"] for key, each in sides.items()})
        return {"campaign": request.campaign, "snapshot": request.snapshot.as_json(), "ended": request.reason, "said": said.as_json()}

    def _verdicts(self, compared: _Compared, human: Json | None) -> list[Verdict]:
        judged, wanted = compared.judged(), compared.wanted.human
        if wanted is None:
            return judged
        if human is not None:
            said = pairwise.Preference(**human["said"])
            return [*judged, gates.preferred(wanted, said, champion_number=compared.number, ended=human["ended"])]
        unasked = gates.unasked(wanted, compared.figures, judged, champion_number=compared.number)
        assert unasked is not None, "people were not asked"
        return [*judged, unasked]

    def _commit(self, compared: _Compared, human: Json | None, *, cached: bool, reason: str) -> EvaluateResult:
        """The verdicts as rows; *human* is what people said, if they were asked."""
        challenger, champion, dataset, figures = compared.challenger, compared.champion, compared.dataset, compared.figures
        verdicts = self._verdicts(compared, human)
        evidence = digest(
            {
                "model": challenger.predictor.sha256,
                "champion": champion.predictor.sha256 if champion else None,
                "dataset": dataset.manifest.sha256,
                "figures": figures,
                "human": human,
                "verdicts": [[v.gate, v.passed, v.reason] for v in verdicts],
            }
        )
        evaluation: Evaluation = self._models.commit_evaluation(
            compared.step.id,
            model_version=challenger.id,
            dataset_version=dataset.id,
            champion=champion.id if champion else None,
            verdicts=verdicts,
            evidence_sha256=evidence,
            result={"figures": figures, "scores": figures["scores"], "human": human},
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


def _parsed(lines: Iterator[bytes]) -> Iterator[Json]:
    for line in lines:
        yield json.loads(line)
