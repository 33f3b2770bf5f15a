"""A thread beside the reconciler that keeps campaigns about predictions in step with rows; see `perdure.asking`."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator
from typing import Any

import polars as pl

from perdure.adapters.delta_log import DAY, DeltaLog, whole
from perdure.adapters.s3 import ObjectStore
from perdure.adapters.temporal import TemporalExecutions
from perdure.asking import Asking
from perdure.config import Settings
from perdure.labeling.ports import CampaignRow
from perdure.metadata.database import Database
from perdure.metadata.listening import FEEDBACK, Listener
from perdure.metadata.repository.asking import AskRows
from perdure.predictions import parse

log = logging.getLogger("perdure.workers.asking")


@contextlib.contextmanager
def asking(settings: Settings, database: Database, executions: TemporalExecutions) -> Iterator[None]:
    """Passes until the end of the block."""
    objects, stop = ObjectStore(settings.s3, attempts=2), threading.Event()

    def find(model: str, ids: Collection[str]) -> list[dict[str, Any]]:
        days = {parse(id).at.date() for id in ids}
        rows = DeltaLog(objects, objects.uri(f"inference/{model}")).scan(min(days), max(days))
        if rows is None:
            return []
        mine = rows.filter(pl.col(DAY).is_in([*days]), pl.col("id").is_in([*ids]))  # replayed rows may lie years apart
        return [whole(row) for row in mine.collect(engine="streaming").iter_rows(named=True)]

    def start(row: CampaignRow) -> None:
        executions.start_campaign(row.name, row.workflow_id, row.requested_by)

    def run() -> None:
        passes = Asking(AskRows(database), find, start)
        with Listener.open(settings.postgres, FEEDBACK) as listener:
            while not stop.is_set():
                try:
                    pause = passes.run_once().pause
                except Exception:
                    log.exception("a pass about predictions failed")
                    pause = 5.0
                listener.wait(pause)

    thread = threading.Thread(target=run, name="asking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
