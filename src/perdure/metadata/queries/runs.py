"""Runs, for people: a list, and one run with everything that is known of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, cast, or_, select
from sqlalchemy.orm import Session

from perdure.errors import InvalidInput, NotFound
from perdure.messages.common import Json
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.queries.steps import StepDetail, load_steps
from perdure.metadata.repository import records
from perdure.metadata.views import release_history

Row = TypeVar("Row", bound=t.Base)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One line about a run. ``step`` is the one that runs, or ran last; ``waiting_for`` the part that it waits for."""

    id: UUID
    workflow_id: str
    pipeline: str
    pipeline_version: int
    state: RunState
    requested_by: str
    started_at: datetime
    finished_at: datetime | None
    step: StepKind | None
    detail: Json
    waiting_for: str | None
    waiting_since: datetime | None
    error: Json | None


@dataclass(frozen=True, kw_only=True)
class PromotionDetail:
    """Where a promotion stands. ``required`` is 0 where nobody is asked; ``stages`` are those of its rollout that have begun."""

    id: UUID
    state: str
    reason: str
    evidence_sha256: str
    required: int
    approval: str | None
    deadline: datetime | None
    votes: list[Json]
    stages: list[Json] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RoundDetail:
    """What one round came to, as far as it is. Of its rows people labeled ``labeled`` in this or an earlier run; ``pool`` have no label."""

    round: int
    rows: int | None
    test_rows: int | None
    labeled: int
    pool: int
    version: int | None
    metrics: dict[str, float]
    verdicts: list[Json]


@dataclass(frozen=True, kw_only=True)
class RunDetail:
    """Everything about a run. ``error`` has ``type``, ``message``, ``field`` and ``remedy``; model, metrics and verdicts are the newest."""

    run: RunSummary
    request: Json
    spec: Json
    pipeline_sha256: str
    git_commit: str | None
    code_sha256: str | None
    steps: list[StepDetail]
    model: str
    version: int | None
    predictor_sha256: str | None
    metrics: dict[str, float]
    verdicts: list[Json]
    promotion: PromotionDetail | None
    release: Json | None
    commands: list[Json] = field(default_factory=list)
    rounds: list[RoundDetail] = field(default_factory=list)
    scores_to: str | None = None  # of a batch inference: the data set of its scores


def list_runs(
    db: Database, *, pipeline: str | None = None, state: str | None = None, batches: bool = True, limit: int = 50
) -> list[RunSummary]:
    """Runs, the newest first, without those that only score where not *batches*.

    *state* is a `RunState` or ``live``. Raises InvalidInput for another.
    """
    query = _summaries(db).order_by(t.Run.started_at.desc(), t.Run.id).limit(limit)
    if not batches:
        query = query.where(t.Run.id.not_in(select(t.BatchInference.run_id)))
    if pipeline is not None:
        query = query.where(t.PipelineVersion.name == pipeline)
    if state is not None:
        query = query.where(t.Run.state.in_(_states(state)))
    with db.transaction() as session:
        return [_summary(*row) for row in session.execute(query)]


def show_run(db: Database, reference: str) -> RunDetail:
    """The run with this id or workflow id, or the only one whose id or workflow id starts with it; ``run/`` may be left out.

    Raises NotFound naming the newest runs, InvalidInput where several fit.
    """
    with db.transaction() as session:
        run, pipeline, step = _resolve(session, db, reference)
        code = session.get(t.Artifact, pipeline.code_id) if pipeline.code_id else None
        steps = load_steps(session, run.id)
        newest = {step.step: step for step in steps}  # of the last round
        batch = session.get(t.BatchInference, run.id)
        version = (
            session.get(t.ModelVersion, batch.model_version_id)
            if batch
            else _made(session, newest.get(StepKind.TRAIN), t.ModelVersion, "model_version")
        )
        evaluation = _made(session, newest.get(StepKind.EVALUATE), t.Evaluation, "evaluation")
        predictor = session.get(t.Artifact, version.predictor_id) if version else None
        promote = newest.get(StepKind.PROMOTE)
        return RunDetail(
            run=_summary(run, pipeline, step),
            request=run.request,
            spec=run.spec,
            pipeline_sha256=pipeline.sha256,
            git_commit=pipeline.git_commit,
            code_sha256=code.sha256 if code else None,
            steps=steps,
            model=version.model if version else str(run.spec.get("model") or pipeline.name),
            version=version.number if version else None,
            predictor_sha256=predictor.sha256 if predictor else None,
            metrics=evaluation.metrics if evaluation else {},
            verdicts=[asdict(verdict) for verdict in records.load_evaluation(session, evaluation.id).verdicts] if evaluation else [],
            promotion=_promotion(session, promote.id) if promote else None,
            release=_release(session, version.id) if version and not batch else None,
            commands=_commands(session, [run.id, *([promote.id] if promote else [])]),
            rounds=[] if batch else [_round(session, number, steps) for number in sorted({step.round for step in steps})],
            scores_to=batch.dataset if batch else None,
        )


def _states(state: str) -> list[RunState]:
    if state == "live":
        return [known for known in RunState if known.is_live]
    try:
        return [RunState(state)]
    except ValueError as err:
        raise InvalidInput(f"{state!r} is no state of a run", field="state", remedy=f"one of live, {', '.join(RunState)}") from err


