"""One cell: a run, one kill, and what became of it."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perdure import packaging
from perdure.config import Settings
from tests.chaos import parts
from tests.chaos.watching import Look, Watcher, approve, counts, start

PROJECT = Path(__file__).parent / "project" / "chaos.yaml"
LIMIT = 300.0  # seconds for a run with one kill
LATE = "came too late"


@dataclass(frozen=True)
class Kill:
    """One kill and what followed. ``progress`` is seconds from the kill to the next committed thing or newly trained round."""

    part: str
    step: str
    progress: float
    redone: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run with its kills came to."""

    state: str
    seconds: float
    same_model: bool
    versions: int
    releases: int
    kills: list[Kill]
    problem: str = ""

    @property
    def good(self) -> bool:
        whole = self.state == "succeeded" and self.same_model and self.versions == self.releases == 1
        return whole and not self.problem and not any(kill.problem for kill in self.kills)

    @property
    def missed(self) -> bool:
        """Whether a kill came when its step was over: nothing is wrong, and nothing is shown."""
        return any(kill.problem.startswith(LATE) for kill in self.kills)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "good": self.good}


class World:
    """A stack with the chaos pipeline applied, and the model that an undisturbed run gives."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(home=home)
        packaging.apply(PROJECT, self.settings, actor="chaos")
        self.undisturbed: str | None = None

    def run(self, kills: Mapping[str, str], random_: random.Random) -> Outcome:
        """One run in which *kills* (part by step) happen. The first run must have none: its model is what all others must give."""
        workflow_id = f"run/chaos/{uuid.uuid4().hex[:12]}"
        asyncio.run(start(self.settings, workflow_id))
        watcher = Watcher(self.settings, workflow_id)
        began = time.monotonic()
        done = [self._kill(watcher, kills[step], step, random_) for step in parts.STEPS if step in kills]
        if "promote" not in kills:
            watcher.until(lambda look: look.step == "promote" or _ended(look), LIMIT)
            asyncio.run(approve(self.settings, workflow_id))
        detail = watcher.until(_ended, LIMIT).detail
        watcher.close()
        assert detail is not None
        if not kills:
            self.undisturbed = detail.predictor_sha256
        return Outcome(
            state=str(detail.run.state),
            seconds=round(time.monotonic() - began, 1),
            same_model=detail.predictor_sha256 == self.undisturbed,
            kills=done,
            problem=(detail.run.error or {}).get("message", ""),
            **counts(self.settings, detail.run.id),
        )

    def _kill(self, watcher: Watcher, part: str, step: str, random_: random.Random) -> Kill:
        before = self._moment(watcher, step, random_)
        killed = time.monotonic()
        pids = parts.kill(self.home, part, lambda: list(before.status.get("workers", [])))
        if part == "all":
            parts.revive(self.home)
        if step == "promote":
            asyncio.run(approve(self.settings, watcher.workflow_id))
        progress = round(watcher.until(lambda look: _further(before, look), LIMIT).at - killed, 2)
        redone, problem = _redone(before, watcher.until(_settled, LIMIT)) if step == "train" else (0, "")
        if before.step != step:
            problem = f"{LATE}: {before.step or 'nothing'} ran"
        elif not pids:
            problem = f"found no process of {part}"
        elif step == "train" and part in parts.UNFELT and watcher.look().latest.epoch != before.latest.epoch:
            problem = "training was restarted, though nothing that it needs died"
        return Kill(part, step, progress, redone, problem)

    def _moment(self, watcher: Watcher, step: str, random_: random.Random) -> Look:
        """A random moment inside *step*."""
        if step == "train":
            wanted = random_.randint(25, 200)
            return watcher.until(lambda look: look.round >= wanted or _ended(look), LIMIT, every=0.05)
        watcher.until(lambda look: look.step == step or _ended(look), LIMIT, every=0.05)
        time.sleep(random_.uniform(0.0, 1.5 if step == "prepare" else 0.4))
        return watcher.look()


def _ended(look: Look) -> bool:
    return look.detail is not None and not look.detail.run.state.is_live


def _further(before: Look, look: Look) -> bool:
    """Something was committed since, or a round trained that had not been trained before."""
    if before.step == "train" and look.step == "train" and look.latest.result is None:
        return look.round > before.round
    return look.done() != before.done()


def _settled(look: Look) -> bool:
    return look.latest.result is not None or bool(look.status.get("history")) or _ended(look)


def _redone(before: Look, after: Look) -> tuple[int, str]:
    """Rounds trained twice, and what is wrong if more than the last committed checkpoint allows."""
    if after.latest.epoch == before.latest.epoch:
        return 0, ""
    history = after.status.get("history") or [[before.committed + 1]]
    resumed = int(history[0][0]) - 1
    problem = "" if resumed >= before.committed else f"went on from round {resumed}, though {before.committed} was committed"
    return max(0, before.round - resumed), problem
