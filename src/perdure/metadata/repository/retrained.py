"""What became of earlier decisions to train, and when a model was trained last, on which data and labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, literal, or_, select, update
from sqlalchemy.orm import Session

from perdure.messages.controller import StartRun
from perdure.messages.pipeline import RunRequest, RunState
from perdure.messages.retraining import EpisodeState, Outcome
from perdure.metadata import tables as t
from perdure.metadata.repository.messages import tell


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The newest version of a model: the data cut-off of its run, when that began, and when the version was made."""

    version: UUID
    cutoff: datetime
    started_at: datetime
    at: datetime


@dataclass
class Settled:
    """Actions that go on: the workflow of one, and those whose run is not open yet."""

    running: str | None = None
    starts: list[StartRun] = field(default_factory=list)


def trained(session: Session, tenant: str, model: str) -> Trained | None:
    """When *model* was trained last; None if never."""
    v, r = t.ModelVersion, t.Run
    query = select(v.id, v.created_at, r.started_at, r.spec["data"]["until"].astext.label("until")).join(r, r.id == v.run_id)
    found = session.execute(query.where(v.tenant == tenant, v.model == model).order_by(v.number.desc()).limit(1)).one_or_none()
    if found is None:
        return None
    cutoff = datetime.fromisoformat(found.until) if found.until else found.started_at
    return Trained(version=found.id, cutoff=cutoff, started_at=found.started_at, at=found.created_at)


def labels_since(session: Session, tenant: str, model: str, last: Trained | None, *, outcomes: int = 0) -> int:
    """Labels that people gave since the last training, in campaigns that bear the model's name; and up to so many *outcomes*.

    There may be millions of those: they are counted as far as somebody asks.
    """
    d, c, o = t.Decision, t.Campaign, t.Outcome
    of_model = or_(c.name == model, c.name.startswith(f"{model}-", autoescape=True))
    labels = select(func.count()).select_from(d).join(c, c.id == d.campaign_id).where(c.tenant == tenant, of_model)
    known = select(literal(1)).where(o.tenant == tenant, o.model == model)
    if last is not None:
        labels, known = labels.where(d.at > last.at), known.where(o.received_at > last.at)
    counted = session.scalar(labels) or 0
    if outcomes > 0:
        counted += session.scalar(select(func.count()).select_from(known.limit(outcomes).subquery())) or 0
    return counted


def settle(session: Session, tenant: str, model: str, owner: str | None) -> Settled:
    """Write down how the actions ended whose runs have ended. Who is responsible is told of those that did not help.

    A run without a row is to be started, however old the decision: everything may have been down since. That it was started and never
    came, the controller tells (`perdure.messages.controller.RunNotOpened`).
    """
    d, settled = t.RetrainDecision, Settled()
    query = select(d).where(d.tenant == tenant, d.model == model, d.outcome != Outcome.NOTHING, d.finished_at.is_(None))
    for row in session.scalars(query.order_by(d.created_at)).all():
        pipeline = session.get_one(t.RetrainPolicy, row.policy_id).pipeline
        run = session.execute(
            select(t.Run.id, t.Run.state, t.Run.finished_at).where(t.Run.tenant == tenant, t.Run.workflow_id == row.workflow_id)
        ).one_or_none()
        if run is None:
            settled.starts.append(start_run(row, pipeline))
            settled.running = settled.running or row.workflow_id
        elif run.finished_at is None:
            settled.running = settled.running or row.workflow_id
        else:
            row.result, row.helped = _result(session, run.id, run.state)
            row.finished_at = run.finished_at
            if row.helped is False:
                not_helped(session, row, owner)
    session.flush()
    return settled


def not_helped(session: Session, action: t.RetrainDecision, owner: str | None) -> None:
    """Tell *owner* that *action* did not help, and end the episodes that it answered: drift that goes on has to be confirmed anew.

    What their monitors said before its end is answered by it, though no look has come to it: else that would begin the next episode.
    """
    e, v = t.DriftEpisode, t.DriftEvent
    mine = (e.tenant == action.tenant, e.id.in_([UUID(each) for each in action.episodes]), e.closed_at.is_(None))
    ended = update(e).where(*mine).values(state=EpisodeState.CLOSED, closed_at=func.now()).returning(e.id, e.monitor)
    for id, monitor in session.execute(ended).all():
        said = (v.tenant == action.tenant, v.model == action.model, v.monitor == monitor, v.decision_id.is_(None))
        before = v.received_at <= action.finished_at
        session.execute(update(v).where(*said, before).values(decision_id=action.id, episode_id=id))
    told = {"model": action.model, "run": action.workflow_id, "result": action.result, "reason": action.reason}
    tell(session, action.tenant, owner, kind="retraining_did_not_help", **told)


def start_run(row: t.RetrainDecision, pipeline: str) -> StartRun:
    """What the controller starts for a decision to act."""
    assert row.workflow_id is not None
    cutoff = row.detail.get("cutoff")
    request = RunRequest(
        pipeline=pipeline,
        requested_by=f"retrain/{row.model}" if row.actor == "perdure" else row.actor,
        cutoff=datetime.fromisoformat(cutoff) if cutoff else None,
        ask=row.outcome is Outcome.LABEL,
    )
    return StartRun(decision=row.id, workflow_id=row.workflow_id, outcome=row.outcome, request=request)


def _result(session: Session, run: UUID, state: RunState) -> tuple[str, bool | None]:
    """What a run came to, and whether it helped: only a new release did, and a cancelled run says nothing."""
    if state is not RunState.SUCCEEDED:
        return state.value, False if state is RunState.FAILED else None
    of_run = select(t.StepRun.id).where(t.StepRun.run_id == run)
    if session.scalar(select(t.Release.id).where(t.Release.promotion_id.in_(of_run)).limit(1)) is not None:
        return "released", True
    query = select(t.Promotion.state).where(t.Promotion.id.in_(of_run)).order_by(t.Promotion.opened_at.desc()).limit(1)
    return ("unchanged" if session.scalar(query) is t.PromotionState.RELEASED else "refused"), False
