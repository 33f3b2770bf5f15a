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
COMPANY_SECONDS = 0.001
"""So long after a common transaction its callers may send again, to share the next one, too: half the price for each of them."""


class Together(Generic[T, R]):
    """Calls *work* with the items of many callers at once, one call at a time; each caller gets the results of its own items.

    Who comes alone goes alone, at once. Callers beyond *waiting* items are refused. If *work* fails for a lasting reason, each caller's
    items are tried alone, as one of them may be the cause. *idle* is called when nothing is left to do.
    """

    def __init__(
        self,
        work: Callable[[list[T]], Awaitable[list[R]]],
        *,
        most: int = 500,
        waiting: int = 5_000,
        idle: Callable[[], object] = lambda: None,
    ) -> None:
        self._work, self._most, self._bound, self._idle = work, most, waiting, idle
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
                if len(taken) > 1:
                    await asyncio.sleep(COMPANY_SECONDS)
        finally:
            self._task = None
            self._idle()

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
