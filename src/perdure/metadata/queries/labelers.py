"""Who answers, in all campaigns: how they stand, and how often they were right where the answer is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select

from perdure.errors import InvalidInput
from perdure.messages.labeling import LabelerStatus
from perdure.metadata import tables as t
from perdure.metadata.database import Database

_FIRST = (LabelerStatus.BLOCKED, LabelerStatus.WARNED)


@dataclass(frozen=True, kw_only=True)
class LabelerSummary:
    """A person or model who answers. ``seen`` counts gold tasks since the start, or since a block was lifted; none: no ``accuracy``."""

    name: str
    status: LabelerStatus
    since: datetime
    answers: int
    right: int
    seen: int
    accuracy: float | None


def list_labelers(db: Database, *, status: str | None = None, limit: int = 100) -> list[LabelerSummary]:
    """Labelers: the blocked and the warned first, the newest change first. Raises InvalidInput for an unknown status."""
    if status is not None and status not in [each.value for each in LabelerStatus]:
        raise InvalidInput(f"{status!r} is no status", field="status", remedy=f"choose from {', '.join(LabelerStatus)}")
    who, a = t.Labeler, t.Annotation
    query = select(who).where(who.tenant == db.tenant)
    if status is not None:
        query = query.where(who.status == LabelerStatus(status))
    rank = case({each.value: place for place, each in enumerate(_FIRST)}, value=who.status, else_=len(_FIRST))
    with db.transaction() as session:
        found = session.scalars(query.order_by(rank, who.status_at.desc(), who.principal).limit(limit)).all()
        counts = select(a.labeler_id, func.count()).where(a.labeler_id.in_([row.id for row in found])).group_by(a.labeler_id)
        answers = {row[0]: row[1] for row in session.execute(counts)}
        return [_summary(row, answers.get(row.id, 0)) for row in found]


def _summary(row: t.Labeler, answers: int) -> LabelerSummary:
    seen = row.gold_right + row.gold_wrong
    return LabelerSummary(
        name=row.principal,
        status=row.status,
        since=row.status_at,
        answers=answers,
        right=row.gold_right,
        seen=seen,
        accuracy=row.gold_right / seen if seen else None,
    )
