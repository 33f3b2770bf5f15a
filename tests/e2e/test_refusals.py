"""Bad input from end to end: one typed error with its remedy, the same in the run's row and in Temporal, and nothing half-committed."""

from __future__ import annotations

import asyncio
import textwrap
import uuid
from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from perdure import packaging
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_run
from perdure.temporal import connect
from tests.chaos.cells import World
from tests.chaos.watching import counts

GOOD_ROWS = "kind\tsize\n" + "".join(f"{'cat' if i % 2 else 'dog'}\t{i % 17 + i % 2}\n" for i in range(200))
PIPELINE = """
name: {name}
data:
  source: {{uri: rows.tsv, format: tsv}}
  target: {{column: kind, positive: cat}}
  transform: steps:apply
  partitions: 2
train: {{engine: local, params: {{rounds: 5}}{train}}}
patience: 20s
"""
GOOD_CODE = """
import polars as pl
def apply(frame):
    return frame.select(pl.col("size").cast(pl.Float32))
"""


def project(folder: Path, name: str, *, rows: str = GOOD_ROWS, code: str = GOOD_CODE, train: str = "") -> Path:
    (folder / "rows.tsv").write_text(rows)
    (folder / "steps.py").write_text(textwrap.dedent(code))
    file = folder / "pipeline.yaml"
    file.write_text(PIPELINE.format(name=name, train=train))
    return file


def run(world: World, file: Path, name: str) -> tuple[RunDetail, ApplicationError | None]:
    packaging.apply(file, world.settings, actor="test")
    return run_applied(world, name)


def run_applied(world: World, name: str) -> tuple[RunDetail, ApplicationError | None]:
    workflow_id = f"run/{name}/{uuid.uuid4().hex[:8]}"
    failure = asyncio.run(execute(world, name, workflow_id))
    database = Database(world.settings.postgres)
    detail = show_run(database, workflow_id)
    database.close()
    return detail, failure


async def execute(world: World, name: str, workflow_id: str) -> ApplicationError | None:
    client = await connect(world.settings)
    try:
        await client.execute_workflow("TrainingPipeline", {"pipeline": name}, id=workflow_id, task_queue="perdure")
    except WorkflowFailureError as failed:
        return failed.cause if isinstance(failed.cause, ApplicationError) else ApplicationError(repr(failed.cause))
    return None


CASES: dict[str, tuple[dict[str, str], str, str]] = {
    "one-class": ({"rows": "kind\tsize\n" + "cat\t1\n" * 50}, "DataRejected", "cat"),
    "no-labels": ({"rows": "kind\tsize\n" + "\t1\n" * 30 + "cat\t2\ndog\t1\n" * 10}, "DataRejected", "kind"),
    "wrong-delimiter": ({"rows": GOOD_ROWS.replace("\t", ",")}, "SchemaBroken", "kind"),
    "import-error": (
        {"code": "import polars\nimport no_such_package\ndef apply(frame): return frame"},
        "UserCodeImport",
        "no_such_package",
    ),
    "exception": ({"code": "def apply(frame):\n    raise ValueError('not today')"}, "UserCodeError", "not today"),
    "crash": ({"code": "import os\ndef apply(frame):\n    os._exit(7)"}, "JobCrashed", "7"),
    "out-of-memory": ({"code": "def apply(frame):\n    raise MemoryError"}, "JobCrashed", "memory"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_data_and_code(world: World, tmp_path: Path, case: str) -> None:
    changes, type_, mention = CASES[case]
    file = project(tmp_path, f"bad-{case}", **changes)
    detail, failure = run(world, file, f"bad-{case}")
    assert failure is not None
    assert failure.type == type_
    assert mention in failure.message
    assert detail.run.state == "failed"
    assert detail.run.error is not None
    assert detail.run.error["type"] == type_
    assert detail.run.error["remedy"]
    assert counts(world.settings, detail.run.id) == {"versions": 0, "releases": 0}


def test_a_file_that_is_gone(world: World, tmp_path: Path) -> None:
    packaging.apply(project(tmp_path, "gone"), world.settings, actor="test")
    (tmp_path / "rows.tsv").unlink()
    detail, failure = run_applied(world, "gone")
    assert failure is not None
    assert failure.type == "SourceMissing"
    assert "rows.tsv" in failure.message
    assert detail.run.error is not None


def test_gpus_that_nobody_has(world: World, tmp_path: Path) -> None:
    file = project(tmp_path, "gpus", train=", scaling: {gpus_per_worker: 1}")
    file.write_text(file.read_text().replace("engine: local", "engine: ray").replace("patience: 20s", "patience: 2m"))
    _, failure = run(world, file, "gpus")
    assert failure is not None
    assert failure.type == "ResourcesUnavailable"
    assert "gpus_per_worker" in failure.message


def test_good_input_with_the_local_engine_is_released_and_then_cached(world: World, tmp_path: Path) -> None:
    file = project(tmp_path, "good")
    detail, failure = run(world, file, "good")
    assert failure is None
    assert detail.release is not None
    again, failure = run(world, file, "good")
    assert failure is None
    assert [step.state for step in again.steps] == ["succeeded"] * 4
    assert all("hit" in step.reason for step in again.steps if step.step in ("prepare", "train"))
    assert again.promotion is not None
    assert "serves already" in again.promotion.reason


def test_a_workflow_id_is_used_once(world: World, tmp_path: Path) -> None:
    file = project(tmp_path, "once")
    detail, _ = run(world, file, "once")

    failure = asyncio.run(execute(world, "once", detail.run.workflow_id))
    assert failure is not None
    assert failure.type == "Conflict"
    assert "new workflow id" in failure.message
