"""Delta tables of data sets, on a real S3."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from perdure.adapters import delta
from perdure.adapters.s3 import ObjectStore
from perdure.errors import CorruptArtifact
from tests.servers import Stack

SCHEMA = pa.schema([("x", pa.int64())])


@pytest.fixture(scope="module")
def objects(stack: Stack) -> ObjectStore:
    return ObjectStore(stack.isolated().s3)


def stream(*fails: Exception) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([[1, 2]], schema=SCHEMA)
        for each in fails:
            raise each

    return pa.RecordBatchReader.from_batches(SCHEMA, batches())


def test_what_the_rows_raise_is_told_and_nothing_is_committed(objects: ObjectStore) -> None:
    uri = objects.uri(f"delta/{uuid4()}")
    with pytest.raises(CorruptArtifact, match="other bytes"):
        delta.overwrite(objects, uri, lambda: stream(CorruptArtifact("other bytes")), identity="a", memory=1 << 20)
    assert not DeltaTable.is_deltatable(uri, objects.storage_options())
    assert delta.overwrite(objects, uri, stream, identity="a", memory=1 << 20) == 0
    assert delta.overwrite(objects, uri, stream, identity="a", memory=1 << 20) == 0
