"""What serves: the transitions of releases and traffic that promotions, rollouts and rollbacks share. All lock the model first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnExpressionArgument, func, select, update
from sqlalchemy.orm import Session

from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository import experiments
from perdure.metadata.repository.answers import poke

PASSED = "passed"
"""The outcome of a stage that was not cut short; any other says why it was."""


def now(session: Session) -> datetime:
    """The database's clock: one for all workers."""
    at: datetime = session.scalars(select(func.clock_timestamp())).one()
    return at


def changed(session: Session, model: str) -> None:
    """Have the serving processes told, once this transaction has committed, that another version of *model* answers, or takes part."""
    session.execute(select(func.pg_notify("perdure_traffic", model)))


def end(session: Session, rows: Sequence[t.Traffic], outcome: str, at: datetime) -> None:
    """End these open stages, with their experiments; not before they began, whatever the clock says."""
    for row in rows:
        until = max(at, row.since + timedelta(microseconds=1))
        session.execute(update(t.Traffic).where(t.Traffic.id == row.id).values(until=until, outcome=plain(outcome)))
        experiments.stop(session, [row.id], "its stage ended before a look decided" if outcome == PASSED else outcome, until)


def withdraw(session: Session, outcome: str, *where: ColumnExpressionArgument[bool]) -> Sequence[t.Traffic]:
    """End the open stages that fulfil *where*; serving processes, and the workflows behind them, look again. Those that were ended."""
    query = select(t.Traffic).where(t.Traffic.until.is_(None), *where).order_by(t.Traffic.id).with_for_update(key_share=True)
    rows = session.scalars(query.execution_options(populate_existing=True)).all()
    if rows:
        end(session, rows, outcome, now(session))
    for row in rows:
        changed(session, row.model)
        number = session.scalars(select(t.ModelVersion.number).where(t.ModelVersion.id == row.model_version_id)).one()
        poke(session, row.tenant, f"promote/{row.model}/{number}")
    return rows


def other_champion(session: Session, tenant: str, promotion: t.Promotion) -> str | None:
    """What serves now, in words, if it is not what the promotion's version was compared with."""
    compared = session.scalars(select(t.Evaluation.champion_version_id).where(t.Evaluation.id == promotion.evaluation_id)).one()
    serving = session.execute(
        select(t.Release.model_version_id, t.ModelVersion.number)
        .join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
        .where(t.Release.tenant == tenant, t.Release.model == promotion.model, t.Release.until.is_(None))
    ).one_or_none()
    if (serving.model_version_id if serving else None) == compared:
        return None
    return f"version {serving.number} of {promotion.model!r}" if serving else f"no version of {promotion.model!r}"
