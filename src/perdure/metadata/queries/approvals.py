"""What people are asked to decide, and what they decided: approvals with their evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session, aliased

from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import records


@dataclass(frozen=True, kw_only=True)
class ApprovalDetail:
    """A model version that people are asked about, beside the champion it was compared with, and the votes.

    Votes are bound to ``evidence_sha256``. ``outcome`` is that of the whole promotion.
    """

    id: UUID
    model: str
    version: int
    run: str
    requested_by: str
    required: int
    approvers: list[str]
    deadline: datetime
    opened_at: datetime
    evidence_sha256: str
    passed: bool
    metrics: dict[str, float]
    champion: int | None
    champion_metrics: dict[str, float | None]
    gates: list[Json]
    votes: list[Json]
    status: t.ApprovalStatus
    outcome: t.PromotionState
    reason: str
    closed_at: datetime | None


_Champion = aliased(t.ModelVersion)
_Found = Row[t.Approval, t.Promotion, int, str, int | None]


def open_approvals(db: Database, limit: int = 100) -> list[ApprovalDetail]:
    """Open approvals, the oldest first."""
    query = _approvals(db).where(t.Approval.status == t.ApprovalStatus.OPEN).order_by(t.Approval.opened_at, t.Approval.id)
    with db.transaction() as session:
        return [_detail(session, row) for row in session.execute(query.limit(limit))]


def decided_approvals(db: Database, limit: int = 20) -> list[ApprovalDetail]:
    """Approvals that take no votes any more, the newest first."""
    query = _approvals(db).where(t.Approval.status != t.ApprovalStatus.OPEN).order_by(t.Approval.opened_at.desc(), t.Approval.id)
    with db.transaction() as session:
        return [_detail(session, row) for row in session.execute(query.limit(limit))]


def _approvals(db: Database) -> Select[t.Approval, t.Promotion, int, str, int | None]:
    return (
        select(t.Approval, t.Promotion, t.ModelVersion.number, t.Run.workflow_id, _Champion.number)
        .join(t.Promotion, t.Promotion.id == t.Approval.promotion_id)
        .join(t.ModelVersion, t.ModelVersion.id == t.Promotion.model_version_id)
        .join(t.StepRun, t.StepRun.id == t.Promotion.id)  # the run that asks, which may have found the version in the cache
        .join(t.Run, t.Run.id == t.StepRun.run_id)
        .join(t.Evaluation, t.Evaluation.id == t.Promotion.evaluation_id)
        .outerjoin(_Champion, _Champion.id == t.Evaluation.champion_version_id)
        .where(t.Approval.tenant == db.tenant)
    )


def _detail(session: Session, row: _Found) -> ApprovalDetail:
    approval, promotion, number, run, champion = row
    evidence = records.load_evaluation(session, promotion.evaluation_id)
    votes = session.scalars(select(t.ApprovalVote).where(t.ApprovalVote.approval_id == approval.id).order_by(t.ApprovalVote.at))
    m = t.EvaluationMetric
    theirs = select(m.name, m.value).where(
        m.evaluation_id == evidence.id, m.subject == t.EvaluationSubject.CHAMPION, m.slice_column == "", m.slice_value == ""
    )
    return ApprovalDetail(
        id=approval.id,
        model=promotion.model,
        version=number,
        run=run,
        requested_by=promotion.requested_by,
        required=approval.required,
        approvers=approval.approvers,
        deadline=approval.deadline,
        opened_at=approval.opened_at,
        evidence_sha256=approval.evidence_sha256,
        metrics=evidence.metrics,
        gates=[asdict(verdict) for verdict in evidence.verdicts],
        votes=[
            {"actor": each.actor, "decision": each.decision, "reason": each.reason, "channel": each.channel, "at": each.at}
            for each in votes
        ],
        status=approval.status,
        passed=evidence.passed,
        champion=champion,
        champion_metrics={name: value for name, value in session.execute(theirs)},  # noqa: C416 (rows are no pairs to mypy)
        outcome=promotion.state,
        reason=promotion.reason,
        closed_at=promotion.closed_at,
    )
