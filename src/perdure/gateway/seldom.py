"""What costs much is found out seldom: once for all who ask at the same time, and again only after many times as long as it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from perdure.errors import Transient

T = TypeVar("T")
TIMES = 20  # so it takes a twentieth of the time at most
OLDEST, PASSING = 60.0, 5.0  # seconds: a result, and an error that may pass
AT_ONCE = 0.1  # seconds: what took less is found out each time
_MOST = 1_000  # results that are kept


@dataclass
class _Kept:
    """A result, or the error instead; being found out as long as it has no end."""

    found: asyncio.Future[Any]
    until: float = float("inf")


class Seldom:
    """Results by key. *executor* is where they are found out."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._kept: dict[Hashable, _Kept] = {}

    async def found(self, key: Hashable, work: Callable[[], T]) -> T:
        """What *work* returns or raises, or has a moment ago."""
        kept = self._kept.get(key)
        if kept is None or time.monotonic() > kept.until:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            kept = self._kept[key] = self._begin(work)
        result: T = await asyncio.shield(kept.found)  # who goes away takes it from nobody
        return result

    def _begin(self, work: Callable[[], Any]) -> _Kept:
        timed = _Timed(work)
        kept = _Kept(asyncio.get_running_loop().run_in_executor(self._executor, timed))
        kept.found.add_done_callback(lambda _: self._date(kept, timed.took))
        return kept

    def _date(self, kept: _Kept, took: float) -> None:
        passing = kept.found.cancelled() or isinstance(kept.found.exception(), Transient)  # may be over in a moment
        rest = min(PASSING, took) if passing else min(OLDEST, TIMES * took)
        kept.until = time.monotonic() + rest if took > AT_ONCE else 0.0


class _Timed:
    """Work that knows how long it took: not how long it waited for its turn."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self.took = work, 0.0

    def __call__(self) -> Any:
        began = time.monotonic()
        try:
            return self._work()
        finally:
            self.took = time.monotonic() - began
