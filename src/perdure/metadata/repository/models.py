"""Checkpoints, training metrics, model versions and evaluations."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from perdure.keys import identity
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.jobs import Checkpoint
from perdure.metadata import tables as t
from perdure.metadata.repository import records
from perdure.metadata.repository.evaluations import EvaluationRows
from perdure.metadata.repository.lifecycle import lock_step, running, succeed
from perdure.metadata.repository.rows import artifact_ref
from perdure.ports import ModelVersion


class ModelRows(EvaluationRows):
    """`perdure.ports.Models` on Postgres; `commit_evaluation` is in `EvaluationRows`."""

    def record_checkpoint(self, step_run: UUID, epoch: int, checkpoint: Checkpoint) -> None:
        """Copy a committed checkpoint into a row; no-op if it is there, or if the step has ended."""
        with self._database.transaction() as session:
            if self._runs(session, step_run):
                self._add(
                    session,
                    t.Checkpoint,
                    step_run_id=step_run,
                    epoch=epoch,
                    round=checkpoint.round,
                    key=checkpoint.key,
                    metrics=checkpoint.metrics,
                    files=checkpoint.files,
                )

    def record_metrics(self, step_run: UUID, rounds: list[tuple[int, dict[str, float]]]) -> None:
        """Copy metrics by round into rows; no-op for a round that is there, or if the step has ended."""
        rows = [
            {"step_run_id": step_run, "round": round, "name": name, "value": value}
            for round, metrics in sorted(rounds, key=lambda pair: pair[0])
            for name, value in sorted(metrics.items())
            if value is not None
        ]
        with self._database.transaction() as session:
            if rows and self._runs(session, step_run):
                self._add_all(session, t.Metric, rows)

    def commit(self, step_run: UUID, model: str, dataset_version: UUID, result: Json, reason: str) -> ModelVersion:
        """The next version of *model*, once per step run, with artifacts, lineage, tags and the step's end, in one transaction."""
        predictor = artifact_ref(result.get("predictor"), "predictor")
        key = identity(step_run, "model_version")
        with self._database.transaction() as session:
            step = lock_step(session, self._tenant, step_run)
            if step.state is t.StepState.SUCCEEDED and step.result is not None:
                return self._version(session, t.ModelVersion.id == UUID(step.result["model_version"]))
            running(step)
            self._lock(session, "model", model)
            last = select(func.coalesce(func.max(t.ModelVersion.number), 0)).where(
                t.ModelVersion.tenant == self._tenant, t.ModelVersion.model == model
            )
            self._add(
                session,
                t.ModelVersion,
                id=key,
                model=model,
                number=session.scalars(last).one() + 1,
                step_run_id=step_run,
                run_id=step.run_id,
                dataset_version_id=dataset_version,
                predictor_id=self._artifact(session, t.ArtifactKind.PREDICTOR, predictor),
                rounds=int(result.get("rounds") or 0),
                metrics=result.get("metrics") or {},
            )
            version = self._version(session, t.ModelVersion.id == key)
            self._lineage(session, step, version, predictor)
            succeed(session, step, {**result, "model": model, "model_version": str(key), "version": version.number}, reason)
            return version

    def version(self, model_version: UUID) -> ModelVersion:
        """The model version. Raises NotFound."""
        with self._database.transaction() as session:
            return self._version(session, t.ModelVersion.id == model_version)

    def find(self, model: str, number: int | None = None) -> ModelVersion:
        """A version by number; None means the released one. Raises NotFound naming what exists."""
        with self._database.transaction() as session:
            wanted = self._serving(model) if number is None else t.ModelVersion.number == number
            found = session.execute(self._versions(t.ModelVersion.model == model, wanted)).one_or_none()
            if found is None:
                raise records.unknown_model(session, self._tenant, model, number)
            return records.model_version(*found)

    def champion(self, model: str) -> ModelVersion | None:
        """The version with the open release."""
        with self._database.transaction() as session:
            found = session.execute(self._versions(self._serving(model))).one_or_none()
            return records.model_version(*found) if found is not None else None

    def _lineage(self, session: Session, step: t.StepRun, version: ModelVersion, predictor: ArtifactRef) -> None:
        """What the version was made from, and what people search it by."""
        origin = session.execute(
            select(t.PipelineVersion, t.Run.workflow_id)
            .join(t.Run, t.Run.pipeline_version_id == t.PipelineVersion.id)
            .where(t.Run.id == step.run_id)
        ).one()
        pipeline = origin[0]
        manifest = session.scalar(select(t.DatasetVersion.manifest_id).where(t.DatasetVersion.id == version.dataset_version))
        artifact = self._artifact(session, t.ArtifactKind.PREDICTOR, predictor)
        self._made_from(session, artifact, "dataset", [manifest])
        self._made_from(session, artifact, "code", [pipeline.code_id])
        self._event(session, version.id, t.ModelEventKind.TRAINED, step.id, {"rounds": version.rounds})
        tags = {
            "pipeline": f"{pipeline.name}/{pipeline.number}",
            "run": origin[1],
            "git_commit": pipeline.git_commit,
            "predictor": predictor.sha256,
        }
        rows = [{"model_version_id": version.id, "key": name, "value": value} for name, value in tags.items() if value]
        self._add_all(session, t.Tag, rows)

    def _runs(self, session: Session, step_run: UUID) -> bool:
        """Whether the step is still running: the copies of a watcher that was overtaken are dropped."""
        query = select(t.StepRun.state).where(t.StepRun.id == step_run, t.StepRun.tenant == self._tenant)
        return session.scalar(query) is t.StepState.RUNNING

    def _serving(self, model: str) -> ColumnElement[bool]:
        open_release = select(t.Release.model_version_id).where(
            t.Release.tenant == self._tenant, t.Release.model == model, t.Release.until.is_(None)
        )
        return t.ModelVersion.id.in_(open_release)
