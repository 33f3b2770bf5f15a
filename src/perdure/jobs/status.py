"""A job's progress for people: at most one write a second, in a thread of its own, so that work never waits for it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

from perdure.errors import PerdureError
from perdure.jobs.latest import RunState

INTERVAL = 1.0  # seconds
_PATIENCE = 5.0  # seconds that the end of a job waits for its last status


class StatusWriter:
    """Writes what `update` was last given below *run*'s epoch. A lost write is reported in the log and made good by the next one."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._status: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._dirty = self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="status", daemon=True)
        self._thread.start()

    def update(self, **detail: Any) -> None:
        """Merge *detail* into the status and stamp it with the time. Values must not be changed afterwards."""
        with self._changed:
            self._status = {**self._status, **detail, "time": time.time()}
            self._dirty = True
            self._changed.notify()

    @property
    def current(self) -> dict[str, Any]:
        """The status as it is written next, or was last."""
        with self._changed:
            return self._status

    def close(self) -> None:
        """Write what is left to write; waits for a few seconds at most."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_PATIENCE)

    def __enter__(self) -> StatusWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or self._closed)
                if not self._dirty:
                    return
                status, self._dirty = self._status, False
            try:
                self._run.put_status(status)
            except PerdureError as err:
                print(f"status was not written: {err.problem}", flush=True)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, INTERVAL)
