"""What rows know of the inference log: how much of a process's answers came into it, and who looks after its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import func, select, update

from perdure.metadata import tables as t
from perdure.metadata.repository.rows import Rows


class InferenceLogRows(Rows):
    """`perdure.serving.log.Ledger` on Postgres."""

    def ended(self, instance: UUID, taken: int, logged: int) -> None:
        """A process that is dead answered so many predictions, of which so many are in the log."""
        i = t.ServingInstance
        with self._database.transaction() as session:
            session.execute(update(i).where(i.id == instance, i.tenant == self._tenant).values(predictions=taken, logged=logged))

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Whether this process is the one that does *name* now, for as long as the block and its connection last."""
        with self._database.transaction() as session:
            number = func.hashtextextended(f"perdure/{self._tenant}/{name}", 0)
            yield bool(session.scalar(select(func.pg_try_advisory_xact_lock(number))))
