"""From the answer to a drift event until its run has started: ``python -m benchmarks.drift_event [MODELS]``

Gateway, relay, Temporal and worker are processes of a local stack. Each model gets one event that confirms drift by itself. For half of the
models the controller does not run yet and begins with it, for the others it has been idle. Measured is from the gateway's 202 to the start
of the run's workflow, by Temporal's clock, which is this machine's. Bar: p50 below 500 ms.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import select
from temporalio.client import Client

from benchmarks.common import record, running_stack
from perdure.config import Settings
from perdure.messages.pipeline import RunState
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows
from perdure.temporal import connect
from tests.metadata.world import World

MODELS, PAUSE = 40, 1.0  # seconds between two events
SERVICES = ("postgres", "s3", "temporal", "worker", "relay", "gateway")


def make(database: Database, name: str) -> None:
    """A model with a version, of a pipeline that acts on measured loss; its source is nowhere, so its runs end soon."""
    spec: dict[str, Any] = {
        "name": name,
        "owner": "bench",
        "data": {"source": {"uri": "s3://nowhere/a.tsv", "format": "tsv"}, "target": "label"},
        "monitor": {"act": {"quality": "train"}, "cooldown": "0s"},
    }
    world = World(database)
    run = world.run(name, spec=spec)
    world.model(run, model=name)
    world.runs.close(run.id, RunState.SUCCEEDED, None)


def event(model: str, *, drifted: bool) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": uuid4().hex,
        "source": "bench",
        "type": "ai.perdure.performance.v1",
        "subject": f"model/{model}",
        "data": {"monitor": "error", "drifted": drifted, "severity": float(drifted), "level": True},
    }


async def started(client: Client, database: Database, model: str) -> datetime:
    """When the run that answers the event has started."""
    query = select(t.RetrainDecision.workflow_id).where(t.RetrainDecision.model == model, t.RetrainDecision.workflow_id.is_not(None))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with database.transaction() as session:
            found = session.scalar(query)
        if found is not None:
            try:
                return (await client.get_workflow_handle(found).describe()).start_time
            except Exception:  # decided, but not started yet
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
    raise RuntimeError(f"no run was started for {model}")


async def measure(settings: Settings, models: list[str]) -> dict[str, list[float]]:
    """Milliseconds of each model, by whether its controller ran before."""
    took: dict[str, list[float]] = {"cold": [], "warm": []}
    client = await connect(settings)
    with Database.open(settings) as database:
        for name in models:
            make(database, name)
        headers = {"Authorization": f"Bearer {AccessRows(database).create_key('bench', ['events:write'])[1]}"}
        headers["content-type"] = "application/cloudevents+json"
        address = f"http://{settings.gateway.host}:{settings.gateway.port}/v1/events"
        async with httpx.AsyncClient(headers=headers) as http:
            for name in models[::2]:
                (await http.post(address, json=event(name, drifted=False))).raise_for_status()
            await asyncio.sleep(10)
            for number, name in enumerate(models):
                (await http.post(address, json=event(name, drifted=True))).raise_for_status()
                answered = datetime.now(UTC)
                at = await started(client, database, name)
                took["cold" if number % 2 else "warm"].append((at - answered).total_seconds() * 1_000)
                await asyncio.sleep(PAUSE)
    return took


def main() -> None:
    """Events one after the other."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    with running_stack(SERVICES) as settings:
        took = asyncio.run(measure(settings, [f"m{uuid4().hex[:8]}" for _ in range(count)]))
    every = sorted(took["cold"] + took["warm"])
    figures = {kind: {"p50": statistics.median(each), "max": max(each)} for kind, each in took.items()}
    p50, p95 = statistics.median(every), every[int(len(every) * 0.95)]
    record("drift_event", {"events": count, "p50_ms": p50, "p95_ms": p95, **figures, "ms": took, "bar": "p50_ms < 500"})


if __name__ == "__main__":
    main()
