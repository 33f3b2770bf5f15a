"""Source files as frames: what columns they have, how they are divided, and the rows of a range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from perdure.errors import SchemaBroken
from perdure.jobs.preparation import parquet_ranges
from perdure.jobs.preparation.columns import infer
from perdure.jobs.preparation.ranges import BLOCK, Layout, shares, text_ranges
from perdure.jobs.preparation.records import blocks
from perdure.jobs.preparation.source import SourceFile, Sources
from perdure.jobs.preparation.tables import batches, opened
from perdure.jobs.preparation.text import RAW, REASON, Parsed, TextFormat
from perdure.messages.common import Json
from perdure.spec.pipeline import Source

_SAMPLE = 1 << 20  # bytes of text from which types are inferred
_BOM = b"\xef\xbb\xbf"
_NOT_TEXT = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x1f\x8b": "compressed (gzip)",
    b"PK\x03\x04": "a zip archive",
    b"(\xb5/\xfd": "compressed (zstd)",
    b"PAR1": "parquet",
}


class Reader(Protocol):
    """One format. Columns are ``[{"name", "dtype"}]`` in the order of the file, with types as found."""

    def columns(self, files: list[SourceFile]) -> list[Json]:
        """The columns that all *files* have. Raises SchemaBroken."""

    def divide(self, files: list[SourceFile], partitions: int) -> Layout:
        """Files with digests, and about *partitions* ranges in all."""

    def read(self, each: Json, names: list[str]) -> Iterator[Parsed]:
        """The rows of a range in batches, verified: SourceChanged comes with the last batch, so use none before all are read."""


def reader(source: Source, sources: Sources, memory_mb: int, folder: Path) -> Reader:
    """The reader for *source*'s format. A batch takes a small part of *memory_mb*; *folder* is for temporary files."""
    memory = min(BLOCK, (memory_mb << 20) // 64)
    return ParquetReader(sources, memory, folder) if source.format == "parquet" else TextReader(source, sources, memory)


class TextReader:
    """csv and tsv, with or without a header row, with or without quoting."""

    def __init__(self, source: Source, sources: Sources, memory: int) -> None:
        self._source, self._sources, self._memory = source, sources, memory
        self._format = TextFormat(source)

    def columns(self, files: list[SourceFile]) -> list[Json]:
        """Names from the header row or the specification; types inferred from the first file's first rows."""
        names, first = self._names(files[0])
        sample = self._sample(files[0], first, names)
        for file in files[1:]:
            if (other := self._names(file)[0]) != names:
                raise SchemaBroken(
                    f"{file.uri} has the columns {', '.join(other)}; {files[0].uri} has {', '.join(names)}",
                    field="data.source",
                    remedy="name files that have the same columns in the same order",
                )
        return [{"name": name, "dtype": str(infer(sample.get_column(name)))} for name in names]

    def divide(self, files: list[SourceFile], partitions: int) -> Layout:
        """Ranges of whole records."""
        layout = Layout([], [])
        for file, count in zip(files, shares(files, partitions), strict=True):
            made, ranges = text_ranges(self._sources, file, self._names(file)[1], count, self._format.delimiter, self._format.quoting)
            layout.files.append(made)
            layout.ranges.extend(ranges)
        return layout

    def read(self, each: Json, names: list[str]) -> Iterator[Parsed]:
        """See `Reader`."""
        chunks = self._sources.verified(each["uri"], each["start"], each["end"], each["sha256"])
        for block in blocks(chunks, self._memory, delimiter=self._format.delimiter, quoting=self._format.quoting):
            yield self._format.parse(block, names)

    def _names(self, file: SourceFile) -> tuple[list[str], int]:
        """The column names, and the byte at which the first row begins."""
        start = b"".join(self._sources.read(file.uri, 0, 4))
        for magic, what in _NOT_TEXT.items():
            if start.startswith(magic):
                raise SchemaBroken(
                    f"{file.uri} is {what}, not {self._source.format}",
                    field="data.source.format",
                    remedy="convert it to UTF-8 text" if "text" in what else "name the format, or unpack the file",
                )
        first = len(_BOM) if start.startswith(_BOM) else 0
        if self._source.columns is not None:
            return self._source.columns, first
        head = next(self._records(file, first, 1), b"")
        names = self._format.fields(head)
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice or "" in names:
            raise SchemaBroken(
                f"the header of {file.uri} {'names ' + ', '.join(twice) + ' twice' if twice else 'has an empty name'}: {', '.join(names)}",
                field="data.source.columns",
                remedy="mend the header, or name the columns in data.source.columns if the file has no header row",
            )
        return names, first + len(head)

    def _records(self, file: SourceFile, first: int, size: int) -> Iterator[bytes]:
        chunks = self._sources.read(file.uri, first, file.size)
        return blocks(chunks, size, delimiter=self._format.delimiter, quoting=self._format.quoting)

    def _sample(self, file: SourceFile, first: int, names: list[str]) -> pl.DataFrame:
        """The first rows. Raises SchemaBroken where most of them have another number of fields."""
        block = next(self._records(file, first, _SAMPLE), b"")
        parsed = self._format.parse(block, names)
        odd = parsed.unreadable.filter(pl.col(RAW).is_not_null())
        if odd.height > parsed.rows.height:
            reasons = Counter(odd.get_column(REASON)).most_common(1)[0][0]
            likely = [
                repr(d) for d in ",\t;|" if d != self._format.delimiter and block.split(b"\n", 1)[0].count(d.encode()) == len(names) - 1
            ]
            guess = f"; with the delimiter {likely[0]} they would fit" if likely else ""
            raise SchemaBroken(
                f"{odd.height} of the first {odd.height + parsed.rows.height} rows of {file.uri} have {reasons} columns "
                f"({', '.join(names)}) at the delimiter {self._format.delimiter!r}{guess}",
                field="data.source.format",
                remedy="name the format (csv: commas, tsv: tabs), the columns and the quoting as they are in the file",
            )
        return parsed.rows


class ParquetReader:
    """Parquet, divided by row groups."""

    def __init__(self, sources: Sources, memory: int, folder: Path) -> None:
        self._sources, self._memory, self._folder = sources, memory, folder

    def columns(self, files: list[SourceFile]) -> list[Json]:
        """Names and types as the files say; dictionary-encoded text is text."""
        first = parquet_ranges.schema(self._sources, files[0], self._folder)
        for file in files[1:]:
            if (other := parquet_ranges.schema(self._sources, file, self._folder)) != first:
                raise SchemaBroken(
                    f"{file.uri} has the columns {_told(other)}; {files[0].uri} has {_told(first)}",
                    field="data.source",
                    remedy="name files that have the same columns and types in the same order",
                )
        return [{"name": name, "dtype": dtype} for name, dtype in first.items()]

    def divide(self, files: list[SourceFile], partitions: int) -> Layout:
        """Ranges of whole row groups."""
        layout = Layout([], [])
        for file, count in zip(files, shares(files, partitions), strict=True):
            made, ranges = parquet_ranges.divide(self._sources, file, count, self._folder)
            layout.files.append(made)
            layout.ranges.extend(ranges)
        return layout

    def read(self, each: Json, names: list[str]) -> Iterator[Parsed]:
        """See `Reader`; a range is fetched and verified before its first batch."""
        with parquet_ranges.fetched(self._sources, each, self._folder) as path, opened(path) as table:
            none: dict[str, Any] = {}
            for frame in batches(table, self._memory, each["groups"]):
                plain = frame.select(pl.col(names)).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
                none = none or {**plain.schema, RAW: pl.String, REASON: pl.String}
                yield Parsed(plain, pl.DataFrame(schema=none))


def _told(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in columns.items())
