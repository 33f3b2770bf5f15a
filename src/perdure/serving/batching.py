"""Requests that come while others are scored are scored together next: who comes alone goes at once, and nobody waits for company."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from perdure.errors import ModelUnavailable
from perdure.serving.reading import Column, Reader

_BATCHES = 100
"""So many batches' rows may wait: bodies are small, what is read of them is not."""

log = logging.getLogger("perdure.serving")


class Scores(Protocol):
    """What is asked for scores; a batch at a time, in a thread."""

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Scores of raw rows, in their order."""


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One request in a batch. ``told`` is whatever its sender wants to find again beside the answer."""

    columns: list[Column]
    rows: int
    told: Any = None
    started: float = field(default_factory=time.perf_counter)
    answer: asyncio.Future[tuple[Batch, int]]


@dataclass(slots=True, kw_only=True, eq=False)
class Batch:
    """What was scored together: raw rows, their scores, and whose they are. ``lists`` are the scores by column as Python has them.

    ``ended`` is when they were there: counting comes after answering, which takes its time.
    """

    entries: list[Entry]
    rows: pl.DataFrame
    scores: pl.DataFrame
    lists: dict[str, list[Any]]
    ended: float = field(default_factory=time.perf_counter)


class Batcher:
    """Scores the requests of one version, one batch at a time; *done* is told of every batch right after its answers.

    Once *waiting* requests wait, or the rows of a hundred batches, one more is refused. What fails in company is tried alone, as one may be
    the cause.
    """

    def __init__(self, reader: Reader, scores: Scores, pool: Executor, *, most: int, waiting: int, done: Callable[[Batch], None]) -> None:
        self._reader, self._scores, self._pool, self._most, self._bound, self._done = reader, scores, pool, most, waiting, done
        self._queue: deque[Entry] = deque()
        self._rows = 0  # in the queue
        self._task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        return len(self._queue) >= self._bound or self._rows >= _BATCHES * self._most

    def add(self, columns: list[Column], rows: int, told: Any = None) -> asyncio.Future[tuple[Batch, int]]:
        """The batch of these rows and the place of the first in it, once they are scored. Raises ModelUnavailable where too many wait."""
        if self.full:
            raise ModelUnavailable("more requests wait for this model than it answers", remedy="send again in a few seconds")
        entry = Entry(columns=columns, rows=rows, told=told, answer=asyncio.get_running_loop().create_future())
        self._queue.append(entry)
        self._rows += rows
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return entry.answer

    async def _run(self) -> None:
        try:
            while self._queue:
                taken = [self._queue.popleft()]
                size = taken[0].rows
                while self._queue and size + self._queue[0].rows <= self._most:
                    taken.append(self._queue.popleft())
                    size += taken[-1].rows
                self._rows -= size
                if taken := [entry for entry in taken if not entry.answer.done()]:  # the others have gone
                    await self._serve(taken)
        finally:
            self._task = None

    async def _serve(self, taken: list[Entry]) -> None:
        try:
            batch = await asyncio.get_running_loop().run_in_executor(self._pool, self._score, taken)
        except Exception as err:
            if len(taken) == 1:
                if not taken[0].answer.done():
                    taken[0].answer.set_exception(err)
            else:
                for entry in taken:
                    if not entry.answer.done():  # else nobody waits for it any more
                        await self._serve([entry])
            return
        at = 0
        for entry in taken:
            if not entry.answer.done():
                entry.answer.set_result((batch, at))
            at += entry.rows
        asyncio.get_running_loop().call_soon(self._tell, batch)  # after those who wait were told

    def _tell(self, batch: Batch) -> None:
        try:
            self._done(batch)
        except Exception:
            log.exception("what was answered could not be counted or kept")

    def _score(self, entries: list[Entry]) -> Batch:
        rows = self._reader.frame([entry.columns for entry in entries])
        scores = self._scores.predict(rows)
        return Batch(entries=entries, rows=rows, scores=scores, lists={name: scores[name].to_list() for name in scores.columns})
