"""What the repository classes share: inserts that may be repeated, locks by name, artifacts and audit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from perdure.errors import CorruptArtifact
from perdure.keys import identity
from perdure.messages.common import ArtifactRef, Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.jsonb import plain


class Rows:
    """The rows of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database, self._tenant = database, database.tenant

    def _add(self, session: Session, table: type[t.Base], **values: Any) -> bool:
        """Insert a row unless one with a key of it is there. Whether it was inserted."""
        return self._add_all(session, table, [values]) == 1

    def _add_all(self, session: Session, table: type[t.Base], rows: Sequence[Json]) -> int:
        """Insert the *rows* that are not there yet; how many that were."""
        if not rows:
            return 0
        statement = insert(table).on_conflict_do_nothing().returning(table.tenant)
        return len(session.execute(statement, [{"tenant": self._tenant, **row} for row in rows]).all())

    def _lock(self, session: Session, *name: str) -> None:
        """Wait for, and hold until the end of the transaction, the lock on *name*: what is numbered is numbered one by one."""
        session.execute(select(func.pg_advisory_xact_lock(self._number(*name))))

    def _number(self, *name: str) -> ColumnElement[int]:
        """The number of the lock on *name*."""
        return func.hashtextextended("/".join(("perdure", self._tenant, *name)), 0)

    def _audit(self, session: Session, action: str, object_id: UUID, actor: str, *, command_id: str | None = None, **values: Any) -> bool:
        """Append to the audit. False where this command is there already."""
        values["reason"] = plain(values.get("reason", ""))
        return self._add(session, t.Audit, action=action, object_id=object_id, actor=plain(actor), command_id=command_id, **values)

    def _artifact(self, session: Session, kind: t.ArtifactKind, ref: ArtifactRef) -> UUID:
        """The row of this artifact."""
        return self._artifacts(session, kind, [ref])[0]

    def _artifacts(self, session: Session, kind: t.ArtifactKind, refs: Iterable[ArtifactRef]) -> list[UUID]:
        rows = [
            {
                "id": identity(self._tenant, "artifact", ref.uri, ref.sha256),
                "kind": kind,
                "uri": ref.uri,
                "sha256": ref.sha256,
                "size": ref.size,
            }
            for ref in refs
        ]
        # In one order, as two transactions that insert the same files in different orders would wait for each other.
        self._add_all(session, t.Artifact, sorted(rows, key=lambda row: str(row["id"])))
        return [row["id"] for row in rows]  # type: ignore[misc]

    def _made_from(self, session: Session, artifact: UUID, role: str, inputs: Iterable[UUID | None]) -> None:
        """Lineage: *artifact* was made from *inputs*."""
        edges = sorted({key for key in inputs if key is not None and key != artifact})
        self._add_all(session, t.ArtifactInput, [{"artifact_id": artifact, "input_id": key, "role": role} for key in edges])

    def _event(self, session: Session, version: UUID, kind: t.ModelEventKind, subject: UUID, detail: Json) -> None:
        """Something happened to a model version, once per *subject*."""
        self._add(
            session,
            t.ModelEvent,
            id=identity(version, kind, subject),
            model_version_id=version,
            kind=kind,
            subject_id=subject,
            detail=detail,
        )


def artifact_ref(value: Any, what: str) -> ArtifactRef:
    """The reference in a job's result. Raises CorruptArtifact where the job left something else."""
    try:
        return ArtifactRef(uri=value["uri"], sha256=value["sha256"], size=value.get("size") or value.get("bytes") or 0)
    except (TypeError, KeyError, AttributeError) as err:
        raise CorruptArtifact(f"the job's result names no artifact as its {what}", field=what) from err
