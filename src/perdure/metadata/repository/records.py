"""Rows as the ports' plain values."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.messages.common import ArtifactRef
from perdure.messages.pipeline import RunState
from perdure.metadata import tables as t
from perdure.ports import DatasetVersion, Evaluation, ModelVersion, PipelineVersion, Release, Run, StepRun, SubmissionRow, Verdict


def ref(artifact: t.Artifact) -> ArtifactRef:
    """The artifact as messages name it."""
    return ArtifactRef(uri=artifact.uri, sha256=artifact.sha256, size=artifact.size)


def pipeline_version(row: t.PipelineVersion, code: t.Artifact | None) -> PipelineVersion:
    """A pipeline version with the package of its code."""
    return PipelineVersion(
        id=row.id, name=row.name, number=row.number, sha256=row.sha256, spec=row.spec, code=ref(code) if code is not None else None
    )


def run(row: t.Run, pipeline: t.PipelineVersion, code: t.Artifact | None) -> Run:
    """A run with the version that it runs."""
    return Run(
        id=row.id,
        workflow_id=row.workflow_id,
        pipeline=pipeline_version(pipeline, code),
        spec=row.spec,
        state=row.state,
        cache=row.cache,
        recompute_from=row.recompute_from,
        requested_by=row.requested_by,
        paused=row.state is RunState.PAUSED,
        error=row.error,
    )


def runs() -> Select[t.Run, t.PipelineVersion, t.Artifact]:
    """Runs with what `run` needs; the artifact is None where a pipeline has no code of its own."""
    return (
        select(t.Run, t.PipelineVersion, t.Artifact)
        .join(t.PipelineVersion, t.PipelineVersion.id == t.Run.pipeline_version_id)
        .outerjoin(t.Artifact, t.Artifact.id == t.PipelineVersion.code_id)
    )


def load_run(session: Session, tenant: str, run_id: UUID) -> Run:
    """The run. Raises NotFound."""
    found = session.execute(runs().where(t.Run.id == run_id, t.Run.tenant == tenant)).one_or_none()
    if found is None:
        raise NotFound(f"there is no run {run_id}", remedy="`perdure runs` lists them")
    return run(*found)


def step_run(row: t.StepRun) -> StepRun:
    """A step run."""
    return StepRun(
        id=row.id,
        run_id=row.run_id,
        round=row.round,
        step=row.step,
        state=row.state,
        key=row.key,
        reason=row.reason,
        result=row.result,
    )


def submission(row: t.Submission) -> SubmissionRow:
    """A submission."""
    return SubmissionRow(
        step_run=row.step_run_id,
        name=row.name,
        number=row.number,
        job_id=row.job_id,
        started_at=row.started_at,
        state=row.state,
        exit_code=row.exit_code,
        round=row.round,
    )


def dataset_versions() -> Select[t.DatasetVersion, t.Dataset, t.Artifact]:
    """Dataset versions with what `dataset_version` needs."""
    return (
        select(t.DatasetVersion, t.Dataset, t.Artifact)
        .join(t.Dataset, t.Dataset.id == t.DatasetVersion.dataset_id)
        .join(t.Artifact, t.Artifact.id == t.DatasetVersion.manifest_id)
    )


def dataset_version(row: t.DatasetVersion, dataset: t.Dataset, manifest: t.Artifact) -> DatasetVersion:
    """A dataset version."""
    return DatasetVersion(
        id=row.id,
        dataset=dataset.name,
        number=row.number,
        manifest=ref(manifest),
        train_rows=row.train_rows,
        test_rows=row.test_rows,
        quarantined_rows=row.quarantined_rows,
        pool_rows=row.pool_rows,
        labeled_rows=row.labeled_rows,
        scored_rows=row.scored_rows,
    )


def model_versions() -> Select[t.ModelVersion, t.Artifact]:
    """Model versions with what `model_version` needs."""
    return select(t.ModelVersion, t.Artifact).join(t.Artifact, t.Artifact.id == t.ModelVersion.predictor_id)


def model_version(row: t.ModelVersion, predictor: t.Artifact) -> ModelVersion:
    """A model version."""
    return ModelVersion(
        id=row.id,
        model=row.model,
        number=row.number,
        predictor=ref(predictor),
        dataset_version=row.dataset_version_id,
        run_id=row.run_id,
        rounds=row.rounds,
        metrics=row.metrics,
    )


def unknown_model(session: Session, tenant: str, model: str, number: int | None = None) -> NotFound:
    """Why there is no such version (None: no released one), and what exists."""
    numbers = session.scalars(
        select(t.ModelVersion.number)
        .where(t.ModelVersion.tenant == tenant, t.ModelVersion.model == model)
        .order_by(t.ModelVersion.number.desc())
        .limit(10)
    ).all()
    if numbers:
        what = f"model {model!r} has no version {number}" if number is not None else f"no version of model {model!r} is released"
        return NotFound(what, field="model", remedy=f"name one of its versions: {', '.join(map(str, reversed(numbers)))}")
    names = session.scalars(
        select(t.ModelVersion.model).where(t.ModelVersion.tenant == tenant).distinct().order_by(t.ModelVersion.model).limit(20)
    ).all()
    remedy = f"one of {', '.join(names)}" if names else "run a pipeline first: no model was trained yet"
    return NotFound(f"there is no model {model!r}", field="model", remedy=remedy)


def load_evaluation(session: Session, evaluation: UUID) -> Evaluation:
    """The evaluation with its verdicts, in the order of the gates. Raises NotFound."""
    row = session.get(t.Evaluation, evaluation)
    if row is None:
        raise NotFound(f"there is no evaluation {evaluation}")
    verdicts = session.scalars(select(t.GateVerdict).where(t.GateVerdict.evaluation_id == evaluation).order_by(t.GateVerdict.position))
    return Evaluation(
        id=row.id,
        model_version=row.model_version_id,
        champion_version=row.champion_version_id,
        passed=row.passed,
        verdicts=[
            Verdict(gate=v.gate, passed=v.passed, reason=v.reason, value=v.value, champion_value=v.champion_value, slice=v.slice)
            for v in verdicts
        ],
        metrics=row.metrics,
        evidence_sha256=row.evidence_sha256,
    )


def release(row: t.Release, number: int) -> Release:
    """A release of version *number*."""
    return Release(
        id=row.id,
        model=row.model,
        model_version=row.model_version_id,
        number=number,
        since=row.since,
        until=row.until,
        actor=row.actor,
    )
