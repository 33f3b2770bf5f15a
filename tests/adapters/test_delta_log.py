"""Tables that several processes append to at once, on a real S3: each batch once, whatever is retried or put together meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from uuid import uuid4

import polars as pl
import pytest

from perdure.adapters import delta_log
from perdure.adapters.delta_log import DeltaLog
from perdure.adapters.s3 import ObjectStore
from perdure.errors import ObjectsUnavailable
from tests.servers import Stack

DAYS = [date(2010, 1, 5), date(2026, 11, 22)]  # rows of one batch may lie years apart: requests say when their rows were
WRITERS, BATCHES = 3, 6


def batch(writer: str, number: int) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"{writer}/{number}/{day}" for day in DAYS], "date": DAYS, "value": [float(number)] * len(DAYS)})


def appended(objects: ObjectStore, uri: str, writer: str) -> list[bool]:
    log, told = DeltaLog(objects, uri), []
    for number in range(1, BATCHES + 1):
        for _ in range(2):  # an answer that was lost: it is tried again
            for _ in range(20):
                try:
                    told.append(log.append(batch(writer, number), writer, number))
                    break
                except ObjectsUnavailable:  # others were faster again and again: it is tried again
                    continue
    return told


def test_batches_of_several_writers_are_in_once_while_files_are_put_together(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_log, "FEW", 4)
    objects = ObjectStore(stack.settings.s3)
    uri, names = objects.uri(f"inference/m{uuid4().hex[:8]}"), [f"writer-{number}" for number in range(WRITERS)]
    log, together = DeltaLog(objects, uri), 0
    assert (log.scan(), log.crowded(), log.compact(["2010-01-05"])) == (None, [], 0)
    with ThreadPoolExecutor(WRITERS) as pool:
        working = [pool.submit(appended, objects, uri, name) for name in names]  # who comes first makes the table
        while not all(each.done() for each in working):
            together += log.compact(log.crowded())
    together += log.compact(log.crowded())
    assert [each.result() for each in working] == [[True, False] * BATCHES] * WRITERS
    assert together > 0
    rows = log.scan()
    assert rows is not None
    wanted = {f"{name}/{number}/{day}" for name in names for number in range(1, BATCHES + 1) for day in DAYS}
    assert sorted(rows.collect()["id"]) == sorted(wanted)
    assert [log.committed(name) for name in names] == [BATCHES] * WRITERS  # known also after files were put together
    assert not log.crowded()
    old = log.scan(date(2010, 1, 1), date(2010, 12, 31))
    assert old is not None
    assert set(old.collect()["date"]) == {DAYS[0]}
