"""What is to be told outside, once the rows that it is about are committed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import func, select, text, update

from perdure.labeling.ports import Backlog, Delivered, Send
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.rows import Rows

_AGAIN = text("now() + least(600, power(2, least(attempts, 10))) * interval '1 second'")  # after 1, 2, 4, … seconds, 10 minutes at most


class OutboxRows(Rows):
    """`perdure.labeling.ports.Outbox` on Postgres."""

    def deliver(self, topic: str, send: Send, resting: Collection[str] = (), limit: int = 500) -> Delivered:
        """Hand the targets of unsent rows to *send*, each once, and mark exactly the rows that were read.

        Ids are drawn before a commit, so a lower one may appear later: "all up to here" would mark rows that nobody has seen. The rows are
        locked while *send* works, and free again at once if this process dies.
        """
        o = t.Outbox
        due = (
            select(o.id, o.target)
            .where(o.tenant == self._tenant, o.topic == topic, o.sent_at.is_(None), o.due_at <= func.now())
            .order_by(o.due_at, o.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if resting:
            due = due.where(o.target.not_in(resting))
        with self._database.transaction() as session:
            rows: dict[str, list[int]] = defaultdict(list)
            for id, target in session.execute(due):
                rows[target].append(id)
            if not rows:
                return Delivered(targets=0, rows=0, failed=0)
            failed = send(list(rows))
            sent = [id for target, ids in rows.items() if target not in failed for id in ids]
            session.execute(update(o).where(o.id.in_(sent)).values(sent_at=func.now(), attempts=o.attempts + 1, error=None))
            for target, why in failed.items():
                session.execute(update(o).where(o.id.in_(rows[target])).values(attempts=o.attempts + 1, error=plain(why), due_at=_AGAIN))
        return Delivered(targets=len(rows) - len(failed), rows=len(sent), failed=len(failed), told=frozenset(rows) - frozenset(failed))

    def unsent(self, topic: str) -> Backlog:
        """How many rows wait, and how long the oldest has been due."""
        o = t.Outbox
        query = select(func.count(), func.max(func.extract("epoch", func.now() - o.due_at)))
        with self._database.transaction() as session:
            row = session.execute(query.where(o.tenant == self._tenant, o.topic == topic, o.sent_at.is_(None))).one()
        return Backlog(rows=row[0], oldest=timedelta(seconds=max(0.0, float(row[1] or 0))))
