"""What users said of predictions, for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from perdure.metadata import tables as t
from perdure.metadata.database import Database


@dataclass(frozen=True, kw_only=True)
class Word:
    """What one person said of one prediction, and the last outcome of it (None: not known)."""

    at: datetime
    prediction_id: str
    model: str
    version: int
    principal: str
    verdict: t.Verdict
    comment: str
    outcome: Any


def list_feedback(database: Database, *, model: str | None = None, verdict: str | None = None, limit: int = 100) -> list[Word]:
    """Feedback, the newest first."""
    f, o = t.Feedback, t.Outcome
    last = (
        select(o.value)
        .where(o.prediction_id == f.prediction_id, o.tenant == f.tenant)
        .order_by(o.observed_at.desc(), o.sequence.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = select(f, last.label("outcome")).where(f.tenant == database.tenant).order_by(f.created_at.desc(), f.id).limit(limit)
    if model is not None:
        query = query.where(f.model == model)
    if verdict is not None:
        query = query.where(f.verdict == verdict)
    with database.transaction() as session:
        return [
            Word(
                at=row.Feedback.created_at,
                prediction_id=row.Feedback.prediction_id,
                model=row.Feedback.model,
                version=row.Feedback.version,
                principal=row.Feedback.principal,
                verdict=row.Feedback.verdict,
                comment=row.Feedback.comment,
                outcome=row.outcome["value"] if row.outcome else None,
            )
            for row in session.execute(query)
        ]
