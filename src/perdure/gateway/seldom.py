"""What costs much is found out seldom: once for all who ask at the same time, and again only after many times as long as it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")
TIMES = 20  # so it takes a twentieth of the time at most
AT_ONCE = 0.1  # seconds: what took less is found out each time
_MOST = 1_000  # results that are kept


class Seldom:
    """Results by key. *executor* is where they are found out."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._found: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}

    async def found(self, key: Hashable, work: Callable[[], T]) -> T:
        """What *work* returns, or has returned a moment ago; what it raises, too, but that is not kept."""
        until, found = self._found.get(key, (0.0, None))
        if found is None or time.monotonic() > until:
            if len(self._found) >= _MOST:
                self._found.clear()
            found = asyncio.ensure_future(self._find(key, work))
            self._found[key] = (float("inf"), found)
        return await asyncio.shield(found)  # who goes away takes it from nobody

    async def _find(self, key: Hashable, work: Callable[[], T]) -> T:
        began, kept = time.monotonic(), 0.0
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._executor, work)
            took = time.monotonic() - began
            kept = TIMES * took if took > AT_ONCE else 0.0
            return result
        finally:
            if kept and key in self._found:
                self._found[key] = (time.monotonic() + kept, self._found[key][1])
            else:
                self._found.pop(key, None)