def _summaries(db: Database) -> Select[t.Run, t.PipelineVersion, t.StepRun]:
    """Runs with their pipeline, and the step that runs or ran last (None before the first)."""
    last = (
        select(t.StepRun.id)
        .where(t.StepRun.run_id == t.Run.id)
        .order_by((t.StepRun.state == t.StepState.RUNNING).desc(), t.StepRun.started_at.desc())
        .limit(1)
        .correlate(t.Run)
        .scalar_subquery()
    )
    return (
        select(t.Run, t.PipelineVersion, t.StepRun)
        .join(t.PipelineVersion, t.PipelineVersion.id == t.Run.pipeline_version_id)
        .outerjoin(t.StepRun, t.StepRun.id == last)
        .where(t.Run.tenant == db.tenant)
    )


def _summary(run: t.Run, pipeline: t.PipelineVersion, step: t.StepRun | None) -> RunSummary:
    return RunSummary(
        id=run.id,
        workflow_id=run.workflow_id,
        pipeline=pipeline.name,
        pipeline_version=pipeline.number,
        state=run.state,
        requested_by=run.requested_by,
        started_at=run.started_at,
        finished_at=run.finished_at,
        step=step.step if step else None,
        detail=step.detail if step else {},
        waiting_for=step.waiting_for if step else None,
        waiting_since=step.waiting_since if step else None,
        error=run.error,
    )


def _resolve(session: Session, db: Database, reference: str) -> tuple[t.Run, t.PipelineVersion, t.StepRun | None]:
    def found(condition: ColumnElement[bool]) -> list[Any]:
        return list(session.execute(_summaries(db).where(condition).order_by(t.Run.started_at.desc()).limit(10)))

    names = (reference, f"run/{reference}")
    if not reference:
        raise InvalidInput("name a run", field="run", remedy="`perdure runs` lists them")
    exact = found(or_(t.Run.workflow_id.in_(names), cast(t.Run.id, Text) == reference.lower()))
    fits = exact or found(
        or_(
            *(t.Run.workflow_id.startswith(name, autoescape=True) for name in names),
            t.Run.workflow_id.endswith(f"/{reference}", autoescape=True),  # the key alone
            cast(t.Run.id, Text).startswith(reference.lower(), autoescape=True),
        )
    )
    if not fits:
        newest = session.scalars(
            select(t.Run.workflow_id).where(t.Run.tenant == db.tenant).order_by(t.Run.started_at.desc()).limit(5)
        ).all()
        remedy = f"the newest are {', '.join(newest)}" if newest else "no run was started yet: `perdure run PIPELINE`"
        raise NotFound(f"there is no run {reference!r}", field="run", remedy=remedy)
    if len(fits) > 1:
        several = ", ".join(row[0].workflow_id for row in fits)
        raise InvalidInput(f"several runs start with {reference!r}: {several}", field="run", remedy="give more of it")
    return fits[0][0], fits[0][1], fits[0][2]


def _round(session: Session, number: int, steps: list[StepDetail]) -> RoundDetail:
    """What the steps of round *number* made."""
    made = {step.step: step for step in steps if step.round == number}
    evaluation = _made(session, made.get(StepKind.EVALUATE), t.Evaluation, "evaluation")
    prepared, trained = (made[kind].result or {} if kind in made else {} for kind in (StepKind.PREPARE, StepKind.TRAIN))
    rows = prepared.get("rows", {})
    return RoundDetail(
        round=number,
        rows=rows.get("train"),
        test_rows=rows.get("test"),
        labeled=rows.get("labeled", 0),
        pool=rows.get("pool", 0),
        version=trained.get("version"),
        metrics=evaluation.metrics if evaluation else {},
        verdicts=[asdict(verdict) for verdict in records.load_evaluation(session, evaluation.id).verdicts] if evaluation else [],
    )


def _made(session: Session, step: StepDetail | None, table: type[Row], name: str) -> Row | None:
    """The row that a step made, or found in the cache."""
    key = (step.result or {}).get(name) if step else None
    return session.get(table, UUID(key)) if key else None


def _promotion(session: Session, key: UUID) -> PromotionDetail | None:
    promotion = session.get(t.Promotion, key)
    if promotion is None:
        return None
    approval = session.scalar(select(t.Approval).where(t.Approval.promotion_id == key))
    of_approval = select(t.ApprovalVote).join(t.Approval, t.Approval.id == t.ApprovalVote.approval_id).where(t.Approval.promotion_id == key)
    votes = session.scalars(of_approval.order_by(t.ApprovalVote.at, t.ApprovalVote.actor))
    stages = session.scalars(select(t.Traffic).where(t.Traffic.promotion_id == key).order_by(t.Traffic.since))
    return PromotionDetail(
        id=key,
        state=promotion.state,
        reason=promotion.reason,
        evidence_sha256=session.get_one(t.Evaluation, promotion.evaluation_id).evidence_sha256,
        required=approval.required if approval else 0,
        approval=approval.status if approval else None,
        deadline=approval.deadline if approval else None,
        votes=[{"actor": v.actor, "decision": v.decision, "reason": v.reason, "channel": v.channel, "at": v.at} for v in votes],
        stages=[{"kind": s.kind, "share": s.share, "since": s.since, "until": s.until, "outcome": s.outcome} for s in stages],
    )


def _release(session: Session, version: UUID) -> Json | None:
    """The newest release of the version: since when, by whom, and until when it served."""
    query = select(release_history).where(release_history.c.model_version_id == version).order_by(release_history.c.since.desc()).limit(1)
    row = session.execute(query).mappings().one_or_none()
    return {name: row[name] for name in ("version", "since", "until", "actor", "reason", "votes")} if row else None


def _commands(session: Session, objects: list[UUID]) -> list[Json]:
    query = select(t.Audit).where(t.Audit.object_id.in_(objects)).order_by(t.Audit.id)
    return [{"at": row.at, "actor": row.actor, "action": row.action, "reason": row.reason} for row in session.scalars(query)]
