"""Where the answers of one labeler went: campaigns, label snapshots, and what was made of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.messages.labeling import AnnotationStatus
from perdure.metadata import tables as t
from perdure.metadata.database import Database


@dataclass(frozen=True, kw_only=True)
class AffectedCampaign:
    """A campaign in which the labeler answered, by status."""

    campaign: str
    answers: dict[AnnotationStatus, int]


@dataclass(frozen=True, kw_only=True)
class AffectedSnapshot:
    """A label snapshot that holds opinions of the labeler."""

    campaign: str
    number: int
    uri: str
    sha256: str
    opinions: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class AffectedVersion:
    """A version of a data set or model that was made of such a snapshot, or a model's that people judged in it."""

    name: str
    number: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Affected:
    """Everything that holds answers of one labeler. An answer that was taken back later is still in earlier snapshots."""

    labeler: str
    campaigns: list[AffectedCampaign] = field(default_factory=list)
    snapshots: list[AffectedSnapshot] = field(default_factory=list)
    datasets: list[AffectedVersion] = field(default_factory=list)
    models: list[AffectedVersion] = field(default_factory=list)
    judged: list[AffectedVersion] = field(default_factory=list)


def affected(db: Database, labeler: str) -> Affected:
    """What holds answers of *labeler*. Raises NotFound."""
    with db.transaction() as session:
        who = session.scalar(select(t.Labeler.id).where(t.Labeler.tenant == db.tenant, t.Labeler.principal == labeler))
        if who is None:
            raise NotFound(
                f"nobody called {labeler!r} has ever answered", field="labeler", remedy="`perdure campaigns show` names labelers"
            )
        snapshots = _snapshots(session, db, labeler)
        made = _made_from(session, {artifact for artifact, _ in snapshots})
        datasets = session.execute(
            select(t.DatasetVersion.id, t.Dataset.name, t.DatasetVersion.number, t.DatasetVersion.created_at)
            .join(t.Dataset, t.Dataset.id == t.DatasetVersion.dataset_id)
            .where(t.DatasetVersion.manifest_id.in_(made))
            .order_by(t.Dataset.name, t.DatasetVersion.number)
        ).all()
        of_them = or_(t.ModelVersion.predictor_id.in_(made), t.ModelVersion.dataset_version_id.in_([row.id for row in datasets]))
        models = session.scalars(select(t.ModelVersion).where(of_them).order_by(t.ModelVersion.model, t.ModelVersion.number))
        by_them = select(t.Evaluation.model_version_id).where(t.Evaluation.labels_id.in_([artifact for artifact, _ in snapshots]))
        judged = session.scalars(
            select(t.ModelVersion).where(t.ModelVersion.id.in_(by_them)).order_by(t.ModelVersion.model, t.ModelVersion.number)
        )
        return Affected(
            labeler=labeler,
            campaigns=_campaigns(session, who),
            snapshots=[snapshot for _, snapshot in snapshots],
            datasets=[AffectedVersion(name=row.name, number=row.number, created_at=row.created_at) for row in datasets],
            models=[AffectedVersion(name=row.model, number=row.number, created_at=row.created_at) for row in models],
            judged=[AffectedVersion(name=row.model, number=row.number, created_at=row.created_at) for row in judged],
        )


def _campaigns(session: Session, labeler: UUID) -> list[AffectedCampaign]:
    a = t.Annotation
    query = select(t.Campaign.name, a.status, func.count()).join(t.Campaign, t.Campaign.id == a.campaign_id)
    found: dict[str, dict[AnnotationStatus, int]] = {}
    for name, status, count in session.execute(query.where(a.labeler_id == labeler).group_by(t.Campaign.name, a.status)):
        found.setdefault(name, {})[status] = count
    return [AffectedCampaign(campaign=name, answers=dict(sorted(found[name].items()))) for name in sorted(found)]


def _snapshots(session: Session, db: Database, labeler: str) -> list[tuple[UUID, AffectedSnapshot]]:
    """By the counts that every snapshot keeps of its labelers."""
    s = t.LabelSnapshot
    opinions = s.statistics["labelers"][labeler]
    query = (
        select(s, t.Artifact.uri, t.Campaign.name, opinions)
        .join(t.Artifact, t.Artifact.id == s.artifact_id)
        .join(t.Campaign, t.Campaign.id == s.campaign_id)
        .where(s.tenant == db.tenant, opinions.is_not(None))
        .order_by(t.Campaign.name, s.number)
    )
    return [
        (
            row.artifact_id,
            AffectedSnapshot(
                campaign=campaign, number=row.number, uri=uri, sha256=row.sha256, opinions=int(count), created_at=row.created_at
            ),
        )
        for row, uri, campaign, count in session.execute(query)
    ]


def _made_from(session: Session, artifacts: set[UUID]) -> set[UUID]:
    """*artifacts* and everything that was made from them, by any number of steps."""
    found, new = set(artifacts), set(artifacts)
    while new:
        edges = select(t.ArtifactInput.artifact_id).where(t.ArtifactInput.input_id.in_(new))
        new = set(session.scalars(edges)) - found
        found |= new
    return found
