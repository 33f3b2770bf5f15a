"""Delta tables: a version for every data set, each committed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from perdure.adapters.s3 import ObjectStore
from perdure.errors import ObjectsUnavailable, PerdureError, bounded

_MARK = "perdure.dataset"  # in a commit's metadata: which data set the version holds
_PAUSES = (0.0, 0.2, 1.0, 3.0)
_GROUP = 65_536  # rows: a row group is held in memory until it is full


def overwrite(objects: ObjectStore, uri: str, rows: Callable[[], Any], *, identity: str, memory: int) -> int:
    """Make the arrow stream that *rows* opens the newest version of the table at *uri*; returns the version's number.

    Once per *identity*: where it has been committed before, nothing is written and its version is returned, even if others followed. About
    *memory* bytes are buffered. Raises ObjectsUnavailable, AccessDenied, NotFound, and what the stream raises.
    """
    options, raised = objects.storage_options(), list[PerdureError]()
    try:
        for pause in _PAUSES:
            time.sleep(pause)
            table = _open(uri, options)
            if table is not None and (version := _committed(table, identity)) is not None:
                return version
            try:
                # Written against the very state that was looked at: whoever commits meanwhile, perhaps this data set, makes it fail.
                write_deltalake(
                    table or uri,
                    _remembering(rows(), raised),
                    mode="overwrite" if table else "error",
                    schema_mode="overwrite" if table else None,
                    storage_options=options,
                    target_file_size=memory,
                    writer_properties=WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=_GROUP),
                    commit_properties=CommitProperties(
                        custom_metadata={_MARK: identity}, app_transactions=[Transaction(identity, 1)], max_commit_retries=0
                    ),
                )
            except CommitFailedError:
                continue
            except DeltaError:
                if table is None and _open(uri, options) is not None:  # another made the table
                    continue
                raise
    except (DeltaError, OSError) as err:
        if raised:  # delta-rs tells of it in its own words only
            raise raised[0] from err
        next(objects.list("delta/"), None)  # says in typed words what is wrong with S3, if it is S3
        raise ObjectsUnavailable(f"{uri} could not be committed: {bounded(str(err), 500)}", remedy="see the S3 server's log") from err
    raise ObjectsUnavailable(f"{uri}: others keep committing to this table", remedy="try again when they are done")


def _remembering(stream: pa.RecordBatchReader, raised: list[PerdureError]) -> pa.RecordBatchReader:
    """The same *stream*; what reading it raises is kept."""

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from stream
        except PerdureError as err:
            raised.append(err)
            raise

    return pa.RecordBatchReader.from_batches(stream.schema, batches())


def _open(uri: str, options: dict[str, str]) -> DeltaTable | None:
    try:
        return DeltaTable(uri, storage_options=options)
    except TableNotFoundError:
        return None


def _committed(table: DeltaTable, identity: str) -> int | None:
    """The version that holds *identity*, if there is one."""
    if table.transaction_version(identity) is None:
        return None
    for limit in (20, None):  # it is nearly always among the newest
        for entry in table.history(limit):
            if entry.get(_MARK) == identity:
                return int(entry["version"])
    raise ObjectsUnavailable(f"{table.table_uri} holds {identity}, but its log was cut off before it", remedy="keep the table's log")
