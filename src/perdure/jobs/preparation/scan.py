"""What only the whole source can tell: which rows repeat earlier ones, and where a split by time cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from perdure.adapters.s3 import ObjectStore
from perdure.jobs.preparation.columns import moment
from perdure.jobs.preparation.rows import digests
from perdure.jobs.preparation.tables import TableWriter
from perdure.messages.common import Json

_SAMPLE = 200_000  # times that are kept: the cut is off by a few rows in as many


class Duplicates:
    """Finds rows that are equal to an earlier row.

    Digests go to files by their first bits, so that one file at a time is sorted in memory: *source_bytes* decides how many.
    """

    def __init__(self, folder: Path, source_bytes: int, memory: int) -> None:
        buckets = min(256, 1 + source_bytes * 8 // memory)  # short rows have digests longer than themselves
        self._files = [(folder / f"digests-{i}").open("w+b") for i in range(buckets)]

    def add(self, partition: int, first: int, frame: pl.DataFrame) -> None:
        """Rows of a partition, of which *first* came before."""
        halves = np.frombuffer(b"".join(digests(frame, 0, 16)), dtype="<u8").reshape(-1, 2)
        rows = np.arange(first, first + len(halves), dtype="<u8")
        records = np.column_stack([halves, np.full(len(rows), partition, dtype="<u8"), rows])
        chosen = halves[:, 0] % np.uint64(len(self._files))
        for index, file in enumerate(self._files):
            file.write(records[chosen == index].tobytes())

    def store(self, objects: ObjectStore, folder: Path) -> Json | None:
        """All repeated rows as a table of (partition, row), or None where every row is different."""
        repeated = []
        for file in self._files:
            with file:
                file.seek(0)
                records = np.frombuffer(file.read(), dtype="<u8").reshape(-1, 4)
            records = records[np.lexsort((records[:, 3], records[:, 2], records[:, 1], records[:, 0]))]
            same = (records[1:, :2] == records[:-1, :2]).all(axis=1)
            repeated.append(records[1:][same][:, 2:].astype(np.int64))
            Path(file.name).unlink()
        found = np.concatenate(repeated)
        found = found[np.lexsort((found[:, 1], found[:, 0]))]
        writer = TableWriter(folder, "duplicates.parquet")
        writer.write(pl.DataFrame({"partition": found[:, 0], "row": found[:, 1]}))
        return writer.store(objects)


class TimeCut:
    """The time from which on rows are the test set: a quantile of a thinned, but evenly drawn, sample of the times."""

    def __init__(self, share: float) -> None:
        self._share, self._step, self._seen = share, 1, 0
        self._sample: list[Any] = []
        self._dtype: Any = None

    def add(self, times: pl.Series) -> None:
        """More times; nulls do not count."""
        values = times.drop_nulls()
        self._dtype = times.dtype
        self._sample += values.gather_every(self._step, -self._seen % self._step).to_list()
        self._seen += len(values)
        while len(self._sample) > _SAMPLE:
            self._sample, self._step = self._sample[::2], self._step * 2

    def cut(self) -> str | float | int | None:
        """The cut as JSON; None where there are no times."""
        ordered = sorted(self._sample)
        return moment(ordered[min(len(ordered) - 1, round((1 - self._share) * len(ordered)))]) if ordered else None
