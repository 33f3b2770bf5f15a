"""Pipelines and runs."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnExpressionArgument, func, select, update
from sqlalchemy.orm import Session

from perdure.errors import Conflict, InvalidInput, NotFound
from perdure.keys import digest, identity
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata import tables as t
from perdure.metadata.repository import records
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.lifecycle import LIVE, end_steps, reopen_run
from perdure.metadata.repository.messages import tell
from perdure.metadata.repository.rows import Rows
from perdure.ports import PipelineVersion, Run

COMMANDS = {"pause": RunState.PAUSED, "resume": RunState.RUNNING, "cancel": None}
"""Commands, and the state that a live run gets by them; a cancelled run is closed by its workflow."""


class RunRows(Rows):
    """`perdure.ports.Runs` on Postgres."""

    def apply(self, spec: Json, spec_sha256: str, code: ArtifactRef | None, git_commit: str | None, actor: str) -> PipelineVersion:
        """The version with this content, made the newest; new numbers only for new content."""
        name, sha256 = str(spec["name"]), digest({"spec": spec_sha256, "code": code.sha256 if code else None})
        key = identity(self._tenant, "pipeline_version", name, sha256)
        with self._database.transaction() as session:
            self._lock(session, "pipeline", name)
            mine = (t.PipelineVersion.tenant == self._tenant, t.PipelineVersion.name == name)
            newest = session.scalar(select(t.PipelineVersion.id).where(*mine, t.PipelineVersion.newest))
            if newest != key:
                number = session.scalar(select(func.coalesce(func.max(t.PipelineVersion.number), 0) + 1).where(*mine))
                self._add(
                    session,
                    t.PipelineVersion,
                    id=key,
                    name=name,
                    number=number,
                    sha256=sha256,
                    spec=spec,
                    spec_sha256=spec_sha256,
                    code_id=self._artifact(session, t.ArtifactKind.CODE, code) if code else None,
                    git_commit=git_commit,
                    newest=False,
                    applied_by=actor,
                )
                session.execute(update(t.PipelineVersion).where(*mine, t.PipelineVersion.newest).values(newest=False))
                session.execute(update(t.PipelineVersion).where(t.PipelineVersion.id == key).values(newest=True))
                self._audit(session, "pipeline.apply", key, actor, before={"newest": str(newest)} if newest else None)
            return self._found(session, t.PipelineVersion.id == key)[0]

    def pipeline(self, name: str, version: str | None = None) -> PipelineVersion:
        """The newest version of *name*, or the one whose sha256 starts with *version*. Raises NotFound naming what exists."""
        wanted = t.PipelineVersion.newest if version is None else t.PipelineVersion.sha256.startswith(version, autoescape=True)
        with self._database.transaction() as session:
            found = self._found(session, t.PipelineVersion.name == name, wanted)
            if not found:
                raise self._unknown(session, name, version)
        if len(found) > 1:
            numbers = ", ".join(f"{v.sha256[:12]} (version {v.number})" for v in found)
            raise InvalidInput(f"several versions of {name!r} start with {version!r}: {numbers}", field="version", remedy="give more of it")
        return found[0]

    def open(self, *, workflow_id: str, chain: str, pipeline: UUID, spec: Json, request: Json, scheduled: datetime | None = None) -> Run:
        """The run of this workflow chain. Raises Conflict where another chain had this workflow id.

        A run that ended without success is live again: its workflow was reset. Unless that end came after *scheduled*: then Conflict.
        """
        key = identity(self._tenant, "run", workflow_id)
        step = request.get("recompute_from")
        with self._database.transaction() as session:
            self._add(
                session,
                t.Run,
                id=key,
                workflow_id=workflow_id,
                chain=chain,
                pipeline_version_id=pipeline,
                spec=spec,
                request=request,
                cache=bool(request.get("cache", True)),
                recompute_from=StepKind(step) if step else None,
                requested_by=str(request.get("requested_by") or "unknown"),
            )
            owner, state = session.execute(select(t.Run.chain, t.Run.state).where(t.Run.id == key)).one()
            if owner != chain:
                raise Conflict(
                    f"workflow id {workflow_id!r} belongs to an earlier run (execution {owner}, {state})",
                    field="workflow_id",
                    remedy="start this run under a new workflow id, or reset the earlier one to go on with it",
                )
            if state is not RunState.SUCCEEDED and reopen_run(session, key, scheduled):
                self._audit(session, "run.reopen", key, "perdure", before={"state": state})
            return records.load_run(session, self._tenant, key)

    def run(self, run_id: UUID) -> Run:
        """The run. Raises NotFound."""
        with self._database.transaction() as session:
            return records.load_run(session, self._tenant, run_id)

    def live(self) -> list[tuple[UUID, str, str]]:
        """Id, workflow id and chain of every run that has not ended, oldest first."""
        query = select(t.Run.id, t.Run.workflow_id, t.Run.chain).where(t.Run.tenant == self._tenant, t.Run.state.in_(LIVE))
        with self._database.transaction() as session:
            return [(row.id, row.workflow_id, row.chain) for row in session.execute(query.order_by(t.Run.started_at))]

    def close(self, run_id: UUID, state: RunState, error: Json | None) -> None:
        """Move a live run, and its running steps, to their end. Raises Conflict where it has ended otherwise."""
        with self._database.transaction() as session:
            closed = session.execute(
                update(t.Run)
                .where(t.Run.id == run_id, t.Run.tenant == self._tenant, t.Run.state.in_(LIVE))
                .values(state=state, error=error, finished_at=func.now())
                .returning(t.Run.id)
            ).first()
            if closed is not None:
                end_steps(session, run_id, t.StepState.FAILED if state is RunState.FAILED else t.StepState.CANCELLED, error)
                self._told(session, run_id)
                if state in (RunState.FAILED, RunState.TERMINATED):
                    run = records.load_run(session, self._tenant, run_id)
                    problem = {name: (error or {}).get(name) for name in ("type", "message", "remedy")}
                    tell(session, self._tenant, run.spec.get("owner"), kind="run_failed", run=run.workflow_id, **problem)
            elif (was := records.load_run(session, self._tenant, run_id).state) is not state:
                raise Conflict(f"run {run_id} has ended as {was}, so it cannot end as {state}")

    def _told(self, session: Session, run_id: UUID) -> None:
        """The controller of the run's model, if there is one, looks what came of it."""
        spec = records.load_run(session, self._tenant, run_id).spec
        model = spec.get("model") or spec.get("name")
        of_model = select(t.RetrainPolicy.id).where(t.RetrainPolicy.tenant == self._tenant, t.RetrainPolicy.model == model)
        if session.scalar(of_model.limit(1)) is not None:
            poke(session, self._tenant, f"retrain/{model}")

    def command(self, run_id: UUID, command: str, command_id: str, actor: str, reason: str) -> Run:
        """Record *command* once in the run's row and the audit. Raises Conflict where the run has ended before it came."""
        if command not in COMMANDS:
            raise InvalidInput(f"{command!r} is no command for a run", field="command", remedy=f"one of {', '.join(COMMANDS)}")
        with self._database.transaction() as session:
            state = session.scalar(
                select(t.Run.state).where(t.Run.id == run_id, t.Run.tenant == self._tenant).with_for_update(key_share=True)
            )
            before = {"state": state} if state else None
            if state and self._audit(session, f"run.{command}", run_id, actor, command_id=command_id, reason=reason, before=before):
                if not state.is_live:
                    raise Conflict(f"run {run_id} has ended as {state}", remedy="start a new run: what was committed is reused")
                session.execute(update(t.Run).where(t.Run.id == run_id).values(state=COMMANDS[command] or state))
            return records.load_run(session, self._tenant, run_id)

    def _found(self, session: Session, *where: ColumnExpressionArgument[bool]) -> list[PipelineVersion]:
        query = (
            select(t.PipelineVersion, t.Artifact)
            .outerjoin(t.Artifact, t.Artifact.id == t.PipelineVersion.code_id)
            .where(t.PipelineVersion.tenant == self._tenant, *where)
            .order_by(t.PipelineVersion.number)
        )
        return [records.pipeline_version(*row) for row in session.execute(query)]

    def _unknown(self, session: Session, name: str, version: str | None) -> NotFound:
        of_name = self._found(session, t.PipelineVersion.name == name)
        if of_name:
            exist = ", ".join(f"{v.sha256[:12]} ({v.number})" for v in of_name[-10:])
            return NotFound(f"pipeline {name!r} has no version {version!r}", field="version", remedy=f"one of {exist}")
        names = ", ".join(v.name for v in self._found(session, t.PipelineVersion.newest)[:20])
        remedy = f"one of {names}; or `perdure apply` the specification first" if names else "`perdure apply` the specification first"
        return NotFound(f"there is no pipeline {name!r}", field="pipeline", remedy=remedy)
