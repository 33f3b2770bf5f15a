"""Models and pipelines, for people: versions, releases, and what a version was made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session, aliased

from perdure.errors import NotFound
from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import records
from perdure.metadata.views import model_origin, release_history

INTERNAL = ("tenant", "model_version_id", "run_id", "release_id")


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """One line about a model; ``serves`` is None where no version is released."""

    model: str
    versions: int
    newest: int
    serves: int | None
    since: datetime | None
    released_by: str | None


@dataclass(frozen=True, kw_only=True)
class VersionSummary:
    """One version of a model. ``metrics`` and ``passed`` are those of its newest evaluation, None before."""

    id: UUID
    number: int
    run: str
    trained_at: datetime
    dataset: str
    rounds: int
    predictor_sha256: str
    predictor_uri: str
    metrics: dict[str, float] | None
    passed: bool | None
    serves: bool


@dataclass(frozen=True, kw_only=True)
class ModelDetail:
    """A model: versions, newest first; releases, newest first, as in the view ``release_history``."""

    model: str
    versions: list[VersionSummary]
    releases: list[Json]


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a version was made of (view ``model_origin``), when it served, what happened to it, and the edges between artifacts."""

    model: str
    number: int
    origin: Json
    releases: list[Json]
    events: list[Json]
    artifacts: list[Json]


@dataclass(frozen=True, kw_only=True)
class PipelineSummary:
    """One line about a pipeline: its newest version and its runs."""

    name: str
    number: int
    sha256: str
    git_commit: str | None
    applied_by: str
    applied_at: datetime
    runs: int
    last_run: str | None
    last_state: str | None


def list_models(db: Database, at: datetime | None = None) -> list[ModelSummary]:
    """All models that there are, or were by then, by name."""
    count, newest = func.count(t.ModelVersion.id), func.max(t.ModelVersion.number)
    query = select(t.ModelVersion.model, count, newest).where(t.ModelVersion.tenant == db.tenant).group_by(t.ModelVersion.model)
    if at is not None:
        query = query.where(t.ModelVersion.created_at <= at)
    with db.transaction() as session:
        serving = {row["model"]: row for row in _history(session, db, _serves(at))}
        return [
            ModelSummary(
                model=model,
                versions=versions,
                newest=number,
                serves=serving[model]["version"] if model in serving else None,
                since=serving[model]["since"] if model in serving else None,
                released_by=serving[model]["actor"] if model in serving else None,
            )
            for model, versions, number in session.execute(query.order_by(t.ModelVersion.model))
        ]


def show_model(db: Database, model: str, at: datetime | None = None) -> ModelDetail:
    """The model with its versions and releases, as they were *at* that time (None: now). Raises NotFound naming what exists."""
    with db.transaction() as session:
        releases = _releases(session, db, release_history.c.model == model, at)
        serves = {row["version"] for row in releases if row["until"] is None}
        versions = [_version(*row, serves=serves) for row in session.execute(_versions(db, model, at))]
        known = select(t.ModelVersion.id).where(t.ModelVersion.tenant == db.tenant, t.ModelVersion.model == model)
        if not versions and session.scalar(known.limit(1)) is None:
            raise records.unknown_model(session, db.tenant, model)
        return ModelDetail(model=model, versions=versions, releases=releases)


def lineage(db: Database, model: str, number: int | None = None, at: datetime | None = None) -> Lineage:
    """What version *number* was made of; without a number, the version that answered *at* that time (None: the one that serves now).

    Its releases and what happened to it are told as they were then. Raises NotFound.
    """
    with db.transaction() as session:
        if number is None:
            number = _answering(session, db, model, at)
        origin = session.execute(
            select(model_origin).where(model_origin.c.tenant == db.tenant, model_origin.c.model == model, model_origin.c.version == number)
        )
        row = origin.mappings().one_or_none()
        if row is None:
            raise records.unknown_model(session, db.tenant, model, number)
        version = row["model_version_id"]
        events = select(t.ModelEvent).where(t.ModelEvent.model_version_id == version).order_by(t.ModelEvent.at)
        if at is not None:
            events = events.where(t.ModelEvent.at <= at)
        return Lineage(
            model=model,
            number=number,
            origin=_shown(row),
            releases=_releases(session, db, release_history.c.model_version_id == version, at),
            events=[{"kind": event.kind, "at": event.at, "detail": event.detail} for event in session.scalars(events)],
            artifacts=_edges(session, session.get_one(t.ModelVersion, version).predictor_id),
        )


