"""Row groups of parquet files: where their bytes lie, and a local file that holds just the ones that are read.

A range's bytes and the footer are copied to their places in a sparse file, so that what is read is exactly what was verified, on disk and
S3 alike, and a partition costs as many bytes as it has.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
from pyarrow import ArrowException, parquet

from perdure.errors import SchemaBroken
from perdure.jobs.preparation.source import SourceFile, Sources, hashed
from perdure.messages.common import Json

_MAGIC = b"PAR1"


def schema(sources: Sources, file: SourceFile, folder: Path) -> dict[str, str]:
    """Names and polars types of the file's columns. Raises SchemaBroken."""
    with _with_footer(sources, file, folder) as (path, _), parquet.ParquetFile(path) as table:
        frame: Any = pl.from_arrow(table.schema_arrow.empty_table())
    return {name: str(pl.String() if dtype in (pl.Categorical, pl.Enum) else dtype) for name, dtype in frame.schema.items()}


def divide(sources: Sources, file: SourceFile, count: int, folder: Path) -> tuple[Json, list[Json]]:
    """The file with its digest, and at most *count* ranges of row groups of about the same size."""
    with _with_footer(sources, file, folder) as (path, footer), parquet.ParquetFile(path) as table:
        groups = [_extent(table.metadata.row_group(i)) for i in range(table.metadata.num_row_groups)]
    wanted = math.ceil(file.size / count)
    chosen: list[list[int]] = [[]]
    for index, (_, end) in enumerate(groups):
        if chosen[-1] and end - groups[chosen[-1][0]][0] > wanted:
            chosen.append([])
        chosen[-1].append(index)
    ranges = []
    for part in filter(None, chosen):
        start, end = min(groups[i][0] for i in part), max(groups[i][1] for i in part)
        sha256 = _digest(sources.read(file.uri, start, end))
        ranges.append({"uri": file.uri, "start": start, "end": end, "sha256": sha256, "groups": part, "footer": footer})
    return {"uri": file.uri, "sha256": _digest(sources.read(file.uri, 0, file.size)), "bytes": file.size}, ranges


@contextmanager
def fetched(sources: Sources, each: Json, folder: Path) -> Iterator[Path]:
    """A local file in which the range's row groups can be read. Raises SourceChanged."""
    with _sparse(folder) as path:
        for part in (each, each["footer"]):
            _place(path, part["start"], sources.verified(each["uri"], part["start"], part["end"], part["sha256"]))
        yield path


@contextmanager
def _with_footer(sources: Sources, file: SourceFile, folder: Path) -> Iterator[tuple[Path, Json]]:
    """A local file with the footer only, and where that lies."""
    tail = b"".join(sources.read(file.uri, max(0, file.size - 8), file.size))
    length = int.from_bytes(tail[:4], "little") + 8
    if tail[4:] != _MAGIC or length > file.size:
        raise SchemaBroken(f"{file.uri} is no parquet file", field="data.source.format", remedy="name the format as it is")
    hasher = hashlib.sha256()
    start = file.size - length
    with _sparse(folder) as path:
        _place(path, start, hashed(sources.read(file.uri, start, file.size), hasher))
        try:
            yield path, {"start": start, "end": file.size, "sha256": hasher.hexdigest()}
        except ArrowException as err:
            raise SchemaBroken(f"{file.uri} is no readable parquet file: {err}", field="data.source.format") from err


def _extent(group: Any) -> tuple[int, int]:
    """First byte, and the byte after the last, of a row group."""
    columns = [group.column(i) for i in range(group.num_columns)]
    starts = [
        c.data_page_offset if c.dictionary_page_offset is None else min(c.dictionary_page_offset, c.data_page_offset) for c in columns
    ]
    return min(starts), max(start + c.total_compressed_size for start, c in zip(starts, columns, strict=True))


@contextmanager
def _sparse(folder: Path) -> Iterator[Path]:
    path = folder / f"{uuid4().hex}.parquet"
    try:
        path.touch()
        yield path
    finally:
        path.unlink(missing_ok=True)


def _place(path: Path, at: int, chunks: Iterable[bytes]) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.writelines(chunks)


def _digest(chunks: Iterable[bytes]) -> str:
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()
