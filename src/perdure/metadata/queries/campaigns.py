"""Campaigns, for people: a list, the figures of one, its snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from perdure.errors import NotFound
from perdure.labeling.ports import CampaignRow, LabelerRow, Progress
from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository.campaigns import campaign_row


@dataclass(frozen=True, kw_only=True)
class SnapshotDetail:
    """An immutable object that holds a campaign's labels at one time."""

    number: int
    uri: str
    sha256: str
    tasks: int
    statistics: Json
    created_at: datetime


def list_campaigns(db: Database, *, state: str | None = None, limit: int = 100) -> list[CampaignRow]:
    """Campaigns, the newest first."""
    query = select(t.Campaign).where(t.Campaign.tenant == db.tenant).order_by(t.Campaign.opened_at.desc(), t.Campaign.id).limit(limit)
    if state is not None:
        query = query.where(t.Campaign.state == state)
    with db.transaction() as session:
        return [campaign_row(row) for row in session.scalars(query)]


def campaign_progress(db: Database, campaign: UUID) -> Progress:
    """Tasks by state, answers by status, labelers with the most answers first. Raises NotFound."""
    with db.transaction() as session:
        row = session.scalars(select(t.Campaign).where(t.Campaign.id == campaign, t.Campaign.tenant == db.tenant)).one_or_none()
        if row is None:
            raise NotFound(f"there is no campaign {campaign}", field="campaign")
        tasks = select(t.Task.state, func.count()).where(t.Task.campaign_id == campaign, t.Task.gold.is_(None)).group_by(t.Task.state)
        a = t.Annotation
        answers = select(a.status, func.count()).where(a.campaign_id == campaign).group_by(a.status)
        by_labeler = select(a.labeler_id, func.count().label("n")).where(a.campaign_id == campaign).group_by(a.labeler_id).subquery()
        labelers = select(t.Labeler, by_labeler.c.n).join(by_labeler, by_labeler.c.labeler_id == t.Labeler.id)
        return Progress(
            campaign=campaign_row(row),
            tasks={row[0]: row[1] for row in session.execute(tasks)},
            annotations={row[0].value: row[1] for row in session.execute(answers)},
            labelers=[
                LabelerRow(principal=who.principal, status=who.status, gold_right=who.gold_right, gold_wrong=who.gold_wrong, answers=count)
                for who, count in session.execute(labelers.order_by(by_labeler.c.n.desc(), t.Labeler.principal).limit(1_000))
            ],
        )


def campaign_snapshot(db: Database, campaign: UUID, number: int | None) -> SnapshotDetail:
    """The snapshot with this number; without one, the newest. Raises NotFound."""
    s: Any = t.LabelSnapshot
    query = select(s, t.Artifact.uri).join(t.Artifact, t.Artifact.id == s.artifact_id)
    query = query.where(s.campaign_id == campaign, s.tenant == db.tenant).order_by(s.number.desc()).limit(1)
    with db.transaction() as session:
        found = session.execute(query if number is None else query.where(s.number == number)).one_or_none()
        if found is None:
            named = "no snapshot yet" if number is None else f"no snapshot {number}"
            raise NotFound(f"the campaign has {named}", field="snapshot", remedy="leave it out for the labels as they are now")
        row, uri = found
        return SnapshotDetail(
            number=row.number, uri=uri, sha256=row.sha256, tasks=row.tasks, statistics=row.statistics, created_at=row.created_at
        )


def named_task(db: Database, task: UUID) -> tuple[UUID, str]:
    """Campaign and key of a task. Raises NotFound."""
    with db.transaction() as session:
        row = session.execute(select(t.Task.campaign_id, t.Task.key).where(t.Task.id == task, t.Task.tenant == db.tenant)).one_or_none()
        if row is None:
            raise NotFound(f"there is no task {task}", field="task")
        return row.campaign_id, row.key
