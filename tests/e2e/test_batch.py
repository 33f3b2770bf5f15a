"""Batch inference on the real stack: whatever is killed in the middle, no shard is scored twice into the result."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.errors import NotFound, Transient
from perdure.local import processes
from perdure.local import stack as local
from perdure.messages.common import ArtifactRef
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_dataset, show_run
from perdure.temporal import connect
from tests.chaos import parts
from tests.chaos.cells import World
from tests.e2e.running import project, run

SHARDS = 9
SLOW = """
import time
import polars as pl

def apply(frame):
    if frame.height < 50:
        time.sleep(0.25)  # a shard takes a while, so that kills fall into the middle
    return frame.select(pl.col("size").cast(pl.Float32))
"""


@pytest.fixture(scope="module")
def rows(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released model, and what it scores: 360 rows, of which every hundredth does not fit."""
    folder = tmp_path_factory.mktemp("batch")
    detail, failure = run(world.settings, project(folder, "batch", code=SLOW), "batch")
    assert failure is None
    assert detail.release is not None
    lines = [f"{i}\t{'big' if i % 100 == 7 else i % 17}\n" for i in range(360)]
    (folder / "new.tsv").write_text("id\tsize\n" + "".join(lines))
    return folder / "new.tsv"


async def begin(settings: Settings, rows: Path, workflow_id: str) -> None:
    client = await connect(settings)
    request = {"model": "batch", "source": {"uri": str(rows)}, "shards": SHARDS, "window": 2, "keep": ["id"], "cache": False}
    await client.start_workflow("BatchInference", request, id=workflow_id, task_queue="perdure")


def committed(settings: Settings, workflow_id: str) -> int:
    query = "select count(*) from partition p join step_run s on s.id = p.step_run_id join run r on r.id = s.run_id"
    with Database.open(settings) as database, database.transaction() as session:
        return int(session.scalar(sa.text(f"{query} where r.workflow_id = :name and p.phase = 'score'"), {"name": workflow_id}) or 0)


def until_committed(settings: Settings, workflow_id: str, shards: int) -> None:
    deadline = time.monotonic() + 60
    while committed(settings, workflow_id) < shards:
        assert time.monotonic() < deadline, f"never committed {shards} shards"
        time.sleep(0.05)


def ended(settings: Settings, workflow_id: str) -> RunDetail:
    deadline = time.monotonic() + 120
    while True:
        with suppress(NotFound, Transient), Database.open(settings) as database:  # no row before a worker takes it up; Postgres may be away
            detail = show_run(database, workflow_id)
            if not detail.run.state.is_live:
                return detail
        assert time.monotonic() < deadline, f"{workflow_id} does not end"
        time.sleep(0.1)


def kill_job(world: World) -> None:
    """kill -9 of the processes in which shards are scored now."""
    worker = next(service.pid for service in local.status(world.home) if service.name == "worker")
    assert worker is not None
    jobs = [pid for pid in processes.descendants(worker) if b"perdure" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert jobs
    for pid in jobs:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def scores(settings: Settings, detail: RunDetail) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """The manifest, the rows of its files in their order, and those of the Delta version, which has none."""
    result = detail.steps[0].result or {}
    objects = ObjectStore(settings.s3)
    manifest = objects.get_json(ArtifactRef.from_json(result["manifest"]))
    files = pl.concat(pl.read_parquet(objects.get(ArtifactRef.from_json(file))) for file in manifest["scores"]["files"])
    table = DeltaTable(result["delta"]["uri"], version=result["delta"]["version"], storage_options=objects.storage_options())
    frame = pl.from_arrow(table.to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    return manifest, files, frame


def test_killed_in_the_middle_each_row_is_scored_once(world: World, rows: Path) -> None:
    undisturbed = f"score/batch/{uuid.uuid4().hex}"
    asyncio.run(begin(world.settings, rows, undisturbed))
    expected = ended(world.settings, undisturbed)

    killed = f"score/batch/{uuid.uuid4().hex}"
    asyncio.run(begin(world.settings, rows, killed))
    until_committed(world.settings, killed, 1)
    kill_job(world)
    until_committed(world.settings, killed, 3)
    before = committed(world.settings, killed)
    for part in ("temporal-server", "temporal-worker", "postgres", "s3"):
        parts.kill(world.home, part, list)
    detail = ended(world.settings, killed)

    assert before < SHARDS, "the last kill came too late"
    assert (expected.run.state, detail.run.state) == ("succeeded", "succeeded"), detail.run.error
    manifest, files, frame = scores(world.settings, detail)
    ids = [i for i in range(360) if i % 100 != 7]
    assert files["id"].cast(pl.Int64).to_list() == ids
    assert frame.sort(pl.col("id").cast(pl.Int64)).equals(files)
    assert frame.columns == ["id", "p_dog", "p_cat", "prediction"]
    assert manifest["model"] == {"name": "batch", "version": 1, "predictor": manifest["model"]["predictor"]}
    assert manifest["model"]["predictor"]["sha256"] == detail.predictor_sha256
    assert manifest["quarantine"]["rows"] == 4
    assert len(manifest["scores"]["files"]) == SHARDS
    assert detail.steps[0].partitions == {"plan": 1, "score": SHARDS, "commit": 1}
    # The same bytes as undisturbed: so the same version of the data set, which both of them made.
    assert (detail.steps[0].result or {})["manifest"] == (expected.steps[0].result or {})["manifest"]
    with Database.open(world.settings) as database:
        [version] = show_dataset(database, "batch-scores")
    assert (version.number, version.scored_rows, version.quarantined_rows, version.scored_by) == (1, 356, 4, "batch version 1")
