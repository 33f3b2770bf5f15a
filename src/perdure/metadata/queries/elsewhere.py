"""Campaigns in Label Studio, for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select

from perdure.metadata import tables as t
from perdure.metadata.database import Database


@dataclass(frozen=True, kw_only=True)
class ElsewhereDetail:
    """How a campaign stands there. ``refused`` tasks cannot be shown; ``problem`` is why it could not be asked since ``asked_at``."""

    address: str
    project: int | None
    hook: str
    sent: int
    refused: int
    asked_at: datetime | None
    problem: str | None


def campaign_elsewhere(db: Database, campaign: UUID) -> ElsewhereDetail | None:
    """None for a campaign that is not shown there."""
    p, ref = t.ExternalProject, t.ExternalRef
    counted = select(func.count(ref.external_id).label("sent"), func.count(ref.problem).label("refused")).where(ref.campaign_id == campaign)
    with db.transaction() as session:
        row = session.scalars(select(p).where(p.campaign_id == campaign, p.tenant == db.tenant)).one_or_none()
        if row is None:
            return None
        tasks = session.execute(counted).one()
        return ElsewhereDetail(
            address=row.address,
            project=row.project,
            hook=row.hook_id,
            sent=tasks.sent,
            refused=tasks.refused,
            asked_at=row.asked_at,
            problem=row.sending_problem or row.reading_problem,
        )
