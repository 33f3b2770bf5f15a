"""Rounds of questions."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from perdure.messages.common import ArtifactRef, Json
from perdure.metadata import tables as t
from perdure.metadata.repository import records
from perdure.metadata.repository.lifecycle import lock_step, running, succeed
from perdure.metadata.repository.rows import Rows
from perdure.ports import StepRun


class SelectionRows(Rows):
    """`perdure.ports.Selections` on Postgres."""

    def commit(
        self,
        step_run: UUID,
        *,
        model_version: UUID,
        dataset_version: UUID,
        tasks: ArtifactRef,
        snapshot: ArtifactRef,
        result: Json,
        reason: str,
    ) -> StepRun:
        """Artifacts, lineage and the step's end, in one transaction. A repeat returns what was committed first."""
        with self._database.transaction() as session:
            step = lock_step(session, self._tenant, step_run)
            if step.state is not t.StepState.SUCCEEDED:
                chosen = self._artifact(session, t.ArtifactKind.TASKS, tasks)
                labels = self._artifact(session, t.ArtifactKind.LABELS, snapshot)
                predictor = session.scalar(select(t.ModelVersion.predictor_id).where(t.ModelVersion.id == model_version))
                manifest = session.scalar(select(t.DatasetVersion.manifest_id).where(t.DatasetVersion.id == dataset_version))
                self._made_from(session, chosen, "model", [predictor])
                self._made_from(session, chosen, "dataset", [manifest])
                self._made_from(session, labels, "tasks", [chosen])
                succeed(session, running(step), result, reason)
            return records.step_run(step)
