"""Results that a run could reuse, for a dry run."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnExpressionArgument, select

from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database


@dataclass(frozen=True, kw_only=True)
class Cached:
    """The newest result that fits: in which run it was computed, from which components, and what it was."""

    run: str
    components: Json
    result: Json


def with_components(db: Database, step: str, *, code: str | None, params: str, inputs: list[str] | None) -> Cached | None:
    """The newest result of *step* with this code, parameters (digest) and inputs; None for *inputs*: whatever they were."""
    fits = [t.StepRun.step == step, t.StepRun.computes, t.StepRun.components.contains({"code": code, "params": params})]
    if inputs is not None:
        fits.append(t.StepRun.components["inputs"] == inputs)  # as a list: containment would not look at order and repetition
    return _newest(db, *fits)


def newest(db: Database, pipeline: str, step: str) -> Cached | None:
    """The newest result of *step* in any run of *pipeline*."""
    return _newest(db, t.StepRun.step == step, t.PipelineVersion.name == pipeline)


def _newest(db: Database, *where: ColumnExpressionArgument[bool]) -> Cached | None:
    query = (
        select(t.Run.workflow_id, t.StepRun.components, t.StepRun.result)
        .join(t.Run, t.Run.id == t.StepRun.run_id)
        .join(t.PipelineVersion, t.PipelineVersion.id == t.Run.pipeline_version_id)
        .where(t.StepRun.tenant == db.tenant, t.StepRun.state == t.StepState.SUCCEEDED, *where)
        .order_by(t.StepRun.finished_at.desc())
        .limit(1)
    )
    with db.transaction() as session:
        row = session.execute(query).one_or_none()
        return Cached(run=row[0], components=row[1] or {}, result=row[2] or {}) if row else None
