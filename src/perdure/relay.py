"""Tells workflows that rows have changed: the outbox's pokes, as signals.

A poke is a hint. One that is sent twice costs a look, one that is lost costs until the workflow looks by itself; so any number of relays
may run, and one may die at any line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from perdure.errors import Transient
from perdure.labeling.ports import Outbox, Sweeper

POLL = 1.0  # seconds between passes that nobody asked for
REST = 1.0  # seconds between two pokes of the same workflow: more would only fill its history
SWEEP = 60.0  # seconds between looks for old rows
_LONGEST = 15.0  # seconds between tries while Temporal is away

log = logging.getLogger("perdure.relay")


class Signals(Protocol):
    """What the relay needs of Temporal."""

    def poke(self, workflow_ids: list[str]) -> dict[str, str]:
        """Signal ``poke`` to each; those that could not be, and why. One that has ended needs none. Raises TemporalUnavailable.

        Ids that begin with ``retrain/`` are started by it.
        """


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass did, and after how many seconds the next one is due at the latest."""

    poked: int = 0
    rows: int = 0
    failed: int = 0
    swept: int = 0
    away: str | None = None  # the part that did not answer
    pause: float = POLL


class Relay:
    """One pass at a time."""

    def __init__(self, outbox: Outbox, signals: Signals, sweeper: Sweeper, clock: Callable[[], float] = time.monotonic) -> None:
        self._outbox, self._signals, self._sweeper, self._clock = outbox, signals, sweeper, clock
        self._poked: dict[str, float] = {}  # workflows that rest, and since when
        self._failures = 0
        self._swept = clock()

    def run_once(self) -> Pass:
        """Poke every workflow that has unsent rows and does not rest; delete what is old."""
        now = self._clock()
        self._poked = {target: at for target, at in self._poked.items() if now - at < REST}
        try:
            done = self._outbox.deliver("poke", self._signals.poke, self._poked)
            swept = self._sweep(now)
        except Transient as err:
            self._failures += 1
            log.warning("waiting for %s", err.part, extra={"error": err.problem})
            return Pass(away=err.part, pause=min(_LONGEST, 0.5 * 2**self._failures))
        self._failures = 0
        self._poked |= dict.fromkeys(done.told, self._clock())
        oldest = min(self._poked.values(), default=None)
        pause = POLL if oldest is None else max(0.0, min(POLL, oldest + REST - self._clock()))
        return Pass(poked=done.targets, rows=done.rows, failed=done.failed, swept=swept, pause=pause)

    def _sweep(self, now: float) -> int:
        """A batch of old rows; the next one at once where there may be more."""
        if now - self._swept < SWEEP:
            return 0
        self._swept = now  # also where it fails: pokes go first
        swept = self._sweeper.sweep()
        if swept:
            self._swept = now - SWEEP
        return swept
