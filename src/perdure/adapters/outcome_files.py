"""Port `OutcomeFiles`: parquet by pyarrow, which is loaded when it is needed, page by page."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.adapters.s3 import ObjectStore
from perdure.errors import InvalidInput, StorageFull
from perdure.messages.common import ArtifactRef
from perdure.outcomes import Told

if TYPE_CHECKING:
    import pyarrow

KIND = "outcomes"


class ParquetOutcomes:
    """Outcomes as objects ``outcomes/{sha256}/outcomes.parquet``."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def write(self, told: Iterable[list[Told]]) -> ArtifactRef | None:
        """A parquet file of these, None for none. Raises InvalidInput where pyarrow is missing, StorageFull."""
        try:
            from pyarrow import parquet
        except ImportError:
            raise InvalidInput(
                "this worker cannot hand outcomes to jobs: pyarrow is not installed", remedy="install perdure[data] where workers run"
            ) from None
        with tempfile.TemporaryDirectory(prefix="perdure-outcomes-") as folder:
            path = Path(folder) / "outcomes.parquet"
            writer: Any = None
            try:
                for page in told:
                    table = _table(page)
                    writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd", compression_level=1, version="2.6")
                    writer.write_table(table)
            except OSError as err:
                if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise StorageFull("no room on the local disk for outcomes", remedy="free disk space on the node of the worker") from err
            finally:
                if writer is not None:
                    writer.close()
            return self._objects.put(KIND, path.name, path) if writer is not None else None


def _table(page: list[Told]) -> pyarrow.Table:
    import pyarrow as pa

    moment = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "prediction_id": pa.array([each.prediction_id for each in page], pa.string()),
            "source": pa.array([each.source for each in page], pa.string()),
            "value": pa.array([json.dumps(each.value, ensure_ascii=False) for each in page], pa.string()),
            "observed_at": pa.array([each.observed_at for each in page], moment),
            "received_at": pa.array([each.received_at for each in page], moment),
        }
    )
