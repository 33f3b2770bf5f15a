"""The steps of a run, for people: progress, submissions, partitions, checkpoints, metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from perdure.messages.common import Json
from perdure.messages.pipeline import StepKind
from perdure.metadata import tables as t


@dataclass(frozen=True, kw_only=True)
class StepDetail:
    """One step. ``reason`` is that of the cache; ``partitions`` counts by phase; ``metrics`` are those of ``metrics_round``.

    ``planned`` is how many partitions the plan has, None before the plan. ``campaign`` is the one in which the step asks people, with its
    ``name``, how many tasks are ``decided`` of how many in ``total``, and its ``deadline``; None before it has opened.
    """

    id: UUID
    step: StepKind
    round: int
    state: str
    reason: str
    detail: Json
    waiting_for: str | None
    waiting_since: datetime | None
    started_at: datetime
    reported_at: datetime | None
    finished_at: datetime | None
    error: Json | None
    result: Json | None
    submissions: list[Json]
    partitions: dict[str, int]
    planned: int | None
    checkpoints: list[Json]
    metrics: dict[str, float]
    metrics_round: int | None
    campaign: Json | None = None


def load_steps(session: Session, run_id: UUID) -> list[StepDetail]:
    """The steps of a run in the order in which they began, each with what belongs to it."""
    rows = session.scalars(select(t.StepRun).where(t.StepRun.run_id == run_id).order_by(t.StepRun.round, t.StepRun.started_at)).all()
    keys = [row.id for row in rows]
    submissions, checkpoints = _submissions(session, keys), _checkpoints(session, keys)
    partitions, metrics = _partitions(session, keys), _metrics(session, keys)
    planned = _planned(session, keys)
    campaigns = _campaigns(session, rows)
    return [
        StepDetail(
            id=row.id,
            step=row.step,
            round=row.round,
            state=row.state,
            reason=row.reason,
            detail=row.detail,
            waiting_for=row.waiting_for,
            waiting_since=row.waiting_since,
            started_at=row.started_at,
            reported_at=row.reported_at,
            finished_at=row.finished_at,
            error=row.error,
            result=row.result,
            submissions=submissions[row.id],
            partitions=partitions[row.id],
            planned=planned.get(row.id),
            checkpoints=checkpoints[row.id],
            metrics=metrics[row.id][1],
            metrics_round=metrics[row.id][0],
            campaign=campaigns.get(row.id),
        )
        for row in rows
    ]


def _submissions(session: Session, keys: list[UUID]) -> dict[UUID, list[Json]]:
    found: dict[UUID, list[Json]] = defaultdict(list)
    query = select(t.Submission).where(t.Submission.step_run_id.in_(keys)).order_by(t.Submission.started_at, t.Submission.number)
    for row in session.scalars(query):
        shown = ("name", "number", "job_id", "state", "exit_code", "message", "round", "started_at", "finished_at")
        found[row.step_run_id].append({name: getattr(row, name) for name in shown})
    return found


def _checkpoints(session: Session, keys: list[UUID]) -> dict[UUID, list[Json]]:
    found: dict[UUID, list[Json]] = defaultdict(list)
    query = select(t.Checkpoint).where(t.Checkpoint.step_run_id.in_(keys)).order_by(t.Checkpoint.epoch, t.Checkpoint.round)
    for row in session.scalars(query):
        found[row.step_run_id].append({"epoch": row.epoch, "round": row.round, "metrics": row.metrics, "recorded_at": row.recorded_at})
    return found


def _partitions(session: Session, keys: list[UUID]) -> dict[UUID, dict[str, int]]:
    found: dict[UUID, dict[str, int]] = defaultdict(dict)
    query = select(t.Partition.step_run_id, t.Partition.phase, func.count()).where(t.Partition.step_run_id.in_(keys))
    for step_run, phase, count in session.execute(query.group_by(t.Partition.step_run_id, t.Partition.phase)):
        found[step_run][phase] = count
    return found


def _planned(session: Session, keys: list[UUID]) -> dict[UUID, int]:
    count = func.jsonb_array_length(t.Partition.result["partitions"])
    query = select(t.Partition.step_run_id, count).where(t.Partition.step_run_id.in_(keys), t.Partition.phase == "plan")
    return {row[0]: row[1] for row in session.execute(query)}


def _campaigns(session: Session, rows: Sequence[t.StepRun]) -> dict[UUID, Json]:
    named = {row.id: row.detail["campaign"] for row in rows if row.detail.get("campaign")}
    c = t.Campaign
    query = select(c.name, c.decided, c.total, c.deadline).where(c.name.in_(named.values()), c.tenant.in_({row.tenant for row in rows}))
    found = {row.name: dict(row._mapping) for row in (session.execute(query) if named else ())}
    return {step: found[name] for step, name in named.items() if name in found}


def _metrics(session: Session, keys: list[UUID]) -> dict[UUID, tuple[int | None, dict[str, float]]]:
    """The figures of the last round of each step."""
    found: dict[UUID, tuple[int | None, dict[str, float]]] = defaultdict(lambda: (None, {}))
    last = (
        select(t.Metric.step_run_id, func.max(t.Metric.round).label("round"))
        .where(t.Metric.step_run_id.in_(keys))
        .group_by(t.Metric.step_run_id)
        .subquery()
    )
    query = select(t.Metric).join(last, (last.c.step_run_id == t.Metric.step_run_id) & (last.c.round == t.Metric.round))
    for row in session.scalars(query.order_by(t.Metric.name)):
        found[row.step_run_id] = (row.round, {**found[row.step_run_id][1], row.name: row.value})
    return found
