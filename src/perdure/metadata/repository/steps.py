"""Step runs, their progress and the submissions of their jobs."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, case, func, literal, null, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from perdure.errors import Conflict, NotFound
from perdure.keys import identity
from perdure.messages.common import Json
from perdure.messages.pipeline import StepKind
from perdure.metadata import tables as t
from perdure.metadata.jsonb import dumps, plain
from perdure.metadata.repository import records
from perdure.metadata.repository.cache import Cache
from perdure.metadata.repository.lifecycle import lock_step, reopen_run, running, succeed
from perdure.ports import Run, StepRun, SubmissionRow


class StepRows(Cache):
    """`perdure.ports.Steps` on Postgres."""

    def begin(self, run_id: UUID, round: int, step: StepKind, scheduled: datetime | None = None) -> StepRun:
        """The step run of this run, round and step: opened, or opened again, with its run, where it had ended without success.

        That is a reset of the workflow, unless the end came after *scheduled*: then this attempt was overtaken, and Conflict is raised.
        """
        key = identity(run_id, round, step)
        with self._database.transaction() as session:
            if session.scalar(select(t.Run.id).where(t.Run.id == run_id, t.Run.tenant == self._tenant)) is None:
                raise NotFound(f"there is no run {run_id}")
            state = session.scalar(select(t.StepRun.state).where(t.StepRun.id == key))
            if state not in (t.StepState.RUNNING, t.StepState.SUCCEEDED):
                if reopen_run(session, run_id, scheduled):
                    self._audit(session, "run.reopen", run_id, "perdure", reason=f"step {step} began again")
                self._add(session, t.StepRun, id=key, run_id=run_id, round=round, step=step)
                self._reopen(session, key, scheduled)
            return records.step_run(lock_step(session, self._tenant, key))

    def _reopen(self, session: Session, key: UUID, scheduled: datetime | None) -> None:
        row = lock_step(session, self._tenant, key)
        if row.finished_at is None or row.state is t.StepState.SUCCEEDED:
            return
        if scheduled is not None and scheduled <= row.finished_at:
            raise Conflict(f"step run {key} ({row.step}) has ended as {row.state} since this attempt was scheduled")
        session.execute(
            update(t.StepRun)
            .where(t.StepRun.id == key)
            .values(state=t.StepState.RUNNING, computes=False, error=None, finished_at=None)
            .execution_options(synchronize_session=False)
        )

    def step(self, step_run: UUID) -> StepRun:
        """The step run. Raises NotFound."""
        with self._database.transaction() as session:
            row = session.scalar(select(t.StepRun).where(t.StepRun.id == step_run, t.StepRun.tenant == self._tenant))
            if row is None:
                raise NotFound(f"there is no step run {step_run}")
            return records.step_run(row)

    def finish(self, step_run: UUID, result: Json, reason: str = "") -> StepRun:
        """Record the result once. Raises Conflict for a different second result or end."""
        with self._database.transaction() as session:
            step = lock_step(session, self._tenant, step_run)
            if step.state is t.StepState.SUCCEEDED:
                if dumps(step.result) != dumps(session.scalar(select(literal(result, JSONB)))):
                    raise Conflict(f"step run {step_run} ({step.step}) has succeeded with another result")
            else:
                succeed(session, running(step), result, reason)
            return records.step_run(step)

    def report(self, step_run: UUID, detail: Json, waiting_for: str | None = None) -> Run:
        """Record progress, and read what people want of the run, in one statement."""
        since = case((t.StepRun.waiting_for == waiting_for, t.StepRun.waiting_since), else_=func.now()) if waiting_for else null()
        reported = (
            update(t.StepRun)
            .where(t.StepRun.id == step_run, t.StepRun.state == t.StepState.RUNNING)
            .values(
                detail=t.StepRun.detail.concat(literal(detail, JSONB)),
                waiting_for=waiting_for,
                waiting_since=since,
                reported_at=func.clock_timestamp(),
            )
            .returning(t.StepRun.id)
            .cte("reported")
        )
        query = records.runs().join(t.StepRun, t.StepRun.run_id == t.Run.id).where(t.StepRun.id == step_run)
        with self._database.transaction() as session:
            found = session.execute(query.where(t.Run.tenant == self._tenant).add_cte(reported)).one_or_none()
            if found is None:
                raise NotFound(f"there is no step run {step_run}")
            return records.run(*found)

    def submission(self, step_run: UUID, name: str) -> SubmissionRow | None:
        """The newest submission of this job, or None."""
        return next(reversed(self.submissions(step_run, name)), None)

    def submissions(self, step_run: UUID, name: str) -> list[SubmissionRow]:
        """All submissions of this job, oldest first."""
        query = self._submissions().where(t.Submission.step_run_id == step_run, t.Submission.name == name)
        with self._database.transaction() as session:
            return [records.submission(row) for row in session.scalars(query.order_by(t.Submission.number))]

    def next_submission(self, step_run: UUID, name: str, number: int) -> SubmissionRow:
        """Insert submission *number* of a running step, or return the one that another attempt inserted."""
        job_id = f"perdure-{step_run}-{name}-{number}" if name else f"perdure-{step_run}-{number}"
        values = select(literal(self._tenant), t.StepRun.id, literal(name), literal(number), literal(job_id)).where(
            t.StepRun.id == step_run, t.StepRun.tenant == self._tenant, t.StepRun.state == t.StepState.RUNNING
        )
        with self._database.transaction() as session:
            columns = ["tenant", "step_run_id", "name", "number", "job_id"]
            session.execute(insert(t.Submission).from_select(columns, values).on_conflict_do_nothing())
            row = session.get(t.Submission, (step_run, name, number))
            if row is None:
                raise Conflict(f"step run {step_run} has ended: job {name!r} is not started again")
            return records.submission(row)

    def end_submission(
        self, step_run: UUID, name: str, number: int, state: str, exit_code: int | None, message: str, round: int | None
    ) -> None:
        """Record how an open submission ended; no-op if it has ended."""
        with self._database.transaction() as session:
            session.execute(
                update(t.Submission)
                .where(t.Submission.step_run_id == step_run, t.Submission.name == name, t.Submission.number == number)
                .where(t.Submission.tenant == self._tenant, t.Submission.state == t.SubmissionState.OPEN)
                .values(state=t.SubmissionState(state), exit_code=exit_code, message=plain(message), round=round, finished_at=func.now())
            )

    def orphans(self, limit: int = 100) -> list[SubmissionRow]:
        """Open submissions of steps that have ended: their jobs are to be stopped."""
        query = self._submissions().join(t.StepRun, t.StepRun.id == t.Submission.step_run_id)
        query = query.where(t.Submission.state == t.SubmissionState.OPEN, t.StepRun.state != t.StepState.RUNNING)
        with self._database.transaction() as session:
            return [records.submission(row) for row in session.scalars(query.order_by(t.Submission.started_at).limit(limit))]

    def unwanted(self, job_ids: list[str]) -> list[SubmissionRow]:
        """Those of these submissions that have ended, or whose step has: whoever still runs their jobs is to stop them."""
        query = self._submissions().join(t.StepRun, t.StepRun.id == t.Submission.step_run_id).where(t.Submission.job_id.in_(job_ids))
        query = query.where((t.Submission.state != t.SubmissionState.OPEN) | (t.StepRun.state != t.StepState.RUNNING))
        with self._database.transaction() as session:
            return [records.submission(row) for row in session.scalars(query)]

    def _submissions(self) -> Select[t.Submission]:
        return select(t.Submission).where(t.Submission.tenant == self._tenant)
