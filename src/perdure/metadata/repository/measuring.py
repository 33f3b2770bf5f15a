"""What may end a campaign before its tasks do, measured: labels and hours spent, and how much labelers agree.

Both read all answers, so a big campaign is measured seldom: such that it costs a twentieth of the time at most.

Who looks again and again stops too early by chance once: in 50 looks, while tasks grow a hundredfold, the lower end of a 95 % interval is
too high at some time in one campaign of five. Three standard errors below the estimate are it in one of forty.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from perdure.labeling.agreement import Level, Reliability
from perdure.labeling.assistance import SOURCE
from perdure.labeling.spec import Campaign, load
from perdure.messages.common import Json
from perdure.messages.labeling import CampaignState
from perdure.metadata import tables as t
from perdure.metadata.database import Database

SELDOM = 20  # times as long as it took, until it is measured again
CAREFUL = 3 / 1.96  # times as far below the estimate as the end of its 95 % interval

_SPENT = text(
    """
    select count(*) filter (where status = 'valid') as labels,
           coalesce(sum(least(greatest(duration_ms, 0), 3600000)), 0) / 3600000.0 as hours
      from annotation where campaign_id = :campaign and source <> :model
    """
)
_TWICE = text(
    """
    select array_agg(annotation.value order by annotation.id) as opinions
      from annotation join task on task.id = annotation.task_id and task.gold is null
     where annotation.campaign_id = :campaign and annotation.status = 'valid' and annotation.source <> :model
     group by annotation.task_id having count(*) > 1 order by annotation.task_id
    """
)


def measure(database: Database, campaign: UUID) -> timedelta | None:
    """Keep the figures with the campaign, if its specification asks for any; else, or if it was done just now, when it is time again."""
    with database.transaction() as session:
        row = session.execute(select(t.Campaign.spec, t.Campaign.state, t.Campaign.measured).where(t.Campaign.id == campaign)).one()
        spec = load(row.spec)
        if row.state is CampaignState.CLOSED or (spec.budget is None and spec.stop is None):
            return None
        wait = datetime.fromisoformat(row.measured["again"]) - datetime.now(UTC) if row.measured else timedelta(0)
        if wait > timedelta(0):
            return wait
        began = time.monotonic()
        found: Json = {**_spent(session, campaign, spec), **_agreed(session, campaign, spec)}
        found["again"] = (datetime.now(UTC) + timedelta(seconds=SELDOM * (time.monotonic() - began))).isoformat()
        session.execute(update(t.Campaign).where(t.Campaign.id == campaign).values(measured=found))
    return None


def ended(measured: dict[str, Any] | None, spec: Campaign) -> str | None:
    """Why the campaign is over by what was measured last."""
    budget, stop, found = spec.budget, spec.stop, measured or {}
    if budget is not None and budget.labels is not None and found.get("labels", 0) >= budget.labels:
        return f"the budget of {budget.labels} labels is spent"
    if budget is not None and budget.hours is not None and found.get("hours", 0) >= budget.hours:
        return f"the budget of {budget.hours:g} hours is spent"
    low = found.get("alpha", {}).get("low")
    if stop is not None and low is not None and low >= stop.alpha:
        return f"labelers agree: alpha is at least {low:.3f}"
    return None


def _spent(session: Session, campaign: UUID, spec: Campaign) -> Json:
    if spec.budget is None:
        return {}
    row = session.execute(_SPENT, {"campaign": campaign, "model": SOURCE}).one()
    return {"labels": row.labels, "hours": float(row.hours)}


def _agreed(session: Session, campaign: UUID, spec: Campaign) -> Json:
    if spec.stop is None:
        return {}
    gathered = Reliability(Level.NOMINAL if spec.choices else Level.INTERVAL)
    query = {"campaign": campaign, "model": SOURCE}
    for row in session.execute(_TWICE, query, execution_options={"stream_results": True, "yield_per": 2_000}):
        gathered.add(row.opinions)
    if gathered.units < spec.stop.least:
        return {"alpha": {"tasks": gathered.units}}
    found = gathered.agreement()
    if found.alpha is None or found.low is None or found.high is None:
        return {"alpha": {"tasks": found.units}}
    low, high = (found.alpha + CAREFUL * (end - found.alpha) for end in (found.low, found.high))
    return {"alpha": {"tasks": found.units, "value": found.alpha, "low": low, "high": min(1.0, high)}}
