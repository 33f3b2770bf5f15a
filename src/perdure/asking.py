"""Standing campaigns about predictions: they exist and run where the specification asks, and what users call wrong is a task in them.

One pass at a time, every few seconds and whenever somebody says `wrong`. All is made equal to rows, so a pass that is lost or done twice
by two processes changes nothing. What a model is not sure of, and what chance chooses, is added by the serving processes themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perdure.errors import PerdureError
from perdure.labeling.chosen import FLAGGED
from perdure.labeling.ports import CampaignRow, NewTask
from perdure.messages.common import Json
from perdure.metadata.repository.asking import Wanted
from perdure.predictions import parse
from perdure.serving.questions import WRONG, task

POLL = 5.0  # seconds between passes that nobody asked for
RUNNING = 30.0  # seconds between looks whether a campaign's workflow runs
_SOON, _LONGEST = 0.25, 600.0  # seconds between tries to find a prediction, which comes into the log some seconds after its answer
_YOUNG = 10.0  # seconds for which it is tried often

log = logging.getLogger("perdure.asking")


class Rows(Protocol):
    """What is needed of rows; see `perdure.metadata.repository.asking`."""

    def wanted(self) -> list[Wanted]:
        """What specifications say of each model that serves."""

    def campaign(self, model: str, spec: Json) -> CampaignRow:
        """The model's standing campaign, opened where it is missing."""

    def flagged(self, wanted: Wanted, limit: int = 200) -> list[str]:
        """Predictions that are said to be wrong, and that nobody is asked about yet."""

    def ask(self, model: str, spec: Json, tasks: Sequence[NewTask], most_open: int | None = None) -> int:
        """Add tasks."""

    def standing(self) -> list[CampaignRow]:
        """Open campaigns about predictions."""


Find = Callable[[str, Collection[str]], list[dict[str, Any]]]
"""The rows of a model's inference log with these ids. Raises ObjectsUnavailable."""
Start = Callable[[CampaignRow], None]
"""Start a campaign's workflow, unless it runs. Raises TemporalUnavailable."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass did: tasks that are new, and after how many seconds the next one is due."""

    asked: int
    failed: int
    pause: float


class Asking:
    """Makes campaigns about predictions equal to what rows say."""

    def __init__(self, rows: Rows, find: Find, start: Start, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._find, self._start, self._clock = rows, find, start, clock
        self._started: dict[str, float] = {}
        self._missing: dict[str, tuple[float, float]] = {}  # prediction: when it is looked for again, and how long after that

    def run_once(self) -> Pass:
        """One pass. What cannot be done for one model is done for the others, and tried again."""
        asked, failed = 0, 0
        try:
            wanted = [each for each in self._rows.wanted() if each.campaign is not None]
        except PerdureError as err:
            log.warning("nobody is asked for now", extra={"error": err.problem})
            return Pass(asked=0, failed=1, pause=POLL)
        there: set[str] = set()
        for each in wanted:
            try:
                asked += self._flagged(each, there)
            except PerdureError as err:
                failed += 1
                log.warning("nobody is asked for now", extra={"model": each.model, "error": err.problem})
        self._missing = {id: when for id, when in self._missing.items() if id in there}
        try:
            self._run_all()
        except PerdureError as err:
            failed += 1
            log.warning("campaigns wait for Temporal", extra={"error": err.problem})
        due = min((at - self._clock() for at, _ in self._missing.values()), default=POLL)
        return Pass(asked=asked, failed=failed, pause=max(0.05, min(POLL, due)))

    def _flagged(self, wanted: Wanted, there: set[str]) -> int:
        """Ask about what users called wrong; predictions that are not in the log yet are looked for later."""
        assert wanted.campaign is not None
        assert wanted.ask is not None
        self._rows.campaign(wanted.model, wanted.campaign)
        if not wanted.ask.flagged:
            return 0
        ids, now = self._rows.flagged(wanted), self._clock()
        there.update(ids)
        due = [id for id in ids if self._missing.get(id, (now, 0.0))[0] <= now]
        if not due:
            return 0
        found = {row["id"]: row for row in self._find(wanted.model, due)}
        for id in due:
            before = self._missing.get(id, (0.0, 0.0))[1]
            pause = _SOON if time.time() - parse(id).at.timestamp() < _YOUNG else min(_LONGEST, max(_SOON, 2 * before))
            if id in found:
                self._missing.pop(id, None)
            else:
                self._missing[id] = (now + pause, pause)
        tasks = [task(row, wanted.ask.payload, WRONG, chosen=FLAGGED) for row in found.values()]
        return self._rows.ask(wanted.model, wanted.campaign, tasks) if tasks else 0

    def _run_all(self) -> None:
        now = self._clock()
        for row in self._rows.standing():
            if now - self._started.get(row.name, -RUNNING) >= RUNNING:
                self._start(row)
                self._started[row.name] = now
