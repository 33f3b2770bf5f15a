"""Campaigns: a bulk import, a flood of labels, and how soon a label is seen. ``python -m benchmarks.campaign [TASKS] [LABELED]``

Bars: 1,000,000 tasks in less than 120 s with flat memory; at most 0.05 history events a label (200,000 labels into 100,000 tasks);
label answered → campaign state in less than 1 s (median).
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from temporalio.client import Client, WorkflowHandle

from benchmarks.common import record, running_stack
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.labeling.ports import Incoming
from perdure.local import stack
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import CampaignRows, LabelRows
from perdure.temporal import connect

TASKS, LABELED, BATCH, SENDERS, SINGLE = 1_000_000, 100_000, 100, 4, 60
SPEC = {"question": "?", "choices": ["ham", "spam"], "gold": {"rate": 0}}


def manifest(folder: Path, tasks: int) -> Path:
    """Lines of about 150 bytes."""
    path = folder / "tasks.ndjson"
    with path.open("w") as file:
        for n in range(tasks):
            file.write(json.dumps({"key": f"message-{n:08}", "payload": {"text": f"Message {n}: " + "what is this about? " * 4}}) + "\n")
    return path


@contextmanager
def peak_memory(pid: int) -> Iterator[list[float]]:
    """The resident memory of a process, in MB: at the beginning, and the most that was seen."""
    found, over = [_rss(pid)] * 2, threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            found[1] = max(found[1], _rss(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


def _rss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Bench:
    """A client, a database and the rows of campaigns."""

    def __init__(self, settings: Settings, database: Database, client: Client) -> None:
        self.settings, self.database, self.client = settings, database, client
        self.rows, self.labels = CampaignRows(database), LabelRows(database)

    async def start(self, file: Path, **spec: Any) -> tuple[UUID, WorkflowHandle[Any, Any], float]:
        """A campaign with all tasks of *file*, and after how many seconds they were in."""
        tasks = ObjectStore(self.settings.s3).put("tasks", "tasks.ndjson", file)
        name = uuid4().hex[:8]
        began = time.perf_counter()
        request = {"campaign": name, "spec": {**SPEC, **spec}, "tasks": tasks.as_json()}
        handle = await self.client.start_workflow("LabelingCampaign", request, id=f"campaign/{name}", task_queue="perdure")
        while (await handle.query("progress"))["stage"] != "open":
            await asyncio.sleep(0.2)
        return self.rows.named(name).id, handle, time.perf_counter() - began

    def decided(self, campaign: UUID) -> int:
        with self.database.transaction() as session:
            return session.scalars(select(t.Campaign.decided).where(t.Campaign.id == campaign)).one()

    def answers(self, campaign: UUID, keys: list[str], by: str) -> float:
        """Answer these tasks in one transaction; returns when it had committed."""
        now = datetime.now(UTC)
        said = [Incoming(task=key, labeler=by, source="bench", source_key=f"{by}/{key}", event_time=now, value="spam") for key in keys]
        results = self.labels.accept(campaign, said)
        if any(each.status != "valid" for each in results):
            raise RuntimeError(f"not all answers counted: {results[:3]}")
        return time.perf_counter()

    async def events(self, handle: WorkflowHandle[Any, Any]) -> tuple[int, int]:
        """History events of the whole chain, and how many executions it has."""
        run, events, executions = handle.first_execution_run_id, 0, 0
        while run:
            last = None
            async for event in self.client.get_workflow_handle(handle.id, run_id=run).fetch_history_events():
                events, last = events + 1, event
            executions += 1
            run = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id if last else ""
        return events, executions


async def importing(bench: Bench, folder: Path, tasks: int) -> dict[str, Any]:
    file = manifest(folder, tasks)
    pid = next(each.pid for each in stack.status(bench.settings.home) if each.name == "worker")
    assert pid is not None
    with peak_memory(pid) as memory:
        campaign, handle, seconds = await bench.start(file)
    assert bench.rows.campaign(campaign).total == tasks
    await handle.terminate("measured")
    return {
        "tasks": tasks,
        "seconds": round(seconds, 1),
        "tasks_per_second": round(tasks / seconds),
        "worker_mb_before": round(memory[0]),
        "worker_mb_peak": round(memory[1]),
    }


async def flood(bench: Bench, folder: Path, tasks: int) -> dict[str, Any]:
    """Two labels for each task, in shuffled batches from several senders."""
    campaign, handle, _ = await bench.start(manifest(folder, tasks), overlap={"labels": 2, "most": 2, "agreement": 0.5})
    by_labeler = {who: [f"message-{n:08}" for n in range(tasks)] for who in ("ada", "bob")}
    for keys in by_labeler.values():
        random.Random(7).shuffle(keys)
    batches = [(who, keys[start : start + BATCH]) for who, keys in by_labeler.items() for start in range(0, len(keys), BATCH)]
    random.Random(7).shuffle(batches)
    began = time.perf_counter()
    with ThreadPoolExecutor(SENDERS) as pool:
        work = [asyncio.wrap_future(pool.submit(bench.answers, campaign, keys, who)) for who, keys in batches]
        await asyncio.gather(*work)
        sent = time.perf_counter() - began
        result = await handle.result()
    over = time.perf_counter() - began
    assert (result["tasks"], result["complete"]) == (tasks, True)
    events, executions = await bench.events(handle)
    labels = 2 * tasks
    return {
        "tasks": tasks,
        "labels": labels,
        "seconds_sending": round(sent, 1),
        "labels_per_second": round(labels / sent),
        "seconds_to_the_result": round(over, 1),
        "history_events": events,
        "executions": executions,
        "events_per_label": round(events / labels, 4),
    }


async def latency(bench: Bench, folder: Path) -> dict[str, Any]:
    """Single labels at random moments, from their commit until the campaign's row counts them."""
    campaign, handle, _ = await bench.start(manifest(folder, SINGLE + 1))
    chance, seconds = random.Random(7), []
    for n in range(SINGLE):
        await asyncio.sleep(chance.uniform(0.1, 1.5))
        before = bench.decided(campaign)
        committed = await asyncio.to_thread(bench.answers, campaign, [f"message-{n:08}"], "ada")
        while bench.decided(campaign) == before:
            await asyncio.sleep(0.005)
        seconds.append(time.perf_counter() - committed)
    await handle.terminate("measured")
    cuts = statistics.quantiles(seconds, n=100)
    return {"labels": SINGLE, "p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "max": round(max(seconds), 3)}


async def measure(settings: Settings, tasks: int, labeled: int) -> None:
    with tempfile.TemporaryDirectory() as scratch, Database.open(settings) as database:
        bench, folder = Bench(settings, database, await connect(settings)), Path(scratch)
        record(
            "campaign",
            {
                "latency_seconds": await latency(bench, folder),
                "import": await importing(bench, folder, tasks),
                "flood": await flood(bench, folder, labeled),
                "bar": "1,000,000 tasks < 120 s, events per label <= 0.05, latency p50 < 1 s",
            },
        )


def main() -> None:
    sizes = [int(each) for each in sys.argv[1:]] + [TASKS, LABELED][len(sys.argv) - 1 :]
    with running_stack({"postgres", "s3", "temporal", "worker", "relay"}) as settings:
        asyncio.run(measure(settings, *sizes))


if __name__ == "__main__":
    main()
