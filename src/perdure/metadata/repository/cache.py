"""The cache of step results: who computes a key, who waits, who uses what was computed before, and why."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session, aliased

from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.repository import records
from perdure.metadata.repository.lifecycle import lock_step, running
from perdure.metadata.repository.rows import Rows
from perdure.ports import Claim

WORDS = {"code": "code", "params": "parameters", "inputs": "inputs", "environment": "environment"}


class Cache(Rows):
    """`perdure.ports.Steps.claim` on Postgres."""

    def claim(self, step_run: UUID, key: str, *, use_cache: bool, components: Json | None = None) -> Claim:
        """Decide who computes *key*: this step run, another that runs now, or one whose result can be used. See the port."""
        with self._database.transaction() as session:
            self._lock(session, "step", key)  # one at a time: two that find neither result nor computation would both compute
            step = lock_step(session, self._tenant, step_run)
            if step.state is t.StepState.SUCCEEDED:
                return Claim(hit=records.step_run(step), reason=step.reason)
            running(step)
            if step.computes and step.key == key:
                return Claim(mine=True, reason=step.reason)
            # First who computes, then what is there: in the other order a computation could end in between and be missed.
            busy = session.scalar(self._of(key, t.StepState.RUNNING).with_only_columns(t.StepRun.id))
            hit = (
                session.scalar(self._of(key, t.StepState.SUCCEEDED).order_by(t.StepRun.finished_at.desc()).limit(1)) if use_cache else None
            )
            waiting_for = None
            if busy is not None:
                computing = self._where(session, busy)
                reason = f"waits: {computing} computes the same step now"
                waiting_for = f"{computing}, which computes the same step"
            elif hit is not None:
                reason = f"hit: same code, parameters, inputs and environment as {self._where(session, hit.id)}"
            else:
                reason = self._miss(session, step, components, use_cache=use_cache)
            mine = busy is None and hit is None
            since = step.waiting_since if step.waiting_for == waiting_for else func.now() if waiting_for else None
            session.execute(
                update(t.StepRun)
                .where(t.StepRun.id == step_run)
                .values(key=key, components=components, computes=mine, reason=reason, waiting_for=waiting_for, waiting_since=since)
                .execution_options(synchronize_session=False)
            )
            if busy is not None:
                return Claim(busy=busy, reason=reason)
            return Claim(mine=mine, hit=records.step_run(hit) if hit is not None else None, reason=reason)

    def release(self, step_run: UUID) -> None:
        """Give up the claim of a step that pauses, so that others need not wait for it; `claim` asks again."""
        with self._database.transaction() as session:
            session.execute(
                update(t.StepRun)
                .where(t.StepRun.id == step_run, t.StepRun.tenant == self._tenant, t.StepRun.state == t.StepState.RUNNING)
                .values(computes=False, waiting_for=None, waiting_since=None)
            )

    def _of(self, key: str, state: t.StepState) -> Select[t.StepRun]:
        """Step runs that compute, or computed, *key*. Those that only used a result do not count: it has one origin."""
        return select(t.StepRun).where(t.StepRun.tenant == self._tenant, t.StepRun.key == key, t.StepRun.computes, t.StepRun.state == state)

    def _miss(self, session: Session, step: t.StepRun, components: Json | None, *, use_cache: bool) -> str:
        """Why *step* is computed: what changed since the pipeline's last result of this step."""
        if not use_cache:
            return "computed again: the cache was switched off, or what it names is gone"
        mine, other = aliased(t.PipelineVersion), aliased(t.PipelineVersion)
        name = select(mine.name).join(t.Run, t.Run.pipeline_version_id == mine.id).where(t.Run.id == step.run_id).scalar_subquery()
        last = session.scalar(
            select(t.StepRun)
            .join(t.Run, t.Run.id == t.StepRun.run_id)
            .join(other, other.id == t.Run.pipeline_version_id)
            .where(
                t.StepRun.tenant == self._tenant, other.name == name, t.StepRun.step == step.step, t.StepRun.state == t.StepState.SUCCEEDED
            )
            .order_by(t.StepRun.finished_at.desc())
            .limit(1)
        )
        if last is None:
            return "miss: this pipeline has no earlier result of this step"
        now, then = components or {}, last.components or {}
        changed = [word for field, word in WORDS.items() if field in now and field in then and now[field] != then[field]]
        what = " and ".join([", ".join(changed[:-1]), changed[-1]] if len(changed) > 1 else changed)
        return f"miss: {what or 'something'} changed since {self._where(session, last.id)}"

    def _where(self, session: Session, step_run: UUID) -> str:
        query = select(t.Run.workflow_id).join(t.StepRun, t.StepRun.run_id == t.Run.id).where(t.StepRun.id == step_run)
        return str(session.scalar(query))
