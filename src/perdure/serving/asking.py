"""Questions about predictions, on their way from a serving process into the standing campaign of their model.

What was chosen is written to a file before it is sent, and the file goes once it is: a task has the prediction's id as its key, so any
process of this machine may send what another one left, and twice does no harm.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import polars as pl

from perdure.errors import PerdureError, Permanent, bounded
from perdure.labeling.ports import NewTask
from perdure.messages.common import Json
from perdure.serving.questions import chosen
from perdure.serving.scored import LogPolicy

MOST_FILES = 10_000
"""Questions that wait while Postgres is away; more are not asked."""
_POLL, _LONGEST = 5.0, 60.0  # seconds

log = logging.getLogger("perdure.serving.asking")


class Campaigns(Protocol):
    """What is needed of rows."""

    def ask(self, model: str, spec: Json, tasks: Sequence[NewTask], most_open: int | None = None) -> int:
        """Add tasks to the model's standing campaign, each once."""


class Asker:
    """`perdure.serving.log.Asks` by way of files in *folder*."""

    def __init__(self, folder: Path, campaigns: Campaigns) -> None:
        self._folder, self._campaigns = folder, campaigns
        folder.mkdir(parents=True, exist_ok=True)
        self._waiting = len([*folder.glob("*.json")])
        self._due, self._stop = threading.Event(), threading.Event()
        self._due.set()
        self._thread = threading.Thread(target=self._run, name="asking", daemon=True)
        self._thread.start()

    def choose(self, model: str, policy: LogPolicy, rows: pl.DataFrame) -> None:
        """Ask about some of these *rows* of the log. Never waits."""
        assert policy.ask is not None
        tasks = chosen(rows, policy.ask)
        if not tasks or self._waiting >= MOST_FILES:
            return
        told = {"model": model, "spec": policy.ask.campaign, "most_open": policy.ask.most_open, "tasks": [asdict(each) for each in tasks]}
        path = self._folder / f"{uuid4().hex}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(told))
        os.replace(part, path)
        self._waiting += 1
        self._due.set()

    def close(self, seconds: float = 5.0) -> None:
        """Send what is there, for so long at most."""
        self._stop.set()
        self._due.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        pause = _POLL
        while not self._stop.is_set():
            self._due.wait(pause)
            self._due.clear()
            try:
                self._send()
                pause = _POLL
            except Exception as err:
                told = log.warning if isinstance(err, PerdureError) else log.exception
                told("questions wait", extra={"error": bounded(str(err), 500)})
                pause = min(_LONGEST, pause * 2)
                self._stop.wait(1)

    def _send(self) -> None:
        files = sorted(self._folder.glob("*.json"))
        self._waiting = len(files)
        for path in files:
            try:
                told = json.loads(path.read_text())
                tasks = [NewTask(**each) for each in told["tasks"]]
                self._campaigns.ask(told["model"], told["spec"], tasks, told["most_open"])
            except FileNotFoundError:
                continue  # another process has sent it
            except (ValueError, KeyError, TypeError):  # it lost its content with the machine's power
                log.warning("a file of questions cannot be read", extra={"file": path.name})
            except Permanent as err:  # somebody has closed the campaign, say: nobody is to be asked
                log.warning("nobody is asked", extra={"model": told["model"], "error": err.problem})
            path.unlink(missing_ok=True)
            self._waiting -= 1
