"""Evaluations, their figures and the verdicts of the gates."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.keys import identity
from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository import records
from perdure.metadata.repository.lifecycle import lock_step, running, succeed
from perdure.metadata.repository.rows import Rows, artifact_ref
from perdure.ports import Evaluation, ModelVersion, Verdict


class EvaluationRows(Rows):
    """`perdure.ports.Models.commit_evaluation` on Postgres, and how model versions are read."""

    def commit_evaluation(
        self,
        step_run: UUID,
        *,
        model_version: UUID,
        dataset_version: UUID,
        champion: UUID | None,
        verdicts: list[Verdict],
        evidence_sha256: str,
        result: Json,
        reason: str,
    ) -> Evaluation:
        """Evaluation, metrics, slices, gate verdicts and the step's end, in one transaction. The first one stays."""
        key = identity(step_run, "evaluation")
        figures = result["figures"]
        with self._database.transaction() as session:
            step = lock_step(session, self._tenant, step_run)
            if step.state is t.StepState.SUCCEEDED:
                return records.load_evaluation(session, key)
            running(step)
            scored = self._version(session, t.ModelVersion.id == model_version)
            metrics = {name: value for name, value in figures["challenger"]["metrics"].items() if value is not None}
            self._add(
                session,
                t.Evaluation,
                id=key,
                step_run_id=step_run,
                model_version_id=model_version,
                dataset_version_id=dataset_version,
                champion_version_id=champion,
                rows=figures["rows"],
                passed=all(verdict.passed for verdict in verdicts),
                metrics=metrics,
                evidence_sha256=evidence_sha256,
                scores_id=self._scores(session, result, scored, champion, dataset_version),
                human=result.get("human"),
                labels_id=self._labels(session, result),
            )
            self._add_all(session, t.EvaluationMetric, list(_metrics(key, figures)))
            self._add_all(session, t.GateVerdict, [_verdict(key, position, v) for position, v in enumerate(verdicts)])
            evaluation = records.load_evaluation(session, key)
            self._event(session, model_version, t.ModelEventKind.EVALUATED, key, {"passed": evaluation.passed, "metrics": metrics})
            succeed(session, step, {**result, "evaluation": str(key), "passed": evaluation.passed}, reason)
            return evaluation

    def _scores(self, session: Session, result: Json, scored: ModelVersion, champion: UUID | None, dataset_version: UUID) -> UUID | None:
        """The artifact of the scores, with what it was made from."""
        if not result.get("scores"):
            return None
        scores = self._artifact(session, t.ArtifactKind.SCORES, artifact_ref(result["scores"], "scores"))
        predictor = select(t.ModelVersion.predictor_id)
        self._made_from(session, scores, "challenger", session.scalars(predictor.where(t.ModelVersion.id == scored.id)))
        self._made_from(session, scores, "champion", session.scalars(predictor.where(t.ModelVersion.id == champion)))
        manifest = select(t.DatasetVersion.manifest_id).where(t.DatasetVersion.id == dataset_version)
        self._made_from(session, scores, "dataset", session.scalars(manifest))
        return scores

    def _labels(self, session: Session, result: Json) -> UUID | None:
        """The artifact of the label snapshot in which people compared the models."""
        human = result.get("human")
        return self._artifact(session, t.ArtifactKind.LABELS, artifact_ref(human["snapshot"], "snapshot")) if human else None

    def _versions(self, *where: ColumnElement[bool]) -> Select[t.ModelVersion, t.Artifact]:
        return records.model_versions().where(t.ModelVersion.tenant == self._tenant, *where)

    def _version(self, session: Session, *where: ColumnElement[bool]) -> ModelVersion:
        found = session.execute(self._versions(*where)).one_or_none()
        if found is None:
            raise NotFound("there is no such model version", remedy="`perdure models` lists them")
        return records.model_version(*found)


def _metrics(evaluation: UUID, figures: Json) -> Iterator[Json]:
    """One row per subject, group of rows and metric; a metric that is not defined on its rows has no value."""
    for subject in t.EvaluationSubject:
        scored = figures.get(subject)
        if scored is None:
            continue
        groups = [("", "", figures["rows"], scored["metrics"])]
        for column, values in (scored.get("slices") or {}).items():
            groups += [(plain(column), plain(value), group["rows"], group["metrics"]) for value, group in values.items()]
        for column, value, rows, metrics in groups:
            for name, figure in metrics.items():
                yield {
                    "evaluation_id": evaluation,
                    "subject": subject,
                    "slice_column": column,
                    "slice_value": value,
                    "name": name,
                    "value": figure,
                    "rows": rows,
                }


def _verdict(evaluation: UUID, position: int, verdict: Verdict) -> Json:
    return {
        "evaluation_id": evaluation,
        "position": position,
        "gate": verdict.gate,
        "passed": verdict.passed,
        "reason": plain(verdict.reason),
        "value": verdict.value,
        "champion_value": verdict.champion_value,
        "slice": plain(verdict.slice) if verdict.slice is not None else None,
    }
