"""What each monitor of a model said last, whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on

from perdure.errors import NotFound
from perdure.messages.common import Json
from perdure.messages.retraining import DriftKind
from perdure.metadata import tables as t
from perdure.metadata.database import Database


@dataclass(frozen=True, kw_only=True)
class Said:
    """The last event of one monitor. ``metrics`` are its tests, as it told them."""

    model: str
    version: int | None
    monitor: str
    kind: DriftKind
    drifted: bool
    severity: float
    n: int
    window_start: datetime | None
    window_end: datetime | None
    received_at: datetime
    report_uri: str | None
    metrics: list[Json]


def last_said(database: Database, model: str | None = None) -> list[Said]:
    """The last event of each monitor, by model and monitor. Raises NotFound where *model* has no version."""
    e = t.DriftEvent
    names = list(Said.__dataclass_fields__)
    query = select(*(getattr(e, name) for name in names)).where(e.tenant == database.tenant)
    query = query.ext(distinct_on(e.model, e.monitor)).order_by(e.model, e.monitor, e.received_at.desc(), e.id)
    with database.transaction() as session:
        if model is not None:
            known = select(t.ModelVersion.id).where(t.ModelVersion.tenant == database.tenant, t.ModelVersion.model == model).limit(1)
            if session.scalar(known) is None:
                raise NotFound(f"no version of {model} exists", field="model", remedy="`perdure models` shows what exists")
            query = query.where(e.model == model)
        return [Said(**row._mapping) for row in session.execute(query)]
