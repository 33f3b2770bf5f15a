"""Delta tables that only grow: rows are appended in numbered batches, each batch of a writer once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from perdure.adapters.s3 import ObjectStore
from perdure.errors import ObjectsUnavailable, bounded

DAY = "date"
"""The column that tables are partitioned by."""
FEW = 32  # files of a day that are not worth putting together
KEPT_HOURS = 24  # so long a reader may go on with files that were put together meanwhile
_PAUSES = (0.0, 0.1, 0.3, 1.0, 3.0)
_NAMES = {
    "string": pl.String(),
    "long": pl.Int64(),
    "integer": pl.Int32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us", "UTC"),
    "binary": pl.Binary(),
}
_MOVED = re.compile(rf"(.+) \(({'|'.join(_NAMES)})\)")
_WRITER = WriterProperties(compression="ZSTD", compression_level=1)


class DeltaLog:
    """One table, as one process sees it. Not for several threads at once. Every method may raise ObjectsUnavailable."""

    def __init__(self, objects: ObjectStore, uri: str) -> None:
        self.uri, self._objects = uri, objects
        self._table: DeltaTable | None = None

    def committed(self, writer: str) -> int:
        """The number of the last batch of *writer*; 0 where there is none."""
        with _Translated(self):
            table = self._newest()
            return int(table.transaction_version(writer) or 0) if table else 0

    def append(self, rows: pl.DataFrame | Sequence[pl.DataFrame], writer: str, number: int) -> bool:
        """Append batch *number* of *writer*, unless that number or a later one is in. Whether it was appended.

        *rows*, together or in parts, have a column `DAY`. A column's type is that of who came first; values that it cannot hold get a
        column of their own, ``name (type)``.
        """
        parts = [plain(part) for part in ([rows] if isinstance(rows, pl.DataFrame) else rows)]
        with _Translated(self):
            for pause in _PAUSES:
                time.sleep(pause)
                table = self._newest()
                if table is not None and (table.transaction_version(writer) or 0) >= number:
                    return False
                try:
                    write_deltalake(
                        table or self.uri,
                        together(parts, _columns(table) if table else {}),
                        mode="append" if table else "error",
                        partition_by=[DAY],
                        schema_mode="merge" if table else None,
                        storage_options=self._objects.storage_options(),
                        writer_properties=_WRITER,
                        # Other writers' batches do not matter to this one (delta-rs tries again by itself), but for who made the table.
                        commit_properties=CommitProperties(
                            app_transactions=[Transaction(writer, number)], max_commit_retries=None if table else 0
                        ),
                    )
                    return True
                except CommitFailedError:
                    self._table = None
                except DeltaError:
                    known, self._table = table, None
                    if known is not None or self._newest() is None:  # else another made the table
                        raise
            raise ObjectsUnavailable(f"{self.uri}: others keep committing to this table", remedy="it is tried again")

    def crowded(self) -> list[str]:
        """The days with many small files, as ISO dates."""
        with _Translated(self):
            table = self._newest()
            if table is None:
                return []
            files = pl.DataFrame(table.get_add_actions(flatten=True)).select(pl.col(f"partition.{DAY}").cast(pl.String).alias(DAY))
            return sorted(files.group_by(DAY).len().filter(pl.col("len") > FEW).get_column(DAY).to_list())

    def compact(self, days: Iterable[str]) -> int:
        """Put the files of these *days* together, and delete what nobody reads any more; how many files were put together.

        For one at a time. Who appends meanwhile is not disturbed; of two that compact, one fails and changes nothing.
        """
        with _Translated(self):
            table, removed = self._newest(), 0
            if table is None:
                return 0
            for day in days:
                done = table.optimize.compact(partition_filters=[(DAY, "=", day)], max_concurrent_tasks=1, writer_properties=_WRITER)
                removed += int(done["numFilesRemoved"])
            table.vacuum(retention_hours=KEPT_HOURS, dry_run=False, enforce_retention_duration=False)
            return removed

    def scan(self, since: date | None = None, until: date | None = None) -> pl.LazyFrame | None:
        """The rows of these days, both included; None where there is no table."""
        with _Translated(self):
            table = self._newest()
            if table is None:
                return None
            rows = pl.scan_delta(table, storage_options=self._objects.storage_options())
        if since is not None:
            rows = rows.filter(pl.col(DAY) >= since)
        return rows if until is None else rows.filter(pl.col(DAY) <= until)

    def _newest(self) -> DeltaTable | None:
        if self._table is not None:
            self._table.update_incremental()
            return self._table
        try:
            self._table = DeltaTable(self.uri, storage_options=self._objects.storage_options())
        except TableNotFoundError:
            return None
        return self._table


class _Translated:
    """Errors of delta-rs inside become typed ones, and the table is opened anew after them."""

    def __init__(self, log: DeltaLog) -> None:
        self._log = log

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if isinstance(err, DeltaError | OSError) and not isinstance(err, ObjectsUnavailable):
            self._log._table = None
            next(self._log._objects.list("inference/"), None)  # says in typed words what is wrong with S3, if it is S3
            raise ObjectsUnavailable(f"{self._log.uri}: {bounded(str(err), 500)}", remedy="see the S3 server's log") from err


def plain(rows: pl.DataFrame) -> pl.DataFrame:
    """*rows* with the few types that all readers of Delta know: whole numbers of 64 bits, times in UTC.

    A time without a zone counts as UTC. A column that holds nothing is left out: it has no type yet.
    """
    return pl.DataFrame([_plain(series) for series in rows if series.dtype != pl.Null])


def together(parts: Sequence[pl.DataFrame], columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The rows of all *parts* (of `plain`), `fitted` to the types of *columns* and of the parts before."""
    made: list[pl.DataFrame] = []
    types = dict(columns)
    for part in parts:
        made.append(fitted(part, types))
        types = {**made[-1].schema, **types}
    return pl.concat(made, how="diagonal")


