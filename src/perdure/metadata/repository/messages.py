"""What people are to be told: rows of the outbox, one for each channel, so that one that fails repeats nothing on the other."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from perdure.labeling.ports import Message
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.rows import Rows

CHANNELS = {"notify": "hook", "slack": "slack"}
"""Topics of the outbox, and the channel that each is told by."""
CLAIMED = timedelta(minutes=2)  # longer than any attempt: after this, whoever claimed it is dead


def tell(session: Session, tenant: str, target: str | None, **payload: object) -> None:
    """Have *target* told of what this transaction commits; nobody, where the specification names nobody."""
    if target and target != "unknown":
        rows = [{"tenant": tenant, "topic": topic, "target": plain(target), "payload": payload} for topic in CHANNELS]
        session.execute(insert(t.Outbox), rows)
        session.execute(select(func.pg_notify("perdure_outbox", "")))


class MessageRows(Rows):
    """`perdure.labeling.ports.Messages` on Postgres."""

    def claim(self) -> Message | None:
        """One message that is due; nobody else gets it for two minutes."""
        o = t.Outbox
        due = (
            select(o.id, o.topic, o.target, o.payload, o.attempts)
            .where(o.tenant == self._tenant, o.topic.in_(CHANNELS), o.sent_at.is_(None), o.due_at <= func.now())
            .order_by(o.due_at, o.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._database.transaction() as session:
            row = session.execute(due).one_or_none()
            if row is None:
                return None
            session.execute(update(o).where(o.id == row.id).values(attempts=o.attempts + 1, due_at=func.now() + CLAIMED))
        return Message(id=row.id, channel=CHANNELS[row.topic], target=row.target, payload=row.payload, attempt=row.attempts)

    def settle(self, id: int, problem: str | None, retry_after: float | None) -> None:
        """It was told, or is told again after so many seconds, or (a *problem*, and no time) never."""
        ended = {"sent_at": func.now()} if retry_after is None else {"due_at": func.now() + timedelta(seconds=retry_after)}
        with self._database.transaction() as session:
            session.execute(
                update(t.Outbox).where(t.Outbox.id == id, t.Outbox.sent_at.is_(None)).values(error=problem and plain(problem), **ended)
            )
