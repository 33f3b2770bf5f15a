"""What waits for people in campaigns: for labelers, adjudicators, and the owners who look on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text

from perdure.keys import identity
from perdure.labeling.ports import CampaignRow
from perdure.messages.common import Json
from perdure.messages.labeling import AnnotationStatus, CampaignState, TaskState
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository.campaigns import campaign_row

COUNTED = 200
"""Tasks that are counted for a labeler at most: beyond that, it is enough to know that there are many."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A campaign that takes answers, and how many of its tasks wait for this labeler (at most `COUNTED`)."""

    campaign: CampaignRow
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one labeler said about a disputed task, or why they skipped it."""

    labeler: str
    value: Any
    skipped: bool
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Disputed:
    """A task about which its labelers disagree."""

    task: str
    payload: Json
    opinions: list[Opinion] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """Pairs of valid opinions on one task, and how many of them agree."""

    pairs: int
    agreeing: int


# without the labeler's own answers; counted to a bound, as a campaign may have a million
_WAITING = text(
    """
    select c.id, waiting.n from unnest(cast(:campaigns as uuid[])) as c (id)
      cross join lateral (
        select count(*) as n from (
          select 1 from task k where k.campaign_id = c.id and k.state = 'open' and k.gold is null
             and not exists (select 1 from annotation a
                              where a.task_id = k.id and a.labeler_id = :labeler and a.status in ('valid', 'skipped'))
           limit :most) as counted) as waiting
    """
)
_AGREED = text(
    """
    select coalesce(sum(n * (n - 1) / 2), 0) as agreeing,
           coalesce((select sum(m * (m - 1) / 2) from (select count(*) as m from annotation a join task k on k.id = a.task_id
                      where a.campaign_id = :campaign and a.status = 'valid' and k.gold is null group by a.task_id) as units), 0) as pairs
      from (select count(*) as n from annotation a join task k on k.id = a.task_id
             where a.campaign_id = :campaign and a.status = 'valid' and k.gold is null group by a.task_id, a.value) as same
    """
)


def work_for(db: Database, labeler: str, limit: int = 50) -> list[Work]:
    """Campaigns that are not closed, the newest first, with what waits for *labeler*."""
    query = select(t.Campaign).where(t.Campaign.tenant == db.tenant, t.Campaign.state != CampaignState.CLOSED)
    with db.transaction() as session:
        rows = list(session.scalars(query.order_by(t.Campaign.opened_at.desc(), t.Campaign.id).limit(limit)))
        values = {"campaigns": [row.id for row in rows], "labeler": identity(db.tenant, "labeler", labeler), "most": COUNTED}
        waiting = {row.id: row.n for row in session.execute(_WAITING, values)}
        return [Work(campaign=campaign_row(row), waiting=waiting[row.id]) for row in rows]


def campaign_agreement(db: Database, campaign: UUID) -> Agreed:
    """How often two labelers of one task agree, counted now; without tasks whose answer is known."""
    with db.transaction() as session:
        row = session.execute(_AGREED, {"campaign": campaign}).one()
        return Agreed(pairs=int(row.pairs), agreeing=int(row.agreeing))


def disputed_tasks(db: Database, campaign: UUID, limit: int = 20) -> tuple[int, list[Disputed]]:
    """How many tasks wait for an adjudicator, and the first of them with what was said about them."""
    task, a = t.Task, t.Annotation
    disputed = (task.campaign_id == campaign, task.state == TaskState.DISPUTED, task.tenant == db.tenant)
    with db.transaction() as session:
        total = session.scalar(select(func.count()).select_from(task).where(*disputed)) or 0
        rows = session.execute(select(task.id, task.key, task.payload).where(*disputed).order_by(task.id).limit(limit)).all()
        said = session.execute(
            select(a.task_id, t.Labeler.principal, a.value, a.status, a.reason)
            .join(t.Labeler, t.Labeler.id == a.labeler_id)
            .where(a.task_id.in_([row.id for row in rows]), a.status.in_((AnnotationStatus.VALID, AnnotationStatus.SKIPPED)))
            .order_by(a.task_id, a.event_time, a.id)
        ).all()
        opinions: dict[UUID, list[Opinion]] = {row.id: [] for row in rows}
        for row in said:
            skipped = row.status is AnnotationStatus.SKIPPED
            opinions[row.task_id].append(Opinion(labeler=row.principal, value=row.value, skipped=skipped, reason=row.reason))
        return total, [Disputed(task=row.key, payload=row.payload, opinions=opinions[row.id]) for row in rows]
