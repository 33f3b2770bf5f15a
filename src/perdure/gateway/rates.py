"""How often somebody may call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

BURST_SECONDS = 10.0  # what was not called in so long may be called at once


class Rates:
    """Counts calls by name, in this process: *rate* a second, and what was saved in ten seconds at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = rate, max(1.0, rate * BURST_SECONDS), clock
        self._saved: dict[str, tuple[float, float]] = {}  # calls that are left, and when that was counted

    def wait(self, name: str) -> int:
        """0 where this call may go on; else after how many seconds another may."""
        now = self._clock()
        left, at = self._saved.get(name, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        if left < 1:
            return math.ceil((1 - left) / self._rate)
        self._saved[name] = (left - 1, now)
        return 0
