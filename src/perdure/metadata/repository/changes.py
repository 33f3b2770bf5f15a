"""Changes of all tasks of a campaign, a page of them in each transaction, so that nobody who answers waits for long.

What began one is an event of the campaign; how far it came stands there (`AFTER`, a task's key) until it is done. So it goes on wherever
it was interrupted, and is done once.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select, text, update
from sqlalchemy.orm import Session

from perdure.keys import identity
from perdure.labeling.assistance import SOURCE
from perdure.labeling.consensus import ADJUDICATED
from perdure.labeling.spec import Campaign, load
from perdure.messages.labeling import CampaignState
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.answers import poke, share_campaign
from perdure.metadata.repository.messages import tell

AFTER = "after_key"
BLOCKED = "model_blocked"
LOWERED = "lower_overlap"
PAGE = 5_000  # tasks of one transaction: about a second

# held in one order, as two that hold many tasks would wait for each other; and no others, as nobody could lease them meanwhile
_ANSWERED = text(
    """
    select count(*) from (
      select from task where id = any(:tasks) and exists (select from annotation
             where task_id = task.id and labeler_id = :labeler and source = :source and status = 'valid') order by id for update) as held
    """
)
_OPEN = text(
    """
    select count(*) from (
      select from task where id = any(:tasks) and state = 'open' and gold is null order by id for update) as held
    """
)
_WITHDRAWN = text(
    """
    update annotation set status = 'blocked'
     where task_id = any(:tasks) and labeler_id = :labeler and source = :source and status = 'valid' returning task_id
    """
)
_UNDECIDED = text("delete from decision where task_id = any(:tasks) and method <> :adjudicated")
_REOPENED = text(
    """
    update task set n_valid = n_valid - 1, assist = null, overlap = greatest(overlap, :labels),
                    state = case when state = 'rejected' or exists (select from decision where decision.task_id = task.id) then state
                                 when n_valid - 1 >= greatest(overlap, :labels) then 'full'
                                 when n_skip >= :skips then 'disputed' else 'open' end
     where id = any(:tasks)
    """
)
_LOWERED = text(
    """
    update task set overlap = greatest(overlap - 1, 1), state = case when n_valid >= greatest(overlap - 1, 1) then 'full' else state end
     where id = any(:tasks) and state = 'open' and gold is null
    """
)


def unfinished(session: Session, campaign: UUID) -> bool:
    """Whether such a change is not done."""
    return session.scalar(select(t.CampaignEvent.id).where(*_going_on(campaign)).limit(1)) is not None


def change(database: Database, tenant: str, campaign: UUID) -> bool:
    """One page of the oldest change that is not done; whether there is more."""
    with database.transaction() as session:
        if not unfinished(session, campaign):
            return False
        share_campaign(session, campaign)
        row = session.get_one(t.Campaign, campaign)
        if row.state is CampaignState.CLOSED:
            return False
        oldest = select(t.CampaignEvent).where(*_going_on(campaign)).order_by(t.CampaignEvent.id).limit(1).with_for_update()
        event = session.scalars(oldest).one_or_none()
        if event is None:  # done by another look
            return False
        page = session.execute(
            select(t.Task.id, t.Task.key)
            .where(t.Task.campaign_id == campaign, t.Task.key > event.detail[AFTER])
            .order_by(t.Task.key)
            .limit(PAGE)
        ).all()
        tasks = [task for task, _ in page]
        detail = dict(event.detail)
        if event.kind == BLOCKED:
            detail["withdrawn"] += _withdraw(session, tenant, row, load(row.spec), event.actor, tasks)
        else:
            session.execute(_OPEN, {"tasks": tasks})
            session.execute(_LOWERED, {"tasks": tasks})
        if len(page) == PAGE:
            event.detail = detail | {AFTER: page[-1].key}
            return True
        del detail[AFTER]
        event.detail = detail
        if event.kind == BLOCKED:
            tell(session, tenant, load(row.spec).owner, kind=BLOCKED, campaign=row.name, model=plain(event.actor), **detail)
        poke(session, tenant, row.workflow_id)
        return unfinished(session, campaign)


def _going_on(campaign: UUID) -> tuple[ColumnElement[bool], ...]:
    return t.CampaignEvent.campaign_id == campaign, t.CampaignEvent.detail.has_key(AFTER)


def _withdraw(session: Session, tenant: str, row: t.Campaign, spec: Campaign, model: str, tasks: list[UUID]) -> int:
    """The answers of *model* to these tasks count no more, and people are asked; how many that were."""
    mine: dict[str, Any] = {"tasks": tasks, "labeler": identity(tenant, "labeler", model), "source": SOURCE}
    session.execute(_ANSWERED, mine)
    withdrawn = list(session.scalars(_WITHDRAWN, mine))
    gone = session.execute(_UNDECIDED, {"tasks": withdrawn, "adjudicated": ADJUDICATED}).rowcount  # type: ignore[attr-defined]
    session.execute(_REOPENED, {"tasks": withdrawn, "labels": spec.overlap.labels, "skips": spec.skips})
    session.execute(update(t.Campaign).where(t.Campaign.id == row.id).values(decided=t.Campaign.decided - gone))
    return len(withdrawn)
