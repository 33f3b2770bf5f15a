"""kill -9 at random moments, until enough are dead; the supervisor brings them back."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from perdure.local import stack

VICTIMS = ("gateway", "relay", "worker", "postgres")


class Attack:
    """A thread that kills one victim after the other, every ``pause`` seconds on average. ``done`` counts kills by victim."""

    def __init__(self, home: Path, kills: int, chosen: random.Random, pause: float = 1.5) -> None:
        self._home, self._kills, self._chosen, self._pause = home, kills, random.Random(chosen.random()), pause
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._run)
        self.done: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        deadline = time.monotonic() + 120
        while not all(service.state == "ready" for service in stack.status(self._home) if service.name in VICTIMS):
            assert time.monotonic() < deadline, "what was killed does not come back"
            time.sleep(0.1)

    @property
    def over(self) -> bool:
        """Whether enough are dead."""
        return self.done.total() >= self._kills

    def _run(self) -> None:
        while not self.over and not self._stop.wait(self._chosen.uniform(self._pause / 3, self._pause * 5 / 3)):
            victim = self._chosen.choice(VICTIMS)
            pids = [service.pid for service in stack.status(self._home) if service.name == victim and service.pid]
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.done[victim] += 1
