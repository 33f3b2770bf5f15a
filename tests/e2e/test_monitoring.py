"""A look at a released version on the real stack, by the stock client: events once, a report, metrics; the same look again is the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError

from perdure import predictor
from perdure.adapters.delta_log import DAY, DeltaLog
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.errors import NotFound
from perdure.messages.common import ArtifactRef
from perdure.metadata.database import Database
from perdure.metadata.queries.drift import Said, last_said
from perdure.metadata.repository import ModelRows
from perdure.temporal import connect
from perdure.workers import drift_gauges
from tests.chaos.cells import World
from tests.e2e.running import project, run

AT = datetime(2026, 11, 20, 12, 34, tzinfo=UTC)  # is rounded down to the hour
MONITOR = "monitor: {min_rows: 100, act: {data: nothing, concept: nothing}}\n"


@pytest.fixture(scope="module")
def settings(world: World, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A released model, which is asked about sizes that it never saw."""
    file = project(tmp_path_factory.mktemp("monitoring"), "watched")
    file.write_text(file.read_text() + MONITOR)
    detail, failure = run(world.settings, file, "watched")
    assert failure is None
    assert detail.release is not None
    objects = ObjectStore(world.settings.s3)
    with Database.open(world.settings) as database:
        version = ModelRows(database).find("watched")
    asked = pl.DataFrame({"size": [100 + i % 9 for i in range(500)]}, schema={"size": pl.Int64})
    times = pl.Series("time", [AT.replace(minute=0) - timedelta(minutes=i + 1) for i in range(500)], dtype=pl.Datetime("us", "UTC"))
    scores = predictor.load(objects.get(ArtifactRef.from_json(version.predictor.as_json()))).predict(asked)
    log = pl.DataFrame([times, times.dt.date().alias(DAY), *asked.rename({"size": "input.size"}), *scores]).with_columns(
        pl.Series("id", [f"watched-{i}" for i in range(500)]), pl.lit(1, pl.Int32).alias("version"), pl.lit("release").alias("role")
    )
    log = log.rename({name: name.replace("p_", "p.") for name in scores.columns})
    DeltaLog(objects, objects.uri("inference/watched")).append(log, "test", 1)
    return world.settings


async def look(client: Client, workflow_id: str, **request: Any) -> dict[str, Any]:
    asked = {"model": "watched", **request}
    return dict(await client.execute_workflow("DriftMonitor", asked, id=workflow_id, task_queue="perdure", result_type=dict))


def said(settings: Settings) -> dict[str, Said]:
    with Database.open(settings) as database:
        drift_gauges.show(database)
        return {each.monitor: each for each in last_said(database, "watched")}


async def test_a_look_leaves_events_once_and_a_report(settings: Settings) -> None:
    client = await connect(settings)
    names = [f"look/watched/{uuid.uuid4()}" for _ in range(2)]
    first, again = await asyncio.gather(*(look(client, name, at=AT.isoformat()) for name in names))
    assert first == again
    assert (first["version"], first["at"]) == (1, "2026-11-20T12:00:00Z")
    assert first["looked"] == ["requests", "predictions"]
    assert "requests" in first["drifted"]
    found = said(settings)
    assert sorted(found) == ["predictions", "requests"]
    event = found["requests"]
    assert (event.version, event.kind, event.drifted, event.n) == (1, "data", True, 500)
    assert (event.window_start, event.window_end) == (AT.replace(day=19, minute=0), AT.replace(minute=0))
    assert {test["feature"]: test["drifted"] for test in event.metrics if test["method"] == "ks"} == {"size": True}
    report = ObjectStore(settings.s3).get(ArtifactRef.from_json(first["report"])).decode()
    assert event.report_uri == first["report"]["uri"]
    assert "watched version 1: drift" in report
    labels = {"model": "watched", "version": "1", "monitor": "requests", "kind": "data"}
    assert drift_gauges.drifted.labels(**labels)._value.get() == 1.0
    with Database.open(settings) as database, database.transaction() as session:
        assert session.scalar(text("select count(*) from drift_event where model = 'watched'")) == 2


def test_the_command_line_tells_it(settings: Settings) -> None:
    def perdure(*words: str) -> str:
        made = subprocess.run([sys.executable, "-m", "perdure.cli.main", *words], capture_output=True, text=True, check=True)
        return made.stdout + made.stderr

    told = perdure("drift", "watched")
    assert "drifted" in told
    assert "size (ks 0.9" in told
    assert "drift.html" in told
    assert [each["monitor"] for each in json.loads(perdure("drift", "watched", "--json"))] == ["predictions", "requests"]
    assert "fewer than 100 rows" in perdure("monitor", "watched")  # now is not when it was asked


async def test_what_cannot_be_looked_at_says_so(settings: Settings) -> None:
    client = await connect(settings)
    quiet = await look(client, f"look/watched/{uuid.uuid4()}", at="2026-01-01T00:00:00Z")
    assert quiet["looked"] == []
    assert quiet["reason"].startswith("fewer than 100 rows")
    nobody = await look(client, f"look/nobody/{uuid.uuid4()}", model="nobody")
    assert nobody["reason"] == "no version of it is released"
    with pytest.raises(WorkflowFailureError, match="failed"):
        await look(client, f"look/watched/{uuid.uuid4()}", modle="watched")
    with Database.open(settings) as database, pytest.raises(NotFound, match="no version of nobody"):
        last_said(database, "nobody")
