"""The plan: reads the source once (twice to find duplicates or a time), and divides it so that every partition can be read by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from perdure.errors import InvalidInput, SchemaBroken
from perdure.jobs.context import JobContext
from perdure.jobs.preparation import answered
from perdure.jobs.preparation.columns import typed
from perdure.jobs.preparation.pool import shown
from perdure.jobs.preparation.ranges import partitioned
from perdure.jobs.preparation.reading import Reader, reader
from perdure.jobs.preparation.rows import in_time
from perdure.jobs.preparation.scan import Duplicates, TimeCut
from perdure.jobs.preparation.schema import RowSchema, row_schema
from perdure.jobs.preparation.source import Sources
from perdure.jobs.preparation.transform import owner_transform
from perdure.keys import digest
from perdure.messages.common import Json
from perdure.predictor import parse_dtype
from perdure.spec.pipeline import Data


def plan(job: JobContext) -> Json:
    """Look at the source: its digest, its columns, its partitions, and what only all rows together can tell.

    With the input ``predictions`` (snapshots of what people said about them, oldest first) these are rows, too, if they are whole.
    Raises SourceMissing, SourceChanged, SchemaBroken, InvalidInput, UserCodeImport, UserCodeError.
    """
    data = job.spec.data
    transform = owner_transform(job)
    schema = row_schema(job)
    sources = Sources(job.objects)
    files = sources.find(data.source.uri)
    source = reader(data.source, sources, data.memory_mb, job.scratch)
    found = source.columns(files)
    asked = job.spec.label is not None or "labels" in job.request.inputs  # the latter: made again from its manifest
    columns = _columns(data, schema, found, asked=asked)
    personal = sorted(schema.personal & {column["name"] for column in columns})
    learns = answered.learned(job.spec.ask, columns, data.target.column, personal)
    learned = job.request.inputs.get("predictions", []) if learns else []
    if learned and not asked:
        columns = _columns(data, schema, found, asked=True)
    if job.spec.label is not None:
        shown(job.spec.label, columns, data.target.column, personal)
    if (human := job.spec.evaluate.human) is not None:
        schema.shown(human.columns, columns, data.target.column)  # told now, not after the training
    layout = source.divide(files, data.partitions)
    partitions = partitioned(layout.ranges, data.partitions) if layout.ranges else []
    partitions += answered.partitions_of(learned, len(partitions))
    fields = [column["name"] for column in found]
    _try(data, schema, source, partitions, fields, columns)
    total = sum(file["bytes"] for file in layout.files)
    made: Json = {
        "source": {
            "uri": data.source.uri,
            "digest": digest([[file["sha256"], file["bytes"]] for file in layout.files]),
            "bytes": total,
            "files": layout.files,
        },
        "partitions": partitions,
        "fits": transform.fits,
        "fields": fields,
        "columns": columns,
        "cut": None,
        "duplicates": None,
        "personal": personal,
        **({"predictions": learned} if learned else {}),
    }
    if data.deduplicate or data.split.by == "time":
        made |= _scan(job, source, made)
    return made


def _columns(data: Data, schema: RowSchema, found: list[Json], *, asked: bool) -> list[Json]:
    """The columns that are kept, with the types that they get. Raises SchemaBroken naming the columns seen and expected."""
    seen = {column["name"]: column["dtype"] for column in found}
    target = data.target.column
    named = [target, *([data.split.column] if data.split.column else [])]
    expected = list(dict.fromkeys([*schema.required, *named]))
    missing = [name for name in expected if name not in seen]
    if missing:
        raise SchemaBroken(
            f"the source lacks the columns {', '.join(missing)}\n  seen: {', '.join(seen)}\n  expected: {', '.join(expected)}",
            field="data.source.columns",
            remedy="see that format, columns and header are those of the file, and that names are written alike",
        )
    if reserved := [name for name in seen if name.startswith("__")]:
        raise SchemaBroken(f"the columns {', '.join(reserved)} have reserved names", field="data.source", remedy="rename them")
    types = {**seen, **{name: dtype for name, dtype in schema.dtypes.items() if name in seen}}
    if data.target.task == "classification" and target not in schema.dtypes and data.source.format != "parquet":
        types[target] = str(pl.String())
    if data.target.task == "regression" and target not in schema.dtypes and asked and _is_number(types[target]):
        types[target] = str(pl.Float64())  # whole numbers in the source do not keep people from answering with others
    kept = [name for name in seen if not schema.filters or name in schema.dtypes or name in named]
    for name in kept:
        if types[name] != seen[name] and parse_dtype(types[name]) is None:
            raise SchemaBroken(f"the column {name!r} ({seen[name]}) cannot be read as {types[name]}", field="data.schema")
    made = [{"name": name, "dtype": types[name]} for name in kept]
    _check_types(data, types, kept)
    return made


def _check_types(data: Data, types: dict[str, str], kept: list[str]) -> None:
    target, column = data.target.column, data.split.column
    if data.target.task == "regression" and not _is_number(types[target]):
        raise SchemaBroken(
            f"the target {target!r} holds {types[target]}, which is no number",
            field="data.target.column",
            remedy="name a column of numbers, its missing values in data.source.null_values, or set data.target.task: classification",
        )
    if data.split.by == "time" and column and not (_is_number(types[column]) or types[column].startswith("Date")):
        raise SchemaBroken(
            f"the time column {column!r} holds {types[column]}",
            field="data.split.column",
            remedy="name a column of dates, times or numbers, and its type in data.schema",
        )
    if data.transform is None:
        odd = [name for name in kept if name not in (target, column) and not (_is_number(types[name]) or types[name] == "Boolean")]
        if odd:
            raise InvalidInput(
                f"the columns {', '.join(f'{name} ({types[name]})' for name in odd)} are no numbers, so they cannot be features",
                field="data.transform",
                remedy="name a transform that makes numbers of them",
            )
        if not [name for name in kept if name not in (target, column)]:
            raise InvalidInput("there is no column to learn from", field="data.source", remedy="name a source with more columns")


def _is_number(dtype: str) -> bool:
    parsed = parse_dtype(dtype)
    return parsed is not None and parsed.is_numeric()


def _try(data: Data, schema: RowSchema, source: Reader, partitions: list[Json], fields: list[str], columns: list[Json]) -> None:
    """Check the first rows: a frame that is wrong as a whole fails here, and not in every partition."""
    ranges = [each for part in partitions for each in part["ranges"] if not answered.is_one(each)]
    for parsed in source.read(ranges[0], fields) if ranges else ():
        frame, _ = typed(parsed.rows.head(1_000), columns)
        schema.failures(frame)
        break


def _scan(job: JobContext, source: Reader, made: Json) -> Json:
    data = job.spec.data
    folder = Path(job.scratch)
    duplicates = Duplicates(folder, made["source"]["bytes"], (data.memory_mb << 20) // 8) if data.deduplicate else None
    cut = TimeCut(data.split.test) if data.split.by == "time" else None
    time_column = [column for column in made["columns"] if column["name"] == data.split.column]
    for partition in made["partitions"]:
        row = 0
        for each in partition["ranges"]:
            for rows, _ in answered.read(job, source, each, made):
                if duplicates:
                    duplicates.add(partition["index"], row, rows.drop(answered.FAIR, strict=False))
                if cut and not answered.is_one(each):  # what people were asked about is not as the data are
                    cut.add(typed(in_time(rows, data, time_column), time_column)[0].to_series())
                row += rows.height
                job.progress({"phase": "plan", "partition": partition["index"], "rows": row})
    found: dict[str, Any] = {}
    if cut:
        found["cut"] = cut.cut()
    if duplicates:
        found["duplicates"] = duplicates.store(job.objects, folder)
    return found
