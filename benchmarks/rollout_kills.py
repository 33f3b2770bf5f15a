"""Everything is killed with -9 at random points of rollouts. ``python -m benchmarks.rollout_kills [KILLS [SEED]]``

Two versions of one model are trained once; each cell then rolls out the one that does not serve, by a whole run whose other steps come from
the cache. In two of five cells the canary fails its probes. A client asks all the time. After each cell: was the version released or rolled
back, is exactly one release open and no stage, did the run end as its rows say, after how many seconds from the start of the stack was the
model served again; and of every answer, whether the row by which it was given (of a release, or of a canary) was open then. A serving
process hears of a change by NOTIFY, or a second later: so long an answer may lag behind its row, and is counted apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from benchmarks.common import ROOT, record
from perdure import packaging
from perdure.config import Settings
from perdure.errors import PerdureError
from perdure.local import stack
from perdure.local.files import Home
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_run
from perdure.temporal import connect
from tests.chaos import parts

PROJECT = ROOT / "tests" / "chaos" / "project" / "rollout.yaml"
SERVICES = {"postgres", "s3", "temporal", "worker", "relay", "reconciler", "serving"}
SEEDS = (7, 8)
LONGEST = 11.0  # seconds of a rollout that nobody disturbs
LIMIT = 240.0
LAG = timedelta(seconds=1)


@dataclass(frozen=True)
class Cell:
    """One rollout with one kill, ``after`` seconds from its first stage."""

    after: float
    stage: str
    failing: bool
    released: bool
    reason: str
    up: float  # seconds that the stack took to start again
    served: float | None  # seconds from its start to the first answer
    ended: float  # seconds from its start to the end of the run
    problem: str


class Client(threading.Thread):
    """Asks one row after the other, and keeps who answered when."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self.stopped = url, threading.Event()
        self.answers: list[tuple[datetime, datetime, str]] = []
        self.failed = 0

    def run(self) -> None:
        while not self.stopped.wait(0.05):
            asked = datetime.now(UTC)
            body = json.dumps({"rows": [{"text": f"call {uuid.uuid4()} now"}]}).encode()
            request = urllib.request.Request(self._url, body, {"content-type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    told = json.load(response)
            except (OSError, ValueError, urllib.error.URLError):
                self.failed += 1
                continue
            self.answers.append((asked, datetime.now(UTC), told["answered_by"]))


class Rollouts:
    """A stack, and the model whose versions take turns."""

    def __init__(self, home: Path) -> None:
        self.home, self.settings = home, Settings(home=home)
        self.database = Database(self.settings.postgres)

    def start(self, seed: int) -> str:
        """A run that gives, or finds, the version of this seed."""
        workflow_id = f"run/rollout/{uuid.uuid4().hex[:8]}"

        async def begin() -> None:
            client = await connect(self.settings)
            request = {"pipeline": "rollout", "params": {"seed": seed}, "requested_by": "bench"}
            await client.start_workflow("TrainingPipeline", request, id=workflow_id, task_queue="perdure")
            await asyncio.sleep(0.1)

        asyncio.run(begin())
        return workflow_id

    def detail(self, workflow_id: str) -> RunDetail | None:
        with suppress(PerdureError):
            return show_run(self.database, workflow_id)
        return None

    def ended(self, workflow_id: str, *, fail: bool = False) -> RunDetail:
        """The run at its end; *fail* its canary before."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            if fail and (canary := [row for row in self.stages() if row.kind == t.TrafficKind.CANARY]):
                self.fail(canary[0])
                fail = False
            detail = self.detail(workflow_id)
            if detail is not None and not detail.run.state.is_live:
                return detail
            time.sleep(0.1)
        raise TimeoutError(f"{workflow_id} has not ended within {LIMIT} s")

    def stages(self, promotion: uuid.UUID | None = None) -> list[t.Traffic]:
        query = select(t.Traffic).where(t.Traffic.until.is_(None)) if promotion is None else select(t.Traffic)
        if promotion is not None:
            query = query.where(t.Traffic.promotion_id == promotion)
        with self.database.transaction() as session:
            return list(session.scalars(query.order_by(t.Traffic.since)))

    def releases(self) -> list[t.Release]:
        with self.database.transaction() as session:
            return list(session.scalars(select(t.Release).where(t.Release.until.is_(None))))

    def fail(self, row: t.Traffic) -> None:
        """What a serving process would count of a version that fails a third of its requests."""
        instance = uuid.uuid4()
        figures = {"requests": 300, "rows": 300, "errors": 100, "latency": [300], "disagreements": 0}
        minute = func.date_trunc("minute", func.now())
        with self.database.transaction() as session:
            session.execute(insert(t.ServingInstance).values(id=instance, address="bench", loaded=[], failed={}))
            session.execute(
                insert(t.ServingWindow).values(
                    instance_id=instance, model_version_id=row.model_version_id, role=str(row.kind), by_id=row.id, minute=minute, **figures
                )
            )

    def waiting(self) -> int:
        """The seed of the version that does not serve."""
        query = select(t.Run.request).join(t.ModelVersion, t.ModelVersion.run_id == t.Run.id)
        with self.database.transaction() as session:
            released = session.scalars(select(t.Release.model_version_id).where(t.Release.until.is_(None))).one()
            request = session.scalars(query.where(t.ModelVersion.id == released)).one()
        return next(seed for seed in SEEDS if seed != request["params"]["seed"])

    def cell(self, seed: int, chosen: random.Random) -> Cell:
        """One rollout of the version that does not serve, and one kill of everything."""
        before = {row.model_version_id for row in self.releases()}
        failing, after = chosen.random() < 0.4, chosen.uniform(0, LONGEST)
        told = not failing
        workflow_id = self.start(seed)
        self._until(lambda: bool(self.stages()) or self._over(workflow_id))
        begun = time.monotonic()
        while time.monotonic() < begun + after and not self._over(workflow_id):
            if not told and (canary := [row for row in self.stages() if row.kind == t.TrafficKind.CANARY]):
                self.fail(canary[0])
                told = True
            time.sleep(0.02)
        stage = " ".join(f"{row.kind} {row.share:g}" for row in self.stages()) or "between"
        after = round(time.monotonic() - begun, 2)
        self.database.close()
        parts.kill(self.home, "all", list)
        restarted = time.monotonic()
        deadline = restarted + 30
        while stack.running(Home(self.home)) and time.monotonic() < deadline:
            time.sleep(0.05)
        stack.up(self.home, only=SERVICES, echo=lambda _: None)
        up = time.monotonic() - restarted
        self.database = Database(self.settings.postgres)
        served = self._served(restarted)
        detail = self.ended(workflow_id, fail=not told)
        ended = time.monotonic() - restarted
        released = detail.promotion is not None and detail.promotion.state == "released"
        return Cell(
            after=after,
            stage=stage,
            failing=failing,
            released=released,
            reason=(detail.promotion.reason if detail.promotion else str(detail.run.error)),
            up=round(up, 1),
            served=served,
            ended=round(ended, 1),
            problem=self._problem(detail, released, before),
        )

    def _problem(self, detail: RunDetail, released: bool, before: set[uuid.UUID]) -> str:
        """What is neither released nor rolled back; nothing, where all is well."""
        serving = self.releases()
        if len(serving) != 1:
            return f"{len(serving)} open releases"
        if self.stages():
            return "a stage is open after the end"
        if detail.run.state != "succeeded" or detail.promotion is None or detail.promotion.state not in ("released", "refused"):
            return f"the run ended as {detail.run.state}: {detail.run.error}"
        if released == (serving[0].model_version_id in before):
            return "what serves is not what was decided"
        return ""

    def _served(self, since: float) -> float | None:
        url = f"http://127.0.0.1:{self.settings.serving.port}/v1/models/rollout/predict"
        while time.monotonic() < since + 90:
            request = urllib.request.Request(url, b'{"rows": [{"text": "hello"}]}', {"content-type": "application/json"})
            with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=5):
                return round(time.monotonic() - since, 1)
            time.sleep(0.1)
        return None

    def _over(self, workflow_id: str) -> bool:
        detail = self.detail(workflow_id)
        return detail is not None and not detail.run.state.is_live

    def _until(self, true: Any) -> None:
        deadline = time.monotonic() + LIMIT
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError("no stage was entered")
            time.sleep(0.02)

    def judged(self, answers: list[tuple[datetime, datetime, str]]) -> dict[str, int]:
        """Answers by a row that was open when they were asked for or given, a moment before, or neither."""
        with self.database.transaction() as session:
            rows = {
                str(key): (since, until)
                for table in (t.Release, t.Traffic)
                for key, since, until in session.execute(select(table.id, table.since, table.until))
            }
        found = {"answers": len(answers), "lagging": 0, "wrong": 0}
        for asked, answered, row in answers:
            since, until = rows.get(row, (None, None))
            if since is None or since > answered or (until is not None and until + LAG < asked):
                found["wrong"] += 1
            elif until is not None and until < asked:
                found["lagging"] += 1
        return found


def main(kills: int = 20, seed: int = 1) -> None:
    home = Path(os.environ.get("PERDURE_HOME") or ROOT / ".perdure" / "rollouts").absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "bin").exists():
        (home / "bin").symlink_to(ROOT / ".perdure" / "bin")
    os.environ["PERDURE_HOME"] = str(home)
    stack.up(home, only=SERVICES | {"ray"}, echo=lambda text: print(text, flush=True))
    try:
        rollouts = Rollouts(home)
        packaging.apply(PROJECT, rollouts.settings, actor="bench")
        for each in SEEDS:
            rollouts.ended(rollouts.start(each))
        stack.down(home)
        stack.up(home, only=SERVICES, echo=lambda _: None)
        chosen, cells = random.Random(seed), list[Cell]()
        client = Client(f"http://127.0.0.1:{rollouts.settings.serving.port}/v1/models/rollout/predict")
        client.start()
        for number in range(kills):
            cell = rollouts.cell(rollouts.waiting(), chosen)
            cells.append(cell)
            print(number, cell, flush=True)
            _report(cells, rollouts.judged([*client.answers]), client.failed)
        client.stopped.set()
        client.join(15)
    finally:
        stack.down(home)


def _report(cells: list[Cell], judged: dict[str, int], failed: int) -> None:
    served = [cell.served for cell in cells if cell.served is not None]
    again = {"median": statistics.median(served or [0]), "most": max(served, default=None), "never": len(cells) - len(served)}
    result = {
        "kills": len(cells),
        "released": sum(cell.released for cell in cells),
        "between": sum(bool(cell.problem) for cell in cells),
        "served_again_s": again,
        "ended_s": {"median": statistics.median(cell.ended for cell in cells), "most": max(cell.ended for cell in cells)},
        **judged,
        "unanswered": failed,
        "cells": [asdict(cell) for cell in cells],
    }
    record("rollout_kills", result)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)  # past the SDK's exit crash
