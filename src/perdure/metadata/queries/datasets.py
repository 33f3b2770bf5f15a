"""Data sets, for people: versions, what they were made of, and what was wrong with their rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.messages.common import ArtifactRef, Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import records


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """One line about a data set, with the rows of its newest version."""

    dataset: str
    newest: int
    train_rows: int
    test_rows: int
    scored_rows: int
    quarantined_rows: int
    prepared_at: datetime


@dataclass(frozen=True, kw_only=True)
class DatasetVersionDetail:
    """One version. ``columns`` have ``name`` and ``dtype``; ``failures`` are checks that rows failed.

    Scores have ``scored_by``, the model and version that made them, and no rows to train on or test with.
    """

    dataset: str
    number: int
    manifest: ArtifactRef
    run: str
    prepared_at: datetime
    source: Json | None
    delta_uri: str | None
    delta_version: int | None
    columns: list[Json]
    classes: list[Any]
    train_rows: int
    test_rows: int
    quarantined_rows: int
    pool_rows: int
    labeled_rows: int
    scored_rows: int
    failures: list[Json]
    scored_by: str | None = None


def list_datasets(db: Database) -> list[DatasetSummary]:
    """All data sets, by name."""
    newest = select(func.max(t.DatasetVersion.number)).where(t.DatasetVersion.dataset_id == t.Dataset.id)
    query = (
        select(t.Dataset.name, t.DatasetVersion)
        .join(t.DatasetVersion, t.DatasetVersion.dataset_id == t.Dataset.id)
        .where(t.Dataset.tenant == db.tenant, t.DatasetVersion.number == newest.correlate(t.Dataset).scalar_subquery())
        .order_by(t.Dataset.name)
    )
    with db.transaction() as session:
        return [
            DatasetSummary(
                dataset=name,
                newest=row.number,
                train_rows=row.train_rows,
                test_rows=row.test_rows,
                scored_rows=row.scored_rows,
                quarantined_rows=row.quarantined_rows,
                prepared_at=row.created_at,
            )
            for name, row in session.execute(query)
        ]


def show_dataset(db: Database, name: str, number: int | None = None) -> list[DatasetVersionDetail]:
    """The versions of a data set, newest first; only the one with *number*, if given. Raises NotFound naming what exists."""
    query = _versions(db).where(t.Dataset.name == name)
    with db.transaction() as session:
        found = session.execute(query if number is None else query.where(t.DatasetVersion.number == number)).all()
        if not found:
            raise _unknown(session, db, name, number)
        return [_version(session, *row) for row in found]


def _versions(db: Database) -> Select[t.DatasetVersion, str, t.Artifact, str]:
    return (
        select(t.DatasetVersion, t.Dataset.name, t.Artifact, t.Run.workflow_id)
        .join(t.Dataset, t.Dataset.id == t.DatasetVersion.dataset_id)
        .join(t.Artifact, t.Artifact.id == t.DatasetVersion.manifest_id)
        .join(t.StepRun, t.StepRun.id == t.DatasetVersion.step_run_id)
        .join(t.Run, t.Run.id == t.StepRun.run_id)
        .where(t.DatasetVersion.tenant == db.tenant)
        .order_by(t.DatasetVersion.number.desc())
    )


def _version(session: Session, row: t.DatasetVersion, name: str, manifest: t.Artifact, run: str) -> DatasetVersionDetail:
    failures = select(t.ValidationResult).where(t.ValidationResult.dataset_version_id == row.id).order_by(t.ValidationResult.position)
    return DatasetVersionDetail(
        dataset=name,
        number=row.number,
        manifest=records.ref(manifest),
        run=run,
        prepared_at=row.created_at,
        source=row.source,
        delta_uri=row.delta_uri,
        delta_version=row.delta_version,
        columns=row.columns,
        classes=row.classes,
        train_rows=row.train_rows,
        test_rows=row.test_rows,
        quarantined_rows=row.quarantined_rows,
        pool_rows=row.pool_rows,
        labeled_rows=row.labeled_rows,
        scored_rows=row.scored_rows,
        scored_by=_scored_by(session, row),
        failures=[
            {"column": each.column, "check": each.check, "count": each.count, "example": each.example} for each in session.scalars(failures)
        ],
    )


def _scored_by(session: Session, row: t.DatasetVersion) -> str | None:
    query = (
        select(t.ModelVersion.model, t.ModelVersion.number)
        .join(t.BatchInference, t.BatchInference.model_version_id == t.ModelVersion.id)
        .join(t.StepRun, t.StepRun.run_id == t.BatchInference.run_id)
        .where(t.StepRun.id == row.step_run_id)
    )
    found = session.execute(query).one_or_none()
    return f"{found.model} version {found.number}" if found is not None else None


def _unknown(session: Session, db: Database, name: str, number: int | None) -> NotFound:
    newest = session.scalar(
        select(func.max(t.DatasetVersion.number)).join(t.Dataset).where(t.Dataset.tenant == db.tenant, t.Dataset.name == name)
    )
    if newest is not None:
        return NotFound(f"data set {name!r} has no version {number}", field="dataset", remedy=f"name one from 1 to {newest}")
    names = session.scalars(select(t.Dataset.name).where(t.Dataset.tenant == db.tenant).order_by(t.Dataset.name).limit(20)).all()
    remedy = f"one of {', '.join(names)}" if names else "run a pipeline first: nothing was prepared yet"
    return NotFound(f"there is no data set {name!r}", field="dataset", remedy=remedy)
