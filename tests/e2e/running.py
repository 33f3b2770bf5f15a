"""A small project, and runs of it by Temporal's own client."""

from __future__ import annotations

import asyncio
import textwrap
import uuid
from pathlib import Path

from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from perdure import packaging
from perdure.config import Settings
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_run
from perdure.temporal import connect

GOOD_ROWS = "kind\tsize\n" + "".join(f"{'cat' if i % 2 else 'dog'}\t{i % 17 + i % 2}\n" for i in range(200))
PIPELINE = """
name: {name}
data:
  source: {{uri: rows.tsv, format: tsv}}
  target: {{column: kind, positive: cat}}
  transform: steps:apply
  partitions: 2
train: {{engine: {engine}, params: {{rounds: 5}}{train}}}
patience: {patience}
"""
GOOD_CODE = """
import polars as pl
def apply(frame):
    return frame.select(pl.col("size").cast(pl.Float32))
"""


def project(
    folder: Path,
    name: str,
    *,
    rows: str = GOOD_ROWS,
    code: str = GOOD_CODE,
    train: str = "",
    engine: str = "local",
    patience: str = "20s",
) -> Path:
    """Write a project below *folder*; returns its specification."""
    (folder / "rows.tsv").write_text(rows)
    (folder / "steps.py").write_text(f"{textwrap.dedent(code)}\n# {name}\n")  # other code: no other test's results are reused
    file = folder / "pipeline.yaml"
    file.write_text(PIPELINE.format(name=name, train=train, engine=engine, patience=patience))
    return file


Ended = tuple[RunDetail, ApplicationError | None]


def run(settings: Settings, file: Path, name: str) -> Ended:
    """Apply *file* and run it to its end."""
    packaging.apply(file, settings, actor="test")
    return run_applied(settings, name)


def run_applied(settings: Settings, name: str) -> Ended:
    """Run the applied pipeline *name* to its end."""
    workflow_id = f"run/{name}/{uuid.uuid4().hex[:8]}"
    failure = asyncio.run(execute(settings, name, workflow_id))
    database = Database(settings.postgres)
    detail = show_run(database, workflow_id)
    database.close()
    return detail, failure


async def execute(settings: Settings, name: str, workflow_id: str) -> ApplicationError | None:
    """The failure with which the run ends."""
    client = await connect(settings)
    try:
        await client.execute_workflow("TrainingPipeline", {"pipeline": name}, id=workflow_id, task_queue="perdure")
    except WorkflowFailureError as failed:
        return failed.cause if isinstance(failed.cause, ApplicationError) else ApplicationError(repr(failed.cause))
    return None
