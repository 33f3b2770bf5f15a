"""Parquet files with the same bytes for the same rows: written in a stream, stored by content, read in bounded batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import parquet

from perdure.adapters.s3 import ObjectStore
from perdure.messages.common import ArtifactRef, Json

KIND = "datasets"
_MOST_ROWS = 65_536


class TableWriter:
    """One parquet file below *folder*, begun with its first row; the columns and types are those of the first frame."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._writer: parquet.ParquetWriter | None = None
        self.rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        """Append *frame* as a row group; none for no rows."""
        if not frame.height:
            return
        table = to_arrow(frame)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, table.schema, compression="zstd", compression_level=1, version="2.6")
        self._writer.write_table(table, row_group_size=table.num_rows)
        self.rows += table.num_rows

    def store(self, objects: ObjectStore, kind: str = KIND) -> Json | None:
        """End the file and store it; returns its reference with ``rows``, or None for no rows."""
        if self._writer is None:
            return None
        self._writer.close()
        ref = objects.put(kind, self._path.name, self._path)
        self._path.unlink()
        return {**asdict(ref), "rows": self.rows}

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._writer is not None:
            self._writer.close()


def to_arrow(frame: pl.DataFrame) -> pa.Table:
    """*frame* with text in the plain layout that every reader knows."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def stream(tables: Iterator[pa.Table]) -> pa.RecordBatchReader:
    """Tables of one schema, of which there is at least one, as an arrow stream."""
    first = next(tables)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for table in tables:
            yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def frames(objects: ObjectStore, files: list[Json], folder: Path, memory: int) -> Iterator[pl.DataFrame]:
    """The rows of stored *files*, in order, in batches of about *memory* bytes at most; one file at a time lies in *folder*."""
    for file in files:
        path = objects.download(ArtifactRef.from_json(file), folder / f"{file['sha256']}.parquet")
        try:
            with opened(path) as table:
                yield from batches(table, memory)
        finally:
            path.unlink()


def opened(path: Path) -> parquet.ParquetFile:
    """The parquet file *path*, read in small pieces: by default all that will be read is fetched ahead into memory."""
    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)


def batches(table: parquet.ParquetFile, memory: int, groups: list[int] | None = None) -> Iterator[pl.DataFrame]:
    """Rows of an open parquet file (of some row groups) in batches of about *memory* bytes at most."""
    meta = table.metadata
    chosen = range(meta.num_row_groups) if groups is None else groups
    size, rows = (sum(getattr(meta.row_group(i), what) for i in chosen) for what in ("total_byte_size", "num_rows"))
    batch = max(1, min(_MOST_ROWS, memory * rows // max(1, size)))
    for group in chosen:  # one by one: a reader keeps what it has read until its end
        for part in table.iter_batches(batch_size=batch, row_groups=[group], use_threads=False):
            yield from_arrow(part)


def from_arrow(part: Any) -> pl.DataFrame:
    """A record batch as a frame."""
    frame = pl.from_arrow(part)
    assert isinstance(frame, pl.DataFrame)
    return frame
