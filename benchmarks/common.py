"""What all benchmarks share: a stack of their own, runs, and raw results with the machine they were measured on."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perdure import packaging
from perdure.config import Settings
from perdure.errors import NotFound
from perdure.local import stack
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_run
from perdure.temporal import connect

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


@contextmanager
def running_stack(services: Collection[str] = ("postgres", "s3", "temporal", "ray", "worker")) -> Iterator[Settings]:
    """A local stack in a data folder of the benchmarks' own."""
    home = ROOT / ".perdure" / "bench"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "bin").exists():
        (home / "bin").symlink_to(ROOT / ".perdure" / "bin")
    os.environ["PERDURE_HOME"] = str(home)
    stack.up(home, only=set(services), echo=lambda text: print(text, flush=True))
    try:
        yield Settings(home=home)
    finally:
        stack.down(home)


def run_pipeline(settings: Settings, file: Path, **request: Any) -> RunDetail:
    """Apply *file* and run it to its end; raises RuntimeError unless it succeeds."""
    version = packaging.apply(file, settings, actor="bench")
    workflow_id = f"run/{version.name}/{uuid.uuid4().hex[:8]}"

    async def start() -> None:
        client = await connect(settings)
        await client.start_workflow("TrainingPipeline", {"pipeline": version.name, **request}, id=workflow_id, task_queue="perdure")
        await asyncio.sleep(0.1)

    asyncio.run(start())
    with Database.open(settings) as database:
        while True:
            time.sleep(0.2)
            with suppress(NotFound):  # not opened yet
                detail = show_run(database, workflow_id)
                if not detail.run.state.is_live:
                    break
    if detail.run.state != "succeeded":
        raise RuntimeError(f"{workflow_id} ended as {detail.run.state}: {detail.run.error}")
    return detail


def record(name: str, result: dict[str, Any]) -> None:
    """Keep the raw result beside the machine's description."""
    machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "load": os.getloadavg()[0]}
    row = {"benchmark": name, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine, **result}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(row, indent=1, default=str) + "\n")
    print(json.dumps(row, indent=1, default=str), flush=True)
