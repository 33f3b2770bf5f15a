"""Group commit: what comes while a transaction is on its way goes into the next one, together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from perdure.errors import Transient
from perdure.gateway.problems import busy

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Calls *work* with the items of many callers at once, one call at a time; each caller gets the results of its own items.

    Nobody waits for company: an item that comes alone goes alone. Callers beyond *waiting* items are refused. If *work* fails for a
    lasting reason, each caller's items are tried alone, as one of them may be the cause.
    """

    def __init__(self, work: Callable[[list[T]], Awaitable[list[R]]], *, most: int = 500, waiting: int = 5_000) -> None:
        self._work, self._most, self._bound = work, most, waiting
        self._queue: deque[tuple[Sequence[T], asyncio.Future[list[R]]]] = deque()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, items: Sequence[T]) -> list[R]:
        """The results of *items*, once they are done. Raises StoreUnavailable where too many wait, and what *work* raises."""
        if self._waiting and self._waiting + len(items) > self._bound:
            raise busy()
        future: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()
        self._queue.append((items, future))
        self._waiting += len(items)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is on its way."""
        return self._task is None

    async def _run(self) -> None:
        try:
            while self._queue:
                taken = [self._queue.popleft()]
                size = len(taken[0][0])
                while self._queue and size + len(self._queue[0][0]) <= self._most:
                    taken.append(self._queue.popleft())
                    size += len(taken[-1][0])
                await self._serve(taken)
                self._waiting -= size
        finally:
            self._task = None

    async def _serve(self, taken: list[tuple[Sequence[T], asyncio.Future[list[R]]]]) -> None:
        try:
            results = await self._work([item for items, _ in taken for item in items])
        except Exception as err:
            if len(taken) == 1 or isinstance(err, Transient):
                for _, future in taken:
                    if not future.done():
                        future.set_exception(err)
            else:
                for each in taken:
                    await self._serve([each])
            return
        at = 0
        for items, future in taken:
            if not future.done():  # its caller has gone
                future.set_result(results[at : at + len(items)])
            at += len(items)
