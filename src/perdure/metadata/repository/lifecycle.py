"""How runs and step runs begin again and end: the transitions that several ports share."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from perdure.errors import Conflict, NotFound
from perdure.messages.common import Json
from perdure.messages.pipeline import RunState
from perdure.metadata import tables as t
from perdure.metadata.repository import serves

LIVE = [state for state in RunState if state.is_live]


def reopen_run(session: Session, run_id: UUID, scheduled: datetime | None) -> bool:
    """Make an ended run live again: its workflow was reset. Whether it had ended.

    *scheduled* tells a reset from an attempt that slept: what was scheduled before the run ended has been overtaken, and raises Conflict.
    """
    ended = session.execute(select(t.Run.state, t.Run.finished_at).where(t.Run.id == run_id).with_for_update(key_share=True)).one_or_none()
    if ended is None or ended.finished_at is None:
        return False
    if scheduled is not None and scheduled <= ended.finished_at:
        raise Conflict(f"run {run_id} has ended as {ended.state} since this attempt was scheduled")
    session.execute(update(t.Run).where(t.Run.id == run_id).values(state=RunState.RUNNING, error=None, finished_at=None))
    return True


def end_steps(session: Session, run_id: UUID, state: t.StepState, error: Json | None) -> None:
    """End the running steps of a run that ends; people are asked about it no longer, and its candidate answers nothing more."""
    session.execute(
        update(t.StepRun)
        .where(t.StepRun.run_id == run_id, t.StepRun.state == t.StepState.RUNNING)
        .values(state=state, error=error, finished_at=func.now(), waiting_for=None, waiting_since=None)
    )
    session.execute(
        update(t.Approval)
        .where(t.Approval.promotion_id.in_(select(t.StepRun.id).where(t.StepRun.run_id == run_id)))
        .where(t.Approval.status == t.ApprovalStatus.OPEN)
        .values(status=t.ApprovalStatus.CLOSED)
    )
    of_run = t.Traffic.promotion_id.in_(select(t.StepRun.id).where(t.StepRun.run_id == run_id))
    serves.withdraw(session, "its run has ended", of_run)


def lock_step(session: Session, tenant: str, step_run: UUID) -> t.StepRun:
    """The step run, locked until the end of the transaction: its end and what it commits are one. Raises NotFound."""
    row = session.scalar(
        select(t.StepRun)
        .where(t.StepRun.id == step_run, t.StepRun.tenant == tenant)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFound(f"there is no step run {step_run}")
    return row


def running(step: t.StepRun) -> t.StepRun:
    """*step*, locked. Raises Conflict where it has ended: its caller has been overtaken, and must change nothing."""
    if step.state is not t.StepState.RUNNING:
        raise Conflict(f"step run {step.id} ({step.step}) has ended as {step.state}")
    return step


def succeed(session: Session, step: t.StepRun, result: Json, reason: str) -> None:
    """Record the result of a locked, running step. An empty *reason* keeps the claim's."""
    values = {"reason": reason} if reason else {}
    session.execute(
        update(t.StepRun)
        .where(t.StepRun.id == step.id)
        .values(state=t.StepState.SUCCEEDED, result=result, finished_at=func.now(), waiting_for=None, waiting_since=None, **values)
        .execution_options(synchronize_session=False)
    )
    session.refresh(step)
