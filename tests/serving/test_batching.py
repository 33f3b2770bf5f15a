"""Requests wait for the batch before them, and not without end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from perdure.errors import ModelUnavailable
from perdure.serving.batching import Batch, Batcher
from perdure.serving.reading import Reader

READER = Reader([{"name": "size", "dtype": "Float64"}])


class Gated:
    """Scores once it may."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        assert self.open.wait(10)
        return pl.DataFrame({"prediction": frame["size"]})


@pytest.mark.parametrize(("requests", "rows"), [(3, 1), (1, 200)])
async def test_no_more_wait_than_there_is_room_for(requests: int, rows: int) -> None:
    scores, done = Gated(), list[Batch]()
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(READER, scores, pool, most=2, waiting=4, done=done.append)
        columns = READER.rows([{"size": 1.0}] * rows)
        first = batcher.add(READER.rows([{"size": 7.0}]), 1)
        answers = [batcher.add(columns, rows) for _ in range(requests)]
        with pytest.raises(ModelUnavailable):
            batcher.add(columns, rows)
        scores.open.set()
        scored = [await answer for answer in (first, *answers)]
        assert [batch.lists["prediction"][at] for batch, at in scored] == [7.0, *[1.0] * requests]
        assert not batcher.full
        batch, at = await batcher.add(columns, rows)
        assert batch.lists["prediction"][at : at + rows] == [1.0] * rows
        await asyncio.sleep(0)  # counting comes after answering
    assert sum(batch.rows.height for batch in done) == 1 + (requests + 1) * rows


async def test_who_waits_is_answered_whatever_becomes_of_the_counts() -> None:
    scores = Gated()
    scores.open.set()

    def broken(batch: Batch) -> None:
        raise OSError("no room")

    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(READER, scores, pool, most=1, waiting=9, done=broken)
        answers = [batcher.add(READER.rows([{"size": float(number)}]), 1) for number in range(3)]
        async with asyncio.timeout(5):
            assert [(await answer)[0].lists["prediction"] for answer in answers] == [[0.0], [1.0], [2.0]]