def _plain(series: pl.Series) -> pl.Series:
    kind = series.dtype
    if kind in (pl.Categorical, pl.Enum, pl.Time):
        return series.cast(pl.String)
    if kind in (pl.Int32, pl.Datetime("us", "UTC")):
        return series
    if kind == pl.UInt64 or isinstance(kind, pl.Decimal):
        return series.cast(pl.Float64)
    if kind.is_integer() or isinstance(kind, pl.Duration):
        return series.cast(pl.Int64)
    if kind.is_float():
        return series.cast(pl.Float64)
    if isinstance(kind, pl.Datetime):
        zoned = series.dt.convert_time_zone("UTC") if kind.time_zone else series.dt.replace_time_zone("UTC")
        return zoned.dt.cast_time_unit("us")
    return series


def fitted(rows: pl.DataFrame, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """*rows* (of `plain`) with the types that *columns* of the table have; what does not fit without loss moves to a column of its own."""
    made = []
    for series in rows:
        wanted = columns.get(series.name, series.dtype)
        if series.dtype != wanted:
            cast = series.cast(wanted, strict=False) if series.dtype.is_numeric() and wanted.is_numeric() else None
            if cast is None or not cast.cast(series.dtype, strict=False).equals(series, null_equal=True):
                made.append(series.alias(f"{series.name} ({_name(series.dtype)})"))
                continue
            series = cast
        made.append(series)
    return pl.DataFrame(made)


def in_one(rows: pl.LazyFrame, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """*rows* of the table with each of these columns in one piece, of this type as `plain` has it: what `fitted` moved aside is back."""
    names = rows.collect_schema().names()
    for name, kind in plain(pl.DataFrame(schema=types)).schema.items():
        moved = [each for each in names if _moved_from(each) == name and each not in types]
        parts = [pl.col(each).cast(kind, strict=False) for each in (name, *moved) if each in names]
        if parts:
            rows = rows.with_columns(pl.coalesce(parts).alias(name)).drop(moved)
    return rows


def whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table, by column, as it was written: what `fitted` moved aside is back."""
    made = dict(row)
    for name in row:
        own = _moved_from(name)
        if own is not None and own in row and (value := made.pop(name)) is not None:
            made[own] = value
    return made


def _moved_from(name: str) -> str | None:
    found = _MOVED.fullmatch(name)
    return found[1] if found else None


def _name(kind: pl.DataType) -> str:
    return next((name for name, each in _NAMES.items() if each == kind), str(kind))


def _columns(table: DeltaTable) -> dict[str, pl.DataType]:
    found = {field.name: getattr(field.type, "type", "") for field in table.schema().fields}
    return {name: _NAMES[kind] for name, kind in found.items() if kind in _NAMES}
