"""Batch inferences: what is particular to runs that score."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from perdure.errors import Conflict, NotFound
from perdure.messages.pipeline import StepKind
from perdure.metadata import tables as t
from perdure.metadata.repository import records
from perdure.metadata.repository.rows import Rows
from perdure.ports import Batch, DatasetVersion


class BatchRows(Rows):
    """`perdure.ports.Batches` on Postgres."""

    def open(self, run_id: UUID, *, model_version: UUID, source_version: UUID | None, dataset: str) -> None:
        """What this run scores, and where to; the first call decides."""
        with self._database.transaction() as session:
            self._add(
                session,
                t.BatchInference,
                run_id=run_id,
                model_version_id=model_version,
                source_version_id=source_version,
                dataset=dataset,
            )

    def check(self, dataset: str) -> None:
        """Raises Conflict where *dataset* holds what pipelines prepare."""
        prepared = (
            select(t.DatasetVersion.id)
            .join(t.Dataset, t.Dataset.id == t.DatasetVersion.dataset_id)
            .join(t.StepRun, t.StepRun.id == t.DatasetVersion.step_run_id)
            .where(t.Dataset.tenant == self._tenant, t.Dataset.name == dataset, t.StepRun.step != StepKind.PREDICT)
        )
        applied = select(t.PipelineVersion.id).where(t.PipelineVersion.tenant == self._tenant, t.PipelineVersion.name == dataset)
        with self._database.transaction() as session:
            if session.scalar(prepared.limit(1)) or session.scalar(applied.limit(1)):
                raise Conflict(
                    f"the data set {dataset!r} is what a pipeline prepares: scores would be taken for its rows",
                    field="to",
                    remedy="name another data set for the scores",
                )

    def batch(self, run_id: UUID) -> Batch:
        """What this run scores. Raises NotFound."""
        with self._database.transaction() as session:
            row = session.scalar(select(t.BatchInference).where(t.BatchInference.run_id == run_id, t.BatchInference.tenant == self._tenant))
            if row is None:
                raise NotFound(f"run {run_id} is no batch inference")
            version = session.execute(records.model_versions().where(t.ModelVersion.id == row.model_version_id)).one()
            source = session.execute(records.dataset_versions().where(t.DatasetVersion.id == row.source_version_id)).one_or_none()
            return Batch(
                run_id=run_id,
                request=session.get_one(t.Run, run_id).request,
                version=records.model_version(*version),
                source=records.dataset_version(*source) if source is not None else None,
                dataset=row.dataset,
            )

    def dataset(self, name: str, number: int | None = None) -> DatasetVersion:
        """A version of the data set *name*: the newest, or the one with this number. Raises NotFound naming what exists."""
        query = records.dataset_versions().where(t.Dataset.tenant == self._tenant).order_by(t.DatasetVersion.number.desc())
        wanted = query.where(t.Dataset.name == name)
        with self._database.transaction() as session:
            found = session.execute((wanted if number is None else wanted.where(t.DatasetVersion.number == number)).limit(1)).one_or_none()
            if found is not None:
                return records.dataset_version(*found)
            newest = session.execute(wanted.limit(1)).one_or_none()
            if newest is not None:
                remedy = f"name one from 1 to {newest[0].number}"
                raise NotFound(f"data set {name!r} has no version {number}", field="source.version", remedy=remedy)
            names = session.scalars(select(t.Dataset.name).where(t.Dataset.tenant == self._tenant).order_by(t.Dataset.name).limit(20)).all()
            remedy = f"one of {', '.join(names)}" if names else "run a pipeline first: nothing was prepared yet"
            raise NotFound(f"there is no data set {name!r}", field="source.dataset", remedy=remedy)
