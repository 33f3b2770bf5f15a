"""Rows that have done their work are deleted when they are old. What says what happened (answers, commands, votes) never is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_

from perdure.messages.labeling import DeliveryState
from perdure.metadata import tables as t
from perdure.metadata.repository.rows import Rows

SENT = timedelta(days=3)
"""Rows of the outbox, after they were sent."""
ANSWERED = timedelta(days=7)
"""What was answered to a request with an idempotency key."""
PROCESSED = timedelta(days=30)
"""Messages to hooks. One that is sent again later is known by its answers' names. Those that could not be used stay."""

COUNTED = timedelta(days=30)
"""What a serving process counted in a minute; stages of a rollout look back for days."""
GONE = timedelta(days=1)
"""A serving process that was not seen for so long, and of which nothing counted is left."""


class SweepRows(Rows):
    """`perdure.labeling.ports.Sweeper` on Postgres."""

    def sweep(self, limit: int = 5_000) -> int:
        """Delete up to *limit* old rows of each kind; how many that were."""
        o, r, b, d = t.Outbox, t.IdempotentRequest, t.BrowserSession, t.Delivery
        w, i = t.ServingWindow, t.ServingInstance
        counted = exists().where(w.instance_id == i.id)
        return (
            self._delete(o, [o.id], limit, o.sent_at < func.now() - SENT)
            + self._delete(r, [r.id], limit, r.created_at < func.now() - ANSWERED)
            + self._delete(b, [b.id], limit, b.expires_at < func.now())
            + self._delete(d, [d.hook_id, d.key], limit, d.state == DeliveryState.PROCESSED, d.received_at < func.now() - PROCESSED)
            + self._delete(w, [w.instance_id, w.model_version_id, w.role, w.by_id, w.minute], limit, w.minute < func.now() - COUNTED)
            + self._delete(i, [i.id], limit, i.seen_at < func.now() - GONE, ~counted)
        )

    def _delete(self, table: Any, key: list[Any], limit: int, *old: ColumnElement[bool]) -> int:
        """One batch; what another sweeper has in hand is left to it."""
        batch = select(*key).where(table.tenant == self._tenant, *old).limit(limit).with_for_update(skip_locked=True)
        with self._database.transaction() as session:
            return len(session.execute(delete(table).where(tuple_(*key).in_(batch)).returning(table.tenant)).all())
