"""Many campaigns that wait for people: what they cost, and whether all still answer. ``python -m benchmarks.waiting [CAMPAIGNS [NAME]]``

Each is standing and has nothing to do. Figures: how fast they start, processor's time of each server in a minute in which nothing happens,
memory, how long after a kill of the worker it answers again, and a sample of campaigns that take a command, one after the other. With a
name, a benchmark that was cut off goes on with the campaigns that are there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from benchmarks.common import record, running_stack
from perdure.config import Settings
from perdure.local import stack
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.temporal import connect

CAMPAIGNS, STARTING, UNOPENED, QUIET, SAMPLE = 1_000, 100, 300, 60.0, 200  # starts at once; not open; seconds; campaigns that are asked
SERVICES = ("postgres", "temporal", "worker", "relay")
SPEC = {"question": "?", "choices": ["ham", "spam"], "standing": True, "snapshot_every": "30d"}


class Servers:
    """The processes behind the services, with their children."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def pid(self, name: str) -> int:
        return next(int(each.pid or 0) for each in stack.status(self._home) if each.name == name)

    def cpu_seconds(self, name: str) -> float:
        return sum(int(fields[11]) + int(fields[12]) for fields in self._fields(name)) / os.sysconf("SC_CLK_TCK")

    def megabytes(self, name: str) -> float:
        """Resident memory; what Postgres's processes share is counted in each."""
        return sum(int(fields[21]) for fields in self._fields(name)) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _fields(self, name: str) -> list[list[str]]:
        first, found = self.pid(name), []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(path.parent.name) == first or int(fields[1]) == first:
                found.append(fields)
        return found


async def start(client: Client, names: list[str], opened: Callable[[], int]) -> None:
    """As fast as the worker opens them: what waits for it would be put out of its cache, and replayed."""

    async def one(name: str) -> None:
        request = {"campaign": name, "spec": SPEC}
        id, policy = f"campaign/{name}", WorkflowIDConflictPolicy.USE_EXISTING
        await client.start_workflow("LabelingCampaign", request, id=id, task_queue="perdure", id_conflict_policy=policy)

    for first in range(0, len(names), STARTING):
        while first - opened() > UNOPENED:
            await asyncio.sleep(0.2)
        await asyncio.gather(*(one(name) for name in names[first : first + STARTING]))
    while opened() < len(names):
        await asyncio.sleep(0.2)


def there(database: Database, prefix: str) -> int:
    """How many of them have a row."""
    with database.transaction() as session:
        return int(session.scalars(select(func.count()).where(t.Campaign.name.like(f"{prefix}%"))).one())


async def answer(client: Client, names: list[str]) -> list[float]:
    """Seconds until each has taken a command."""
    took = []
    for name in names:
        began = time.perf_counter()
        command = {"actor": "bench", "deadline": (datetime.now(UTC) + timedelta(days=90)).isoformat()}
        await client.get_workflow_handle(f"campaign/{name}").execute_update("extend", command)
        took.append(time.perf_counter() - began)
    return took


async def measure(settings: Settings, database: Database, campaigns: int, prefix: str) -> dict[str, Any]:
    client, servers = await connect(settings), Servers(settings.home)
    names = [f"{prefix}{number:06}" for number in range(campaigns)]
    empty = {name: servers.megabytes(name) for name in SERVICES}
    began = time.perf_counter()
    await start(client, names, lambda: there(database, prefix))
    opened = time.perf_counter() - began
    before = {name: servers.cpu_seconds(name) for name in SERVICES}
    while True:  # first ticks
        await asyncio.sleep(10)
        now = {name: servers.cpu_seconds(name) for name in SERVICES}
        if now["worker"] - before["worker"] < 3:
            break
        before = now
    settled, before = time.perf_counter() - began, now
    await asyncio.sleep(QUIET)
    quiet = {name: round((servers.cpu_seconds(name) - before[name]) / QUIET, 3) for name in SERVICES}
    memory = {name: [round(empty[name]), round(servers.megabytes(name))] for name in SERVICES}
    sample = random.Random(7).sample(names, min(SAMPLE, campaigns))
    killed = servers.pid("worker")
    os.kill(killed, signal.SIGKILL)
    began = time.perf_counter()
    await answer(client, sample[:1])
    again, took = time.perf_counter() - began, await answer(client, sample[1:])
    cuts = statistics.quantiles(took, n=100)
    return {
        "campaigns": campaigns,
        "opened_per_second": round(campaigns / opened),
        "seconds_until_settled": round(settled, 1),
        "cores_while_waiting": quiet,
        "megabytes_before_and_waiting": memory,
        "seconds_from_kill_of_worker_to_first_answer": round(again, 1),
        "sample": len(took),
        "answer_seconds": {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)},
    }


def main() -> None:
    campaigns = int(sys.argv[1]) if len(sys.argv) > 1 else CAMPAIGNS
    prefix = f"{sys.argv[2] if len(sys.argv) > 2 else int(time.time())}-"
    with running_stack({"postgres", "s3", "temporal", "worker", "relay"}) as settings, Database.open(settings) as database:
        record("waiting", asyncio.run(measure(settings, database, campaigns, prefix)))


if __name__ == "__main__":
    main()
