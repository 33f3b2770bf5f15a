"""What rows know of the inference log: how much of a process's answers came into it, and who looks after its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import func, select, update

from perdure.metadata import tables as t
from perdure.metadata.database import translated
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
        number = self._number(name)
        # no transaction: one that is idle for long is ended by the server
        with translated(), self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            mine = bool(connection.scalar(select(func.pg_try_advisory_lock(number))))
            try:
                yield mine
            finally:
                if mine:
                    connection.execute(select(func.pg_advisory_unlock(number)))