def list_pipelines(db: Database) -> list[PipelineSummary]:
    """All pipelines, by name."""
    of_name, run = aliased(t.PipelineVersion), aliased(t.Run)
    runs = (
        select(of_name.name, func.count(run.id).label("runs"), func.max(run.started_at).label("last"))
        .join(run, run.pipeline_version_id == of_name.id)
        .where(of_name.tenant == db.tenant)
        .group_by(of_name.name)
        .subquery()
    )
    newest = (
        select(run.workflow_id, run.state)
        .join(of_name, of_name.id == run.pipeline_version_id)
        .where(of_name.name == t.PipelineVersion.name, of_name.tenant == db.tenant)
        .order_by(run.started_at.desc())
        .limit(1)
        .lateral()
    )
    query = (
        select(t.PipelineVersion, func.coalesce(runs.c.runs, 0), newest.c.workflow_id, newest.c.state)
        .outerjoin(runs, runs.c.name == t.PipelineVersion.name)
        .outerjoin(newest, newest.c.workflow_id.is_not(None))
        .where(t.PipelineVersion.tenant == db.tenant, t.PipelineVersion.newest)
        .order_by(t.PipelineVersion.name)
    )
    with db.transaction() as session:
        return [
            PipelineSummary(
                name=row.name,
                number=row.number,
                sha256=row.sha256,
                git_commit=row.git_commit,
                applied_by=row.applied_by,
                applied_at=row.applied_at,
                runs=count,
                last_run=last_run,
                last_state=last_state,
            )
            for row, count, last_run, last_state in session.execute(query)
        ]


def _versions(db: Database, model: str, at: datetime | None) -> Select[Any]:
    until = func.clock_timestamp() if at is None else at
    evaluation = (
        select(t.Evaluation.metrics, t.Evaluation.passed)
        .where(t.Evaluation.model_version_id == t.ModelVersion.id, t.Evaluation.created_at <= until)
        .order_by(t.Evaluation.created_at.desc())
        .limit(1)
        .lateral()
    )
    return (
        select(
            t.ModelVersion,
            t.Artifact,
            t.Run.workflow_id,
            t.Dataset.name,
            t.DatasetVersion.number,
            evaluation.c.metrics,
            evaluation.c.passed,
        )
        .join(t.Artifact, t.Artifact.id == t.ModelVersion.predictor_id)
        .join(t.Run, t.Run.id == t.ModelVersion.run_id)
        .join(t.DatasetVersion, t.DatasetVersion.id == t.ModelVersion.dataset_version_id)
        .join(t.Dataset, t.Dataset.id == t.DatasetVersion.dataset_id)
        .outerjoin(evaluation, evaluation.c.passed.is_not(None))
        .where(t.ModelVersion.tenant == db.tenant, t.ModelVersion.model == model, t.ModelVersion.created_at <= until)
        .order_by(t.ModelVersion.number.desc())
    )


def _version(
    row: t.ModelVersion,
    predictor: t.Artifact,
    run: str,
    dataset: str,
    dataset_number: int,
    metrics: dict[str, float] | None,
    passed: bool | None,
    *,
    serves: set[int],
) -> VersionSummary:
    return VersionSummary(
        id=row.id,
        number=row.number,
        run=run,
        trained_at=row.created_at,
        dataset=f"{dataset}/{dataset_number}",
        rounds=row.rounds,
        predictor_sha256=predictor.sha256,
        predictor_uri=predictor.uri,
        metrics=metrics,
        passed=passed,
        serves=row.number in serves,
    )


def _history(session: Session, db: Database, where: Any) -> list[Any]:
    query = select(release_history).where(release_history.c.tenant == db.tenant, where).order_by(release_history.c.since.desc())
    return list(session.execute(query).mappings())


def _releases(session: Session, db: Database, where: Any, at: datetime | None) -> list[Json]:
    """Releases that had begun by then, newest first; one that ended later has no end yet."""
    if at is None:
        return [_shown(row) for row in _history(session, db, where)]
    rows = [_shown(row) for row in _history(session, db, where & (release_history.c.since <= at))]
    return [row if row["until"] is None or row["until"] <= at else {**row, "until": None} for row in rows]


def _shown(row: Any) -> Json:
    return {name: value for name, value in row.items() if name not in INTERNAL}


def _answering(session: Session, db: Database, model: str, at: datetime | None) -> int:
    found = _history(session, db, (release_history.c.model == model) & _serves(at))
    if found:
        return int(found[0]["version"])
    if at is None:
        raise records.unknown_model(session, db.tenant, model)
    raise NotFound(f"no version of {model!r} served at {at.isoformat()}", field="at", remedy="`perdure models MODEL` shows its releases")


def _serves(at: datetime | None) -> ColumnElement[bool]:
    """Releases that are open, or were then."""
    view = release_history.c
    return view.until.is_(None) if at is None else (view.since <= at) & or_(view.until.is_(None), view.until > at)


def _edges(session: Session, artifact: UUID) -> list[Json]:
    """Everything that *artifact* was made from, directly or not."""
    edges = select(t.ArtifactInput.artifact_id, t.ArtifactInput.input_id, t.ArtifactInput.role).where(
        t.ArtifactInput.artifact_id == artifact
    )
    graph = edges.cte("graph", recursive=True)
    more = select(t.ArtifactInput.artifact_id, t.ArtifactInput.input_id, t.ArtifactInput.role)
    graph = graph.union(more.join(graph, graph.c.input_id == t.ArtifactInput.artifact_id))
    output, source = aliased(t.Artifact), aliased(t.Artifact)
    query = (
        select(output.sha256, graph.c.role, source.kind, source.uri, source.sha256.label("input_sha256"))
        .join(output, output.id == graph.c.artifact_id)
        .join(source, source.id == graph.c.input_id)
        .order_by(output.sha256, graph.c.role, source.uri)
    )
    return [
        {"artifact": row.sha256, "role": row.role, "kind": row.kind, "uri": row.uri, "sha256": row.input_sha256}
        for row in session.execute(query)
    ]
