"""Fits the owner's transform on the training split, once, in a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import polars as pl

from perdure.errors import UserCodeError
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.limits import check
from perdure.jobs.preparation.rows import TRAIN
from perdure.jobs.preparation.tables import KIND, frames
from perdure.jobs.preparation.transform import FIELD, called, owner_transform
from perdure.messages.common import Json
from perdure.predictor import dump_state


def fit(job: JobContext) -> Json:
    """The state of the transform, in a safe format. Raises DataRejected, InvalidInput, UserCodeImport, UserCodeError."""
    partitions = job.request.inputs["partitions"]
    check(job.spec.data, partitions)
    state = called(job, owner_transform(job).fit, TrainingRows(job, partitions))
    try:
        body = dump_state(state)
    except TypeError as err:
        raise UserCodeError(
            f"fit() returned what cannot be kept: {err}", field=FIELD, remedy="return plain JSON values and numpy arrays"
        ) from None
    return {"state": asdict(job.objects.put(KIND, "state.zip", body))}


class TrainingRows:
    """The rows of the training split with all raw columns, in frames; may be gone through several times."""

    def __init__(self, job: JobContext, partitions: list[Json]) -> None:
        self._job = job
        self._files = [part["files"][TRAIN] for part in partitions if part["files"][TRAIN]]

    def __iter__(self) -> Iterator[pl.DataFrame]:
        memory = (self._job.spec.data.memory_mb << 20) // 64
        rows = 0
        for frame in frames(self._job.objects, self._files, self._job.scratch, memory):
            rows += frame.height
            self._job.progress({"phase": "fit", "rows": rows})
            yield frame
