"""A model's answers: given where it is sure, and withdrawn (`changes`) where people have disagreed with it too often."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from perdure.labeling.assistance import SOURCE, failing, guess, labeler_of
from perdure.labeling.ports import Incoming
from perdure.labeling.spec import Campaign, load
from perdure.messages.common import Json
from perdure.messages.labeling import AnnotationStatus, Assist, CampaignState, TaskState
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository.answers import AnswerRows, share_campaign
from perdure.metadata.repository.changes import AFTER, BLOCKED

_AUDITED = text(
    """
    select task.prediction->'version' as version, count(*) as audited,
           count(*) filter (where decision.label = task.prediction->'label') as agreed
      from task join decision on decision.task_id = task.id
     where task.campaign_id = :campaign and task.state = 'decided' and task.assist = 'audit' group by 1
    """
)


def assist_campaign(database: Database, tenant: str, campaign: UUID, limit: int) -> bool:
    """Begin to withdraw the answers of models that failed their audit, give those that are due; whether there may be more to give."""
    with database.transaction() as session:
        share_campaign(session, campaign)
        row = session.get_one(t.Campaign, campaign)
        spec = load(row.spec)
        if spec.model is None or row.state is CampaignState.CLOSED:
            return False
        failed = failing_models(session, campaign, spec)
        events = [_failed(tenant, campaign, labeler, *counts) for labeler, counts in failed.items()]
        if events:
            session.execute(insert(t.CampaignEvent).on_conflict_do_nothing(), events)
    return _answer(database, tenant, campaign, spec, limit)


def failing_models(session: Session, campaign: UUID, spec: Campaign) -> dict[str, tuple[int, int]]:
    """Models that people disagree with too often and whose answers still count: audits that agreed, of how many."""
    if spec.model is None:
        return {}
    agreed, audited = Counter[str](), Counter[str]()
    for row in session.execute(_AUDITED, {"campaign": campaign}):  # 3 and "3" are one version
        agreed[labeler_of(row.version)] += row.agreed
        audited[labeler_of(row.version)] += row.audited
    failed = {labeler: (agreed[labeler], audited[labeler]) for labeler in audited if failing(agreed[labeler], audited[labeler], spec.model)}
    return {labeler: counts for labeler, counts in failed.items() if labeler not in _blocked(session, campaign)} if failed else {}


def _failed(tenant: str, campaign: UUID, labeler: str, agreed: int, audited: int) -> Json:
    """The event that begins the withdrawal. Once: its key is the model's."""
    return {
        "tenant": tenant,
        "campaign_id": campaign,
        "key": f"{BLOCKED}/{labeler}",
        "kind": BLOCKED,
        "actor": labeler,
        "detail": {"reason": f"people agreed with {agreed} of {audited} audited answers", "withdrawn": 0, AFTER: ""},
    }


def _blocked(session: Session, campaign: UUID) -> set[str]:
    event = t.CampaignEvent
    return set(session.scalars(select(event.actor).where(event.campaign_id == campaign, event.kind == BLOCKED)))


def _answer(database: Database, tenant: str, campaign: UUID, spec: Campaign, limit: int) -> bool:
    """One batch of answers, by the same transaction as those of people. What a model may not or cannot answer is left to people."""
    task, answers = t.Task, AnswerRows(database)
    with database.transaction() as session:
        share_campaign(session, campaign)
        due = select(task.key, task.prediction).where(
            task.campaign_id == campaign, task.state == TaskState.OPEN, task.assist == Assist.ACCEPT
        )
        # held before it is read who is blocked: what is given here, a withdrawal that begins now comes to
        found = session.execute(due.order_by(task.id).limit(limit).with_for_update(of=task)).all()
        if not found:
            return False
        blocked, now = _blocked(session, campaign), datetime.now(UTC)
        guesses = {row.key: said for row in found if (said := guess(row.prediction)) and said.labeler not in blocked}
        for known in answers.known(session, {said.labeler for said in guesses.values()}).values():
            known.model = True
        session.flush()
        results = answers.accept_within(
            session,
            campaign,
            [
                Incoming(task=key, labeler=said.labeler, source=SOURCE, source_key=key, event_time=now, value=said.label)
                for key, said in guesses.items()
            ],
        )
        taken = {result.task for result in results if result.status is AnnotationStatus.VALID and not result.duplicate}
        left = [row.key for row in found if row.key not in taken]
        mine = (task.campaign_id == campaign, task.key.in_(left), task.state == TaskState.OPEN)
        session.execute(select(task.id).where(*mine).order_by(task.id).with_for_update())
        session.execute(update(task).where(*mine).values(assist=None, overlap=func.greatest(task.overlap, spec.overlap.labels)))
    return len(found) == limit
