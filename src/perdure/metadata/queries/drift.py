"""What each monitor of a model said last, whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, true, tuple_

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
    """The last event of each monitor, by model and monitor. Raises NotFound where *model* has no version.

    It is asked for every few seconds, so it takes a step in the index for each monitor, and reads no other event.
    """
    e = t.DriftEvent
    mine = (e.tenant == database.tenant, *([e.model == model] if model is not None else []))
    first = select(e.model, e.monitor).where(*mine).order_by(e.model, e.monitor).limit(1).subquery()
    pair = select(first).cte("pair", recursive=True)
    after = tuple_(e.model, e.monitor) > tuple_(pair.c.model, pair.c.monitor)
    following = select(e.model, e.monitor).where(*mine, after).order_by(e.model, e.monitor).limit(1).lateral()
    pair = pair.union_all(select(following).select_from(pair.join(following, true())))
    of_pair = (*mine, e.model == pair.c.model, e.monitor == pair.c.monitor)
    columns = [getattr(e, name) for name in Said.__dataclass_fields__]
    last = select(*columns).where(*of_pair).order_by(e.received_at.desc(), e.id).limit(1).lateral()
    query = select(last).select_from(pair.join(last, true())).order_by(last.c.model, last.c.monitor)
    with database.transaction() as session:
        if model is not None:
            known = select(t.ModelVersion.id).where(t.ModelVersion.tenant == database.tenant, t.ModelVersion.model == model).limit(1)
            if session.scalar(known) is None:
                raise NotFound(f"no version of {model} exists", field="model", remedy="`perdure models` shows what exists")
        return [Said(**row._mapping) for row in session.execute(query)]
