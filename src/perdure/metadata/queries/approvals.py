"""What people are asked to decide: open approvals with their evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select

from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import records


@dataclass(frozen=True, kw_only=True)
class OpenApproval:
    """A model version that waits for votes, and what they are bound to."""

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
    metrics: dict[str, float]
    gates: list[Json]
    votes: list[Json]


def open_approvals(db: Database, limit: int = 100) -> list[OpenApproval]:
    """Open approvals, the oldest first."""
    query = (
        select(t.Approval, t.Promotion, t.ModelVersion.number, t.Run.workflow_id)
        .join(t.Promotion, t.Promotion.id == t.Approval.promotion_id)
        .join(t.ModelVersion, t.ModelVersion.id == t.Promotion.model_version_id)
        .join(t.StepRun, t.StepRun.id == t.Promotion.id)  # the run that asks, which may have found the version in the cache
        .join(t.Run, t.Run.id == t.StepRun.run_id)
        .where(t.Approval.tenant == db.tenant, t.Approval.status == t.ApprovalStatus.OPEN)
        .order_by(t.Approval.opened_at, t.Approval.id)
        .limit(limit)
    )
    with db.transaction() as session:
        found = []
        for approval, promotion, number, run in session.execute(query):
            evidence = records.load_evaluation(session, promotion.evaluation_id)
            votes = session.scalars(select(t.ApprovalVote).where(t.ApprovalVote.approval_id == approval.id).order_by(t.ApprovalVote.at))
            found.append(
                OpenApproval(
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
                        {
                            "actor": each.actor,
                            "decision": each.decision,
                            "reason": each.reason,
                            "channel": each.channel,
                        }
                        for each in votes
                    ],
                )
            )
        return found
