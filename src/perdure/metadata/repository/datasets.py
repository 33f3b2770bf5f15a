"""Partitions and dataset versions."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.keys import identity
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.pipeline import StepKind
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository import records
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.lifecycle import lock_step, running, succeed
from perdure.metadata.repository.rows import Rows, artifact_ref
from perdure.ports import DatasetVersion


class DatasetRows(Rows):
    """`perdure.ports.Datasets` on Postgres."""

    def record_partition(self, step_run: UUID, phase: str, index: int, result: Json, key: str | None = None) -> Json:
        """Commit one partition of one phase; returns what was committed first. Raises Conflict where the step has ended without it."""
        with self._database.transaction() as session:
            step = lock_step(session, self._tenant, step_run)
            first = session.get(t.Partition, (step_run, phase, index))
            if first is None:
                running(step)
                self._add(session, t.Partition, step_run_id=step_run, phase=phase, index=index, key=key, result=result)
                first = session.get_one(t.Partition, (step_run, phase, index))
            return first.result

    def partitions(self, step_run: UUID, phase: str) -> list[Json]:
        """What was committed for *phase*, by index."""
        query = select(t.Partition.result).where(t.Partition.step_run_id == step_run, t.Partition.phase == phase)
        with self._database.transaction() as session:
            return list(session.scalars(query.where(t.Partition.tenant == self._tenant).order_by(t.Partition.index)))

    def partition(self, step_run: UUID, phase: str, index: int) -> Json | None:
        """The one of this *index*; None where there is none yet."""
        p = t.Partition
        query = select(p.result).where(p.tenant == self._tenant, p.step_run_id == step_run, p.phase == phase, p.index == index)
        with self._database.transaction() as session:
            return session.scalar(query)

    def known_partition(self, key: str) -> Json | None:
        """What was committed last under *key*, by whichever run."""
        query = select(t.Partition.result).where(t.Partition.tenant == self._tenant, t.Partition.key == key)
        with self._database.transaction() as session:
            return session.scalar(query.order_by(t.Partition.committed_at.desc()).limit(1))

    def commit(self, step_run: UUID, dataset: str, result: Json, reason: str) -> DatasetVersion:
        """Dataset version, profile, validation results, artifacts, lineage and the step's end, in one transaction."""
        manifest = artifact_ref(result.get("manifest"), "manifest")
        with self._database.transaction() as session:
            step = lock_step(session, self._tenant, step_run)
            if step.state is t.StepState.SUCCEEDED and step.result is not None:
                return self._version(session, t.DatasetVersion.id == UUID(step.result["dataset_version"]))
            running(step)
            self._lock(session, "dataset", dataset)
            key = self._insert(session, step, dataset, manifest, result)
            version = self._version(session, t.DatasetVersion.id == key)
            succeed(session, step, {**result, "dataset_version": str(key), "version": version.number}, reason)
            self._awaited(session, dataset)
            return version

    def _awaited(self, session: Session, dataset: str) -> None:
        """The controllers of models that are trained again for a new version of *dataset* look at it."""
        v = t.PipelineVersion
        waits = v.spec["triggers"].contains([{"dataset": dataset}])
        named = select(func.coalesce(v.spec["model"].astext, v.name)).where(v.tenant == self._tenant, v.newest, waits)
        for model in session.scalars(named).all():
            poke(session, self._tenant, f"retrain/{model}")

    def version(self, dataset_version: UUID) -> DatasetVersion:
        """The dataset version. Raises NotFound."""
        with self._database.transaction() as session:
            return self._version(session, t.DatasetVersion.id == dataset_version)

    def newest(self, dataset: str) -> DatasetVersion:
        """The newest version of *dataset*. Raises NotFound."""
        dataset_id = identity(self._tenant, "dataset", dataset)
        number = select(func.max(t.DatasetVersion.number)).where(t.DatasetVersion.dataset_id == dataset_id).scalar_subquery()
        with self._database.transaction() as session:
            return self._version(session, t.DatasetVersion.dataset_id == dataset_id, t.DatasetVersion.number == number)

    def said_before(self, pipeline: str, run_id: UUID) -> list[ArtifactRef]:
        """The label snapshots of earlier runs of *pipeline*, oldest first."""
        query = (
            select(t.StepRun.result["snapshot"])
            .join(t.Run, t.Run.id == t.StepRun.run_id)
            .join(t.PipelineVersion, t.PipelineVersion.id == t.Run.pipeline_version_id)
            .where(t.StepRun.tenant == self._tenant, t.PipelineVersion.name == pipeline, t.Run.id != run_id)
            .where(t.StepRun.step == StepKind.LABEL, t.StepRun.state == t.StepState.SUCCEEDED, t.StepRun.result.has_key("snapshot"))
            .order_by(t.StepRun.finished_at, t.StepRun.id)
        )
        with self._database.transaction() as session:
            found = {json["sha256"]: ArtifactRef.from_json(json) for json in session.scalars(query)}
            return list(found.values())

    def _insert(self, session: Session, step: t.StepRun, dataset: str, manifest: ArtifactRef, result: Json) -> UUID:
        """The version with this manifest, under the dataset's lock."""
        dataset_id = identity(self._tenant, "dataset", dataset)
        self._add(session, t.Dataset, id=dataset_id, name=dataset)
        of_dataset = select(func.coalesce(func.max(t.DatasetVersion.number), 0) + 1).where(t.DatasetVersion.dataset_id == dataset_id)
        key = identity(dataset_id, manifest.sha256)
        source, delta, rows = result.get("source"), result.get("delta") or {}, result["rows"]
        manifest_id = self._artifact(session, t.ArtifactKind.MANIFEST, manifest)
        added = self._add(
            session,
            t.DatasetVersion,
            id=key,
            dataset_id=dataset_id,
            number=session.scalar(of_dataset),
            manifest_id=manifest_id,
            manifest_sha256=manifest.sha256,
            step_run_id=step.id,
            source={name: source.get(name) for name in ("uri", "digest", "bytes")} if source else None,
            delta_uri=delta.get("uri"),
            delta_version=delta.get("version"),
            columns=result.get("schema") or [],
            classes=result.get("classes") or [],
            train_rows=rows["train"],
            test_rows=rows["test"],
            quarantined_rows=rows.get("quarantined", 0),
            pool_rows=rows.get("pool", 0),
            labeled_rows=rows.get("labeled", 0),
            scored_rows=rows.get("scored", 0),
        )
        if added:
            self._describe(session, key, result)
        code = session.scalar(
            select(t.PipelineVersion.code_id).join(t.Run, t.Run.pipeline_version_id == t.PipelineVersion.id).where(t.Run.id == step.run_id)
        )
        self._made_from(session, manifest_id, "code", [code])
        files = [artifact_ref(file, "source") for file in (source or {}).get("files", [])]
        self._made_from(session, manifest_id, "source", self._artifacts(session, t.ArtifactKind.SOURCE, files))
        snapshots = [artifact_ref(snapshot, "labels") for snapshot in result.get("labels", [])]
        self._made_from(session, manifest_id, "labels", self._artifacts(session, t.ArtifactKind.LABELS, snapshots))
        if result.get("state"):
            state = self._artifact(session, t.ArtifactKind.TRANSFORM_STATE, artifact_ref(result["state"], "state"))
            self._made_from(session, manifest_id, "transform_state", [state])
        for role, kind in (("predictor", t.ArtifactKind.PREDICTOR), ("dataset", t.ArtifactKind.MANIFEST)):  # of scores
            if result.get(role):
                self._made_from(session, manifest_id, role, [self._artifact(session, kind, artifact_ref(result[role], role))])
        return key

    def _describe(self, session: Session, version: UUID, result: Json) -> None:
        if result.get("profile"):
            profile = self._artifact(session, t.ArtifactKind.PROFILE, artifact_ref(result["profile"], "profile"))
            self._add(session, t.DatasetProfile, dataset_version_id=version, artifact_id=profile)
        failures = [
            {
                "dataset_version_id": version,
                "position": position,
                "column": plain(str(failure["column"])) if failure.get("column") is not None else None,
                "check": plain(str(failure.get("check"))),
                "count": int(failure.get("count") or 0),
                "example": plain(str(failure["example"])) if failure.get("example") is not None else None,
            }
            for position, failure in enumerate(result.get("failures") or [])
        ]
        self._add_all(session, t.ValidationResult, failures)

    def _version(self, session: Session, *where: ColumnElement[bool]) -> DatasetVersion:
        found = session.execute(records.dataset_versions().where(t.DatasetVersion.tenant == self._tenant, *where)).one_or_none()
        if found is None:
            raise NotFound("there is no such dataset version")
        return records.dataset_version(*found)
