"""Features of one partition's training rows: float32 columns and ``__label``, all that a trainer reads."""

from __future__ import annotations

import polars as pl

from perdure.errors import UserCodeError
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.rows import TRAIN
from perdure.jobs.preparation.tables import TableWriter, frames
from perdure.jobs.preparation.transform import FIELD, called, check_rows_alone, feature_names, owner_transform
from perdure.messages.common import Json
from perdure.predictor import numbers

LABEL = "__label"


def features(job: JobContext) -> Json:
    """Apply the transform to the partition's training rows, which it sees without the target. Raises UserCodeImport, UserCodeError."""
    inputs, data, names = job.request.inputs, job.spec.data, None
    transform = owner_transform(job, inputs["state"])
    hidden = {data.split.column} if data.transform is None else set()
    file = inputs["partition"]["files"][TRAIN]
    writer = TableWriter(job.scratch, "features.parquet")
    for frame in frames(job.objects, [file] if file else [], job.scratch, (job.spec.data.memory_mb << 20) // 64):
        raw = frame.drop(data.target.column)
        made = called(job, transform.apply, raw)
        if names is None:
            names = _names(feature_names(made, {name for name in hidden if name}))
            values = called(job, numbers, made, names)
            check_rows_alone(job, transform, raw, values, names)
        else:
            values = called(job, numbers, made, names)
        writer.write(values.with_columns(_label(frame.get_column(data.target.column), inputs["classes"])))
        job.progress({"phase": "features", "index": job.request.index, "rows": writer.rows})
    return {"index": job.request.index, "rows": writer.rows, "files": {TRAIN: writer.store(job.objects)}, "features": names or []}


def _names(names: list[str]) -> list[str]:
    reserved = [name for name in names if name.startswith("__")]
    if reserved or not names:
        raise UserCodeError(
            f"the transform's columns {', '.join(reserved)} have reserved names" if reserved else "the transform made no columns",
            field=FIELD,
            remedy="return named columns of numbers",
        )
    return names


def _label(label: pl.Series, classes: list[str]) -> pl.Series:
    """The class's position in *classes*, or the number itself."""
    if classes:
        label = label.cast(pl.String).replace_strict(classes, list(range(len(classes))))
    return label.cast(pl.Float32).alias(LABEL)
