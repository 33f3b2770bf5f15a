"""Who answers: the released version of every model, the one before it, and what takes part beside them. Read by serving processes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Double, Select, String, cast, literal, null, select, union_all
from sqlalchemy.orm import aliased

from perdure.messages.common import ArtifactRef
from perdure.metadata import tables as t
from perdure.metadata.database import Database

_RECENT = 20
"""So many releases are looked at for the one that a rollback leads to."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of a model, and the artifact that scores as it."""

    id: UUID
    number: int
    predictor: ArtifactRef


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An open row of `traffic`: what *version* does, on *share* percent of the requests.

    *unit* is the raw column that an experiment keeps together, where the request names no unit; None: each request for itself.
    """

    traffic: UUID
    version: Version
    kind: t.TrafficKind
    share: float
    unit: str | None = None

    @property
    def answers(self) -> bool:
        """Whether callers get its answers."""
        return self.kind in (t.TrafficKind.CANARY, t.TrafficKind.ARM)


@dataclass(frozen=True, kw_only=True)
class Route:
    """Everything that takes part in serving one model. *previous* is what a rollback would switch to."""

    model: str
    release: UUID | None = None
    released: Version | None = None
    previous: Version | None = None
    candidate: Candidate | None = None

    @property
    def versions(self) -> tuple[Version, ...]:
        """What a process keeps loaded, the most wanted first."""
        candidate = self.candidate.version if self.candidate else None
        return tuple({each.id: each for each in (self.released, candidate, self.previous) if each is not None}.values())


def routes(database: Database, models: Collection[str] | None = None) -> list[Route]:
    """The routes of *models* (None: of all) by name, as of one moment: one statement, so that no change is seen by half."""
    found: dict[str, dict[str, Any]] = {}
    with database.transaction() as session:
        for row in session.execute(_query(database.tenant, models)):
            version = Version(id=row.version, number=row.number, predictor=ArtifactRef(uri=row.uri, sha256=row.sha256, size=row.size))
            route = found.setdefault(row.model, {})
            if row.role == "released":
                route |= {"release": row.id, "released": version}
            elif row.role == "previous":
                route["previous"] = version
            else:
                unit = (row.spec or {}).get("unit")
                route["candidate"] = Candidate(traffic=row.id, version=version, kind=t.TrafficKind(row.kind), share=row.share, unit=unit)
    return [Route(model=model, **found[model]) for model in sorted(found)]


def _query(tenant: str, models: Collection[str] | None) -> Select[Any]:
    current, before, undoing = aliased(t.Release), aliased(t.Release), aliased(t.Release)

    def mine(table: Any) -> list[Any]:
        open = [table.tenant == tenant, table.until.is_(None)]
        return open if models is None else [*open, table.model.in_(models)]

    nothing = (cast(null(), String).label("kind"), cast(null(), Double).label("share"))
    recent = (
        select(before.id, before.model_version_id, before.since)
        .where(before.tenant == tenant, before.model == current.model, before.model_version_id != current.model_version_id)
        .order_by(before.since.desc())
        .limit(_RECENT)
        .correlate(current)
        .lateral()
    )
    undone = select(undoing.rolled_back_id).where(undoing.tenant == tenant, undoing.rolled_back_id.is_not(None))
    last = (
        select(recent.c.id, recent.c.model_version_id)
        .order_by(recent.c.id.in_(undone), recent.c.since.desc())  # what was rolled back is what nobody goes back to
        .limit(1)
        .correlate(current)
        .lateral()
    )
    roles = union_all(
        select(literal("released").label("role"), current.model, current.id, current.model_version_id, *nothing).where(*mine(current)),
        select(literal("previous"), current.model, last.c.id, last.c.model_version_id, *nothing)
        .join(last, last.c.id.is_not(None))
        .where(*mine(current)),
        select(
            literal("candidate"), t.Traffic.model, t.Traffic.id, t.Traffic.model_version_id, cast(t.Traffic.kind, String), t.Traffic.share
        ).where(*mine(t.Traffic)),
    ).subquery()
    return (
        select(
            roles,
            t.ModelVersion.id.label("version"),
            t.ModelVersion.number,
            t.Artifact.uri,
            t.Artifact.sha256,
            t.Artifact.size,
            t.Experiment.spec,
        )
        .join(t.ModelVersion, t.ModelVersion.id == roles.c.model_version_id)
        .join(t.Artifact, t.Artifact.id == t.ModelVersion.predictor_id)
        .outerjoin(t.Experiment, t.Experiment.id == roles.c.id)
    )
