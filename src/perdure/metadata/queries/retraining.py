"""Why a model is trained again, or not: decisions with their reasons, open episodes, and what waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, select

from perdure.errors import NotFound
from perdure.messages.common import Json
from perdure.messages.retraining import DriftKind, EpisodeState, Outcome, TriggerKind
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository.situations import SNOOZE


@dataclass(frozen=True, kw_only=True)
class DecisionDetail:
    """One decision, with what it started and what came of that; ``events`` are the drift events that it answered."""

    id: UUID
    at: datetime
    outcome: Outcome
    reason: str
    detail: Json
    policy: int
    actor: str
    events: int
    workflow_id: str | None = None
    result: str | None = None
    helped: bool | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeDetail:
    """An episode that is open, or that has ended."""

    id: UUID
    monitor: str
    kind: DriftKind
    state: EpisodeState
    hits: int
    misses: int
    opened_at: datetime
    last_window_end: datetime | None = None
    closed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A trigger that no decision has answered yet."""

    kind: TriggerKind
    text: str
    at: datetime
    actor: str


@dataclass(frozen=True, kw_only=True)
class Why:
    """Everything about one model. ``running`` is a run that a decision started and that goes on; ``undecided`` counts drift events."""

    model: str
    pipeline: str | None
    policy: Json
    decisions: list[DecisionDetail]
    episodes: list[EpisodeDetail]
    waiting: list[Waiting]
    undecided: int
    running: str | None = None
    snoozed_until: datetime | None = None


def why(db: Database, model: str, *, limit: int = 20, closed: bool = False) -> Why:
    """The newest decisions first; open episodes, with *closed* also ended ones. Raises NotFound where nothing was ever decided or said."""
    d, e, r, p, v = t.RetrainDecision, t.DriftEpisode, t.RetrainTrigger, t.RetrainPolicy, t.DriftEvent
    with db.transaction() as session:
        policy = session.scalars(select(p).where(p.tenant == db.tenant, p.model == model).order_by(p.number.desc()).limit(1)).one_or_none()
        undecided = select(func.count()).select_from(v).where(v.tenant == db.tenant, v.model == model, v.decision_id.is_(None))
        count = session.scalar(undecided) or 0
        if policy is None and not count and not session.scalar(select(r.id).where(r.tenant == db.tenant, r.model == model).limit(1)):
            raise NotFound(
                f"nothing was ever said or decided about training {model!r} again",
                field="model",
                remedy="give its pipeline triggers or a monitor; `perdure models` tells which models there are",
            )
        mine = (d.tenant == db.tenant, d.model == model)
        events = select(func.count()).select_from(v).where(v.decision_id == d.id).scalar_subquery()
        decisions = session.execute(
            select(d, p.number, events).join(p, p.id == d.policy_id).where(*mine).order_by(d.created_at.desc(), d.key).limit(limit)
        ).all()
        open_ones = select(e).where(e.tenant == db.tenant, e.model == model)
        if not closed:
            open_ones = open_ones.where(e.closed_at.is_(None))
        episodes = session.scalars(open_ones.order_by(e.opened_at.desc(), e.id).limit(limit)).all()
        triggers = session.scalars(select(r).where(r.tenant == db.tenant, r.model == model, r.decision_id.is_(None)).order_by(r.at)).all()
        running = session.scalar(select(d.workflow_id).where(*mine, d.outcome != Outcome.NOTHING, d.finished_at.is_(None)).limit(1))
        snoozed = session.scalar(select(d.detail).where(*mine, d.key.startswith(SNOOZE)).order_by(d.created_at.desc()).limit(1))
    return Why(
        model=model,
        pipeline=policy.pipeline if policy else None,
        policy=policy.spec if policy else {},
        decisions=[_decision(row, number, answered) for row, number, answered in decisions],
        episodes=[_episode(row) for row in episodes],
        waiting=[Waiting(kind=row.kind, text=str(row.detail.get("text", "")), at=row.at, actor=row.actor) for row in triggers],
        undecided=count,
        running=running,
        snoozed_until=datetime.fromisoformat(snoozed["until"]) if snoozed and snoozed.get("until") else None,
    )


def ever_scheduled(db: Database, pipeline: str) -> list[str]:
    """The models of all versions of *pipeline* that wanted schedules."""
    v = t.PipelineVersion
    wants = or_(v.spec["monitor"].astext.is_not(None), v.spec["triggers"].astext.not_in(["[]"]))
    model = func.coalesce(v.spec["model"].astext, v.name)
    with db.transaction() as session:
        return list(session.scalars(select(model).distinct().where(v.tenant == db.tenant, v.name == pipeline, wants).order_by(model)))


def _decision(row: t.RetrainDecision, policy: int, events: int) -> DecisionDetail:
    return DecisionDetail(
        id=row.id,
        at=row.created_at,
        outcome=row.outcome,
        reason=row.reason,
        detail=row.detail,
        policy=policy,
        actor=row.actor,
        events=events,
        workflow_id=row.workflow_id,
        result=row.result,
        helped=row.helped,
        finished_at=row.finished_at,
    )


def _episode(row: t.DriftEpisode) -> EpisodeDetail:
    return EpisodeDetail(
        id=row.id,
        monitor=row.monitor,
        kind=row.kind,
        state=row.state,
        hits=row.hits,
        misses=row.misses,
        opened_at=row.opened_at,
        last_window_end=row.last_window_end,
        closed_at=row.closed_at,
    )
