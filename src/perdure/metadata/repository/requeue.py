"""Labelers who failed on gold: their last answers count no more, and the tasks are asked again."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from perdure.labeling.spec import load
from perdure.messages.labeling import AnnotationStatus, CampaignState, TaskState
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository.answers import adjudicated, poke, share_campaign, state_of


def requeue_blocked(database: Database, tenant: str) -> None:
    """Take back the last answers of each labeler who was blocked since the last look, in every campaign that is not closed."""
    with database.transaction() as session:
        blocked = session.scalars(select(t.Labeler.id).where(t.Labeler.tenant == tenant, t.Labeler.requeue_due)).all()
    for labeler in blocked:
        _requeue(database, tenant, labeler)


def _requeue(database: Database, tenant: str, labeler: UUID) -> None:
    """Once: looks at many campaigns come here together, and each would take back more than the one before."""
    with database.transaction() as session:
        # not the labeler's row, which is held after tasks
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"requeue/{labeler}", 0))))
        if not session.scalar(select(t.Labeler.requeue_due).where(t.Labeler.id == labeler)):
            return
        undecided = _take_back(session, labeler)
        # in this order, as whoever answers holds tasks before labelers, and both before campaigns
        session.execute(update(t.Labeler).where(t.Labeler.id == labeler).values(requeue_due=False))
        for campaign, count in undecided:
            session.execute(update(t.Campaign).where(t.Campaign.id == campaign.id).values(decided=t.Campaign.decided - count))
            poke(session, tenant, campaign.workflow_id)


def _take_back(session: Session, labeler: UUID) -> list[tuple[t.Campaign, int]]:
    """The campaigns that were looked at, and of how many tasks in each the decision is gone."""
    a = t.Annotation
    looked = []
    mine = select(t.Campaign.id).where(t.Campaign.id.in_(select(a.campaign_id).where(a.labeler_id == labeler)))
    for id in session.scalars(mine.where(t.Campaign.state != CampaignState.CLOSED).order_by(t.Campaign.id)).all():
        share_campaign(session, id)
        campaign = session.get_one(t.Campaign, id)
        if campaign.state is CampaignState.CLOSED:
            continue
        spec = load(campaign.spec)
        last = (
            select(a.id, a.task_id)
            .join(t.Task, t.Task.id == a.task_id)
            .where(a.labeler_id == labeler, a.campaign_id == campaign.id, a.status == AnnotationStatus.VALID, t.Task.gold.is_(None))
            .order_by(a.created_at.desc())
            .limit(spec.gold.requeue)
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
        judged = adjudicated(session, {task.id for task in tasks})
        undecided = []
        for task in tasks:
            if not (lost := still.count(task.id)):
                continue
            task.n_valid -= lost
            if task.id in judged or task.state is TaskState.REJECTED:
                continue
            if task.state is TaskState.DECIDED:
                undecided.append(task.id)
            task.state = state_of(task.state, task.n_valid, task.overlap, task.n_skip, spec.skips)
        session.flush()
        gone = session.scalars(delete(t.Decision).where(t.Decision.task_id.in_(undecided)).returning(t.Decision.task_id)).all()
        looked.append((campaign, len(gone)))
    return looked
