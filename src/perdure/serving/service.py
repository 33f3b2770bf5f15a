"""One serving process: what it opens, and what it does beside answering: read rows, report itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID, uuid4

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.errors import PerdureError
from perdure.metadata.database import Database
from perdure.metadata.listening import TRAFFIC, Listener
from perdure.metadata.queries.routing import routes
from perdure.metadata.repository.access import AccessRows
from perdure.metadata.repository.serving import ServingRows, WindowRow
from perdure.serving import keeping
from perdure.serving.answering import Answering
from perdure.serving.counting import Counts
from perdure.serving.directory import Directory
from perdure.serving.scored import LogPolicy, Recorder
from perdure.serving.shelf import Shelf
from perdure.web.keys import Keys

P = ParamSpec("P")
T = TypeVar("T")
POLL = 1.0
"""Seconds between looks at rows that nobody asked for, and between reports."""

Keeps = Callable[[Settings, Database, UUID], tuple[Recorder | None, Callable[[str, Sequence[str]], LogPolicy]]]
"""Makes the inference log of a process (by its instance's id), and tells what of a model's predictions is kept, given personal columns."""

log = logging.getLogger("perdure.serving")


def nothing_kept(settings: Settings, database: Database, instance: UUID) -> tuple[None, Callable[[str, Sequence[str]], LogPolicy]]:
    """No inference log."""
    return None, lambda model, personal: LogPolicy()


class Service:
    """What routes work with."""

    def __init__(self, settings: Settings, database: Database, keeps: Keeps) -> None:
        self.settings, self.instance, self._database = settings, uuid4(), database
        self._recorder, policy = keeps(settings, database, self.instance)
        self.counts = Counts()
        objects = ObjectStore(settings.s3, attempts=3)
        self.shelf = Shelf(
            settings,
            objects.download,
            answered=lambda version, batch: self.answering.answered(version, batch),
            shadowed=lambda version, batch: self.answering.shadowed(version, batch),
        )
        self.directory = Directory(settings.serving, self.shelf)
        self.answering = Answering(settings.serving, self.directory, self.counts, self._recorder, policy)
        self._rows, self._access = ServingRows(database), AccessRows(database)
        self._pool = ThreadPoolExecutor(3, thread_name_prefix="rows")
        self.keys = Keys(lambda digest: self._call(self._access.key, digest), away=settings.serving.stale)
        self._away = False

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, keeps: Keeps = keeping.keeps) -> AsyncIterator[Service]:
        """A process's service: it reads rows and reports itself until the end of the block. *keeps* makes its inference log."""
        with Database.open(settings) as database, Listener.open(settings.postgres, TRAFFIC) as listener:
            service = cls(settings, database, keeps)
            tasks = [asyncio.create_task(service._watch(listener)), asyncio.create_task(service._report_on())]
            try:
                yield service
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                service.shelf.close()
                if service._recorder is not None:
                    await service._call(service._recorder.close)
                with suppress(PerdureError):
                    await service._report()
                service._pool.shutdown(wait=True)

    async def look(self) -> None:
        """Read the rows now."""
        found = await self._call(routes, self._database)
        self.directory.take(found)

    async def _watch(self, listener: Listener) -> None:
        while True:
            with self._patience():
                await self.look()
            await self._call(listener.wait, POLL)

    async def _report_on(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            with self._patience():
                await self._report()

    async def _report(self) -> None:
        now, windows = time.time(), self.counts.windows()
        rows = [
            WindowRow(
                version=each.version,
                role=each.role,
                by=each.by,
                minute=datetime.fromtimestamp(each.minute, UTC),
                requests=each.requests,
                rows=each.rows,
                errors=each.errors,
                latency=each.latency,
                disagreements=each.disagreements,
            )
            for each in windows
        ]
        serving, loaded = self.settings.serving, sorted(self.shelf.loaded)
        failed = {id: failure.reason for id, failure in self.shelf.failed.items() if failure.lasting}  # the others are tried again
        written = False
        try:
            await self._call(
                lambda: self._rows.report(
                    self.instance,
                    serving.address or f"http://{serving.host}:{serving.port}",
                    loaded=loaded,
                    failed=failed,
                    predictions=self.counts.predictions,
                    logged=self._recorder.figures().logged if self._recorder else 0,
                    windows=rows,
                )
            )
            written = True
        finally:
            self.counts.settled(now, written=written)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """What fails is tried again by whoever calls; it is told once."""
        try:
            yield
        except Exception as err:
            if not self._away:
                error = err.problem if isinstance(err, PerdureError) else repr(err)
                log.warning("goes on with what it knows", extra={"error": error}, exc_info=not isinstance(err, PerdureError))
            self._away = True
        else:
            self._away = False

    async def _call(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """*work* in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *arguments, **named))
