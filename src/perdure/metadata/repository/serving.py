"""What serving processes say of themselves, and what they counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.rows import Rows

_AT_ONCE = 1_000  # rows of a statement: it may have 65,535 parameters


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    """Counts of one version in one role and minute. ``by``: the row of the release, or of the traffic, by which it took part."""

    version: UUID
    role: str
    by: UUID
    minute: datetime
    requests: int
    rows: int
    errors: int
    latency: list[int]
    disagreements: int


class ServingRows(Rows):
    """`serving_instance` and `serving_window`: rows of one process, written over and over by itself alone."""

    def report(
        self,
        instance: UUID,
        address: str,
        *,
        loaded: Sequence[UUID],
        failed: Mapping[UUID, str],
        predictions: int,
        logged: int,
        windows: Sequence[WindowRow],
    ) -> None:
        """This process is alive, and this is what it counted so far; the same again changes nothing but the time."""
        said = {
            "address": plain(address),
            "loaded": [str(each) for each in loaded],
            "failed": {str(id): plain(reason) for id, reason in failed.items()},
            "predictions": predictions,
            "logged": logged,
        }
        with self._database.transaction() as session:
            mine = insert(t.ServingInstance).values(tenant=self._tenant, id=instance, seen_at=func.clock_timestamp(), **said)
            session.execute(mine.on_conflict_do_update(index_elements=["id"], set_={**said, "seen_at": func.clock_timestamp()}))
            for first in range(0, len(windows), _AT_ONCE):
                rows = insert(t.ServingWindow).values(
                    [
                        {
                            "tenant": self._tenant,
                            "instance_id": instance,
                            "model_version_id": each.version,
                            "role": each.role,
                            "by_id": each.by,
                            "minute": each.minute,
                            "requests": each.requests,
                            "rows": each.rows,
                            "errors": each.errors,
                            "latency": each.latency,
                            "disagreements": each.disagreements,
                        }
                        for each in windows[first : first + _AT_ONCE]
                    ]
                )
                counted = ("requests", "rows", "errors", "latency", "disagreements")
                session.execute(
                    rows.on_conflict_do_update(
                        index_elements=["instance_id", "model_version_id", "role", "by_id", "minute"],
                        set_={name: rows.excluded[name] for name in counted},
                    )
                )
