"""Labelers who failed on gold: their last answers count no more, and the tasks are asked again."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from perdure.labeling.spec import load
from perdure.messages.labeling import AnnotationStatus, CampaignState, TaskState
from perdure.metadata import tables as t
from perdure.metadata.repository.answers import poke, share_campaign


def requeue_blocked(session: Session, tenant: str) -> None:
    """Take back the last answers of each labeler who was blocked since the last look, in every campaign that is not closed."""
    blocked = session.scalars(select(t.Labeler.id).where(t.Labeler.tenant == tenant, t.Labeler.requeue_due)).all()
    for labeler in blocked:
        _take_back(session, tenant, labeler)
        # at last, as whoever answers holds tasks before labelers
        session.execute(update(t.Labeler).where(t.Labeler.id == labeler).values(requeue_due=False))


def _take_back(session: Session, tenant: str, labeler: UUID) -> None:
    a = t.Annotation
    campaigns = session.execute(
        select(t.Campaign)
        .where(t.Campaign.state != CampaignState.CLOSED)
        .where(t.Campaign.id.in_(select(a.campaign_id).where(a.labeler_id == labeler)))
        .order_by(t.Campaign.id)
    ).scalars()
    for campaign in campaigns:
        share_campaign(session, campaign.id)
        last = (
            select(a.id, a.task_id)
            .join(t.Task, t.Task.id == a.task_id)
            .where(a.labeler_id == labeler, a.campaign_id == campaign.id, a.status == AnnotationStatus.VALID, t.Task.gold.is_(None))
            .order_by(a.created_at.desc())
            .limit(load(campaign.spec).gold.requeue)
        )
        found = session.execute(last).all()
        tasks = session.scalars(
            select(t.Task).where(t.Task.id.in_({row.task_id for row in found})).order_by(t.Task.id).with_for_update()
        ).all()
        still = session.scalars(
            update(a)
            .where(a.id.in_([row.id for row in found]), a.status == AnnotationStatus.VALID)
            .values(status=AnnotationStatus.BLOCKED)
            .returning(a.task_id)
        ).all()
        for task in tasks:
            task.n_valid -= still.count(task.id)
            if task.n_valid < task.overlap and task.state in (TaskState.FULL, TaskState.DECIDED):
                task.state = TaskState.OPEN
        session.flush()
        reopened = [task.id for task in tasks if task.state is TaskState.OPEN]
        gone = session.scalars(delete(t.Decision).where(t.Decision.task_id.in_(reopened)).returning(t.Decision.task_id)).all()
        session.execute(update(t.Campaign).where(t.Campaign.id == campaign.id).values(decided=t.Campaign.decided - len(gone)))
        poke(session, tenant, campaign.workflow_id)
