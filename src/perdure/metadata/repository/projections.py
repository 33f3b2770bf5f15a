"""What MLflow has not been told about yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Select, Text, and_, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from perdure.keys import identity
from perdure.metadata import tables as t
from perdure.metadata.repository import records
from perdure.metadata.repository.rows import Rows
from perdure.ports import PendingMetrics, PendingRelease, PendingRun, PendingVersion
from perdure.registry import Expected, version_tags

Kind = t.ProjectionKind


class ProjectionRows(Rows):
    """`perdure.ports.Projections` on Postgres. Pending is what has another digest than was pushed: no write has to remember MLflow."""

    def runs(self, limit: int = 100, besides: Collection[UUID] = ()) -> list[PendingRun]:
        """Runs whose state was not pushed yet, oldest first."""
        pushed = aliased(t.Projection)
        query = (
            select(t.Run, t.PipelineVersion, pushed.external_id)
            .join(t.PipelineVersion, t.PipelineVersion.id == t.Run.pipeline_version_id)
            .outerjoin(pushed, self._of(pushed, Kind.RUN, t.Run.id))
            .where(t.Run.tenant == self._tenant, t.Run.id.not_in(besides), pushed.digest.is_distinct_from(t.Run.state))
            .where(t.Run.id.not_in(select(t.BatchInference.run_id)))  # MLflow keeps what was learned, not what was scored
            .order_by(t.Run.started_at)
            .limit(limit)
        )
        with self._database.transaction() as session:
            return [_run(*row) for row in session.execute(query)]

    def metrics(self, limit: int = 1000, besides: Collection[UUID] = ()) -> list[PendingMetrics]:
        """Training metrics after the last round that was pushed, of runs that MLflow knows. At most *limit* rounds."""
        pushed, of_run = aliased(t.Projection), aliased(t.Projection)
        query = (
            select(
                t.Metric.step_run_id,
                of_run.external_id,
                t.Metric.round,
                func.jsonb_object_agg(t.Metric.name, t.Metric.value).label("values"),
                func.max(t.Metric.recorded_at).label("at"),
            )
            .join(t.StepRun, t.StepRun.id == t.Metric.step_run_id)
            .join(of_run, self._of(of_run, Kind.RUN, t.StepRun.run_id))
            .outerjoin(pushed, self._of(pushed, Kind.METRIC, t.StepRun.id))
            .where(
                t.Metric.tenant == self._tenant,
                t.StepRun.id.not_in(besides),
                t.Metric.round > func.coalesce(cast(pushed.digest, BigInteger), -1),
            )
            .group_by(t.Metric.step_run_id, of_run.external_id, t.Metric.round)
            .order_by(t.Metric.step_run_id, t.Metric.round)
            .limit(limit)
        )
        with self._database.transaction() as session:
            found = session.execute(query).all()
        return [_metrics(step_run, list(rows)) for step_run, rows in groupby(found, lambda row: row.step_run_id)]

    def versions(self, limit: int = 100, besides: Collection[UUID] = ()) -> list[PendingVersion]:
        """Model versions that are new or to which something happened since, oldest first, of runs that MLflow knows."""
        pushed, of_run = aliased(t.Projection), aliased(t.Projection)
        happened = select(func.count()).where(t.ModelEvent.model_version_id == t.ModelVersion.id).correlate(t.ModelVersion)
        digest = cast(happened.scalar_subquery(), Text)
        query = (
            select(t.ModelVersion, t.Artifact, of_run.external_id, digest, pushed.external_id)
            .join(t.Artifact, t.Artifact.id == t.ModelVersion.predictor_id)
            .join(of_run, self._of(of_run, Kind.RUN, t.ModelVersion.run_id))
            .outerjoin(pushed, self._of(pushed, Kind.MODEL_VERSION, t.ModelVersion.id))
            .where(t.ModelVersion.tenant == self._tenant, t.ModelVersion.id.not_in(besides), pushed.digest.is_distinct_from(digest))
            .order_by(t.ModelVersion.created_at)
            .limit(limit)
        )
        with self._database.transaction() as session:
            return [
                PendingVersion(
                    version=records.model_version(row, predictor),
                    external_run=str(external_run),
                    digest=state,
                    external_id=external_id,
                    **_about(session, row.id),
                )
                for row, predictor, external_run, state, external_id in session.execute(query)
            ]

    def releases(self, limit: int = 100, besides: Collection[UUID] = ()) -> list[PendingRelease]:
        """Open releases that were not pushed yet, of versions that MLflow knows."""
        pushed, of_version = aliased(t.Projection), aliased(t.Projection)
        query = (
            select(t.Release, t.ModelVersion.number, of_version.external_id)
            .join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
            .join(of_version, self._of(of_version, Kind.MODEL_VERSION, t.ModelVersion.id))
            .outerjoin(pushed, self._of(pushed, Kind.RELEASE, t.Release.id))
            .where(t.Release.tenant == self._tenant, t.Release.id.not_in(besides))
            .where(t.Release.until.is_(None), pushed.object_id.is_(None))
            .order_by(t.Release.since)
            .limit(limit)
        )
        with self._database.transaction() as session:
            return [
                PendingRelease(release=records.release(row, number), external_version=str(external), digest="open")
                for row, number, external in session.execute(query)
            ]

    def models(self) -> list[str]:
        """Models that MLflow knows, by name: `perdure.registry.Told`."""
        with self._database.transaction() as session:
            return sorted(session.scalars(self._known()))

    def _known(self) -> Select[str]:
        of_version, v = aliased(t.Projection), t.ModelVersion
        return select(v.model).join(of_version, self._of(of_version, Kind.MODEL_VERSION, v.id)).where(v.tenant == self._tenant).distinct()

    def expected(self, models: Sequence[str]) -> list[Expected]:
        """What is expected of these models, but for those that MLflow does not know, or of which something is still to be pushed."""
        of_version, of_release, v, r = aliased(t.Projection), aliased(t.Projection), t.ModelVersion, t.Release
        known = self._known().where(v.model.in_(models))
        happened = select(func.count()).where(t.ModelEvent.model_version_id == v.id).correlate(v).scalar_subquery()
        released = (
            select(r.id, r.model, v.id.label("version"), v.number, of_version.external_id, of_release.object_id.label("pushed"))
            .add_columns((of_version.digest == cast(happened, Text)).label("current"))
            .join(v, v.id == r.model_version_id)
            .outerjoin(of_version, self._of(of_version, Kind.MODEL_VERSION, v.id))
            .outerjoin(of_release, self._of(of_release, Kind.RELEASE, r.id))
            .where(r.tenant == self._tenant, r.until.is_(None), r.model.in_(models))
        )
        with self._database.transaction() as session:
            names, serving = sorted(session.scalars(known)), {row.model: row for row in session.execute(released)}
            return [
                self._expected(session, name, serving.get(name))
                for name in names
                if name not in serving or (serving[name].pushed and serving[name].current)
            ]

    def _expected(self, session: Session, model: str, row: Any) -> Expected:
        if row is None:
            return Expected(model=model)
        about = _about(session, row.version)
        tags = version_tags(row.number, about["tags"], about["events"])
        return Expected(model=model, release=row.id, external=row.external_id, tags=tags)

    def repaired(self, expected: Expected, found: Sequence[str]) -> None:
        """Record what was found to be wrong in MLflow's registry, in the audit."""
        subject = expected.release or identity(self._tenant, "model", expected.model)
        with self._database.transaction() as session:
            after = {"model": expected.model, "champion": expected.external}
            self._audit(session, "registry.repair", subject, "perdure", reason="; ".join(found), after=after)

    def forget(self, model: str) -> None:
        """Take all that was pushed of *model*, its versions and their runs as not pushed."""
        v, p = t.ModelVersion, t.Projection
        mine = (v.tenant == self._tenant, v.model == model)
        objects = {
            Kind.MODEL_VERSION: select(v.id).where(*mine),
            Kind.RUN: select(v.run_id).where(*mine),
            Kind.METRIC: select(t.StepRun.id).where(t.StepRun.run_id.in_(select(v.run_id).where(*mine))),
            Kind.RELEASE: select(t.Release.id).where(t.Release.tenant == self._tenant, t.Release.model == model),
        }
        with self._database.transaction() as session:
            for kind, keys in objects.items():
                session.execute(delete(p).where(p.tenant == self._tenant, p.kind == kind, p.object_id.in_(keys)))

    def pushed(self, kind: str, object_id: UUID, digest: str, external_id: str | None = None) -> None:
        """Record what was pushed; None keeps the known external id."""
        row = insert(t.Projection).values(tenant=self._tenant, kind=Kind(kind), object_id=object_id, digest=digest, external_id=external_id)
        again = {
            "digest": row.excluded.digest,
            "external_id": func.coalesce(row.excluded.external_id, t.Projection.external_id),
            "pushed_at": func.now(),
        }
        with self._database.transaction() as session:
            session.execute(row.on_conflict_do_update(index_elements=["kind", "object_id"], set_=again))

    def _of(self, projection: Any, kind: t.ProjectionKind, object_id: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
        return and_(projection.tenant == self._tenant, projection.kind == kind, projection.object_id == object_id)


def _run(run: t.Run, pipeline: t.PipelineVersion, external_id: str | None) -> PendingRun:
    tags = {
        "perdure.workflow_id": run.workflow_id,
        "perdure.pipeline": f"{pipeline.name}/{pipeline.number}",
        "perdure.pipeline_sha256": pipeline.sha256,
        "perdure.requested_by": run.requested_by,
        "perdure.git_commit": pipeline.git_commit or "",
    }
    return PendingRun(
        id=run.id,
        workflow_id=run.workflow_id,
        pipeline=pipeline.name,
        model=str(run.spec.get("model") or pipeline.name),
        state=run.state,
        params=(run.spec.get("train") or {}).get("params") or {},
        tags={name: value for name, value in tags.items() if value},
        started_at=run.started_at,
        finished_at=run.finished_at,
        digest=run.state,
        external_id=external_id,
    )


def _metrics(step_run: UUID, rows: list[Any]) -> PendingMetrics:
    rounds = [(row.round, {name: float(value) for name, value in row.values.items()}, row.at) for row in rows]
    return PendingMetrics(step_run=step_run, external_run=rows[0].external_id, rounds=rounds, digest=str(rounds[-1][0]))


def _about(session: Session, version: UUID) -> dict[str, Any]:
    """Tags of a model version, the metrics of its newest evaluation, and what happened to it, in order."""
    tags = select(t.Tag.key, t.Tag.value).where(t.Tag.model_version_id == version).order_by(t.Tag.key)
    newest = select(t.Evaluation.metrics).where(t.Evaluation.model_version_id == version).order_by(t.Evaluation.created_at.desc()).limit(1)
    events = select(t.ModelEvent.kind).where(t.ModelEvent.model_version_id == version).order_by(t.ModelEvent.at, t.ModelEvent.id)
    return {
        "tags": dict(session.execute(tags).all()),
        "metrics": session.scalar(newest) or {},
        "events": [str(kind) for kind in session.scalars(events)],
    }
