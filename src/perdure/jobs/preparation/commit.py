"""The commit: one manifest, and one version of the pipeline's Delta table, however often the job runs."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from perdure.jobs.context import JobContext
from perdure.jobs.preparation.manifest import Assembled, assemble
from perdure.jobs.preparation.pool import POOL
from perdure.jobs.preparation.rows import TEST, TRAIN
from perdure.jobs.preparation.tables import frames, stream, to_arrow
from perdure.messages.common import Json

SPLIT = "__split"


def commit(job: JobContext) -> Json:
    """Assemble the manifest and commit the valid rows. Raises DataRejected, InvalidInput, UserCodeError."""
    from perdure.adapters import delta

    made = assemble(job, job.request.inputs)
    uri = f"{job.request.storage}/delta/{job.spec.name}"
    memory = (job.spec.data.memory_mb << 20) // 16
    version = delta.overwrite(job.objects, uri, lambda: _batches(job, made), identity=made.ref.sha256, memory=memory)
    content = made.content
    return {
        "manifest": made.ref.as_json(),
        "profile": content["profile"],
        "state": job.request.inputs["state"],
        "rows": _rows(content),
        **({"labels": said} if (said := [*content.get("labels", []), *content.get("predictions", [])]) or "labels" in content else {}),
        "delta": {"uri": uri, "version": version},
        "schema": content["schema"],
        "classes": content["classes"],
        "failures": content["failures"],
    }


def _rows(content: Json) -> Json:
    counted = {split: content["splits"][split]["rows"] for split in (TRAIN, TEST)} | {"quarantined": content["quarantine"]["rows"]}
    if POOL in content:
        counted |= {"pool": content[POOL]["rows"], "labeled": content["labeled"]}
    if "answered" in content:
        counted["labeled"] = counted.get("labeled", 0) + content["answered"]
    return counted


def _batches(job: JobContext, made: Assembled) -> pa.RecordBatchReader:
    """The valid rows with their split, in a stream."""

    def rows() -> Iterator[pa.Table]:
        done = 0
        for split in (TRAIN, TEST):
            for frame in frames(job.objects, made.content["splits"][split]["files"], job.scratch, (job.spec.data.memory_mb << 20) // 64):
                done += frame.height
                job.progress({"phase": "commit", "rows": done})
                yield to_arrow(frame.with_columns(pl.lit(split).alias(SPLIT)))

    return stream(rows())
