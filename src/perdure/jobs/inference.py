"""Batch inference: a plan that divides the source, shards that are scored one by one, and one commit of all scores."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from perdure.errors import DataRejected, InvalidInput, SchemaBroken
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.columns import FAILURES, Failures, failing, typed
from perdure.jobs.preparation.limits import failures as merged
from perdure.jobs.preparation.quarantine import Quarantine, without
from perdure.jobs.preparation.ranges import partitioned
from perdure.jobs.preparation.reading import reader
from perdure.jobs.preparation.schema import row_schema
from perdure.jobs.preparation.source import SourceFile, Sources
from perdure.jobs.preparation.tables import TableWriter, frames, stream, to_arrow
from perdure.jobs.preparation.transform import owned
from perdure.keys import canonical, digest
from perdure.messages.common import ArtifactRef, Json
from perdure.predictor import OwnerCodeError, Predictor, PredictorError, load
from perdure.spec.pipeline import Source

KIND = "predictions"
VERSION = 1
SHARD = 64 << 20  # bytes of the source in one shard, where nobody says how many there are to be


def plan(job: JobContext) -> Json:
    """Look at the source: its digest, its columns, its shards. Raises SourceMissing, SourceChanged, SchemaBroken, InvalidInput."""
    inputs = job.request.inputs
    about = _about(job)
    source, files = _source(job)
    found = reader(source, Sources(job.objects), job.spec.data.memory_mb, job.scratch)
    seen = found.columns(files)
    columns = _columns(about, seen, inputs["keep"])
    shards = inputs["shards"] or math.ceil(sum(file.size for file in files) / SHARD)
    layout = found.divide(files, shards)
    return {
        "source": {
            "uri": source.uri,
            "digest": digest([[file["sha256"], file["bytes"]] for file in layout.files]),
            "bytes": sum(file["bytes"] for file in layout.files),
            "files": layout.files,
        },
        "reader": source.model_dump(mode="json"),
        "partitions": partitioned(layout.ranges, shards) if layout.ranges else [],
        "fields": [column["name"] for column in seen],
        "columns": columns,
        "keep": inputs["keep"],
        "classes": about["classes"],
        "personal": sorted(row_schema(job).personal),
    }


def _source(job: JobContext) -> tuple[Source, list[SourceFile]]:
    """How the source is read, and its files: those that a URI names, or those of a data set."""
    given = job.request.inputs["source"]
    if "manifest" not in given:
        source = Source.model_validate(given)
        return source, Sources(job.objects).find(source.uri)
    manifest = job.objects.get_json(ArtifactRef.from_json(given["manifest"]))
    parts = _parts(manifest)
    wanted = [given["split"]] if given["split"] else [name for name in parts if name != "pool"]
    if missing := [name for name in wanted if name not in parts]:
        raise InvalidInput(f"the data set has no {missing[0]!r}", field="source.split", remedy=f"name one of {', '.join(parts)}")
    files = [SourceFile(file["uri"], file["size"]) for name in wanted for file in parts[name]["files"]]
    if not files:
        raise InvalidInput(f"the data set has no rows in {', '.join(wanted)}", field="source.split", remedy="name another split or version")
    return Source(uri=given["manifest"]["uri"], format="parquet"), files


def _parts(manifest: Json) -> dict[str, Json]:
    """The parts of a data set whose rows can be scored, by name."""
    if "scores" in manifest:
        return {"scores": manifest["scores"]}
    return {**manifest["splits"], **({"pool": manifest["pool"]} if "pool" in manifest else {})}


def _about(job: JobContext) -> Json:
    """The predictor's description of itself; its model and code are not loaded."""
    with zipfile.ZipFile(job.objects.download(job.artifact("predictor"), job.scratch / "predictor.zip")) as archive:
        about: Json = json.loads(archive.read("predictor.json"))
    return about


def _columns(about: Json, seen: list[Json], keep: list[str]) -> list[Json]:
    """The columns that are read, with their types: those of the model, and those that are kept beside them as they are in the source."""
    types = {column["name"]: column["dtype"] for column in seen}
    if missing := [column["name"] for column in about["schema"] if column["name"] not in types]:
        wanted = ", ".join(f"{column['name']} ({column['dtype']})" for column in about["schema"])
        raise SchemaBroken(
            f"the source lacks the columns {', '.join(missing)}\n  seen: {', '.join(types)}\n  the model needs: {wanted}",
            field="source",
            remedy="see that format and header are those of the file; name the columns in source.columns where it has no header row",
        )
    made = {"prediction", *(f"p_{name}" for name in about["classes"])}
    for name in keep:
        if name not in types:
            raise InvalidInput(f"{name!r} is no column of the source", field="keep", remedy=f"name some of {', '.join([*types][:30])}")
        if name in made or name.startswith("__"):
            raise InvalidInput(f"{name!r} is the name of a column that is made", field="keep", remedy="rename it in the source")
    known = {column["name"] for column in about["schema"]}
    return [*about["schema"], *({"name": name, "dtype": types[name]} for name in keep if name not in known)]


def score(job: JobContext) -> Json:
    """Score shard ``request.index``; it is committed only if its bytes are those of the plan.

    Raises SourceMissing, SourceChanged, SchemaBroken, InvalidInput, UserCodeError.
    """
    inputs = job.request.inputs
    shard, keep = inputs["shard"], inputs["keep"]
    model = _model(job)
    source = reader(Source.model_validate(inputs["reader"]), Sources(job.objects), job.spec.data.memory_mb, job.scratch)
    scores, aside = TableWriter(job.scratch, "scores.parquet"), Quarantine(job.scratch, set(inputs["personal"]))
    known = {column["name"] for column in model.schema}
    beside = [name for name in keep if name not in known]
    for each in shard["ranges"]:
        for parsed in source.read(each, inputs["fields"]):
            frame, unfit = typed(parsed.rows, model.schema)
            unfit = pl.concat([unfit, _infinite(model, frame)])
            aside.add(parsed.rows, unfit)
            aside.unreadable(parsed.unreadable)
            good = without(frame, unfit)
            kept = pl.concat([frame, parsed.rows.select(beside)], how="horizontal").filter(good).select(keep)
            scores.write(pl.concat([kept, _scored(job, model, frame.filter(good))], how="horizontal"))
            job.progress({"phase": "score", "index": job.request.index, "rows": scores.rows})
    return {
        "index": job.request.index,
        "rows": scores.rows,
        "quarantined": aside.rows,
        "files": {"scores": scores.store(job.objects, KIND), "quarantine": aside.store(job.objects, KIND)},
        "failures": aside.kinds(),
    }


def _model(job: JobContext) -> Predictor:
    path = job.objects.download(job.artifact("predictor"), job.scratch / "predictor.zip")
    try:
        made: Predictor = owned(job, "model", job.spec.model_name, load, path, job.scratch)
    except PredictorError as err:
        raise InvalidInput(f"the model cannot be loaded: {err}", field="model", remedy="score with another version") from None
    return made


def _infinite(model: Predictor, frame: pl.DataFrame) -> Failures:
    """Infinite values in rows that the model cannot score for that; a transform may well know what to do with them."""
    columns = [series for series in frame.get_columns() if series.dtype.is_float()]
    found = pl.concat(
        [pl.DataFrame(schema=FAILURES), *(failing(each.is_infinite().fill_null(False), each.name, "is infinite", each) for each in columns)]
    )
    rows = found["row"].unique().sort().to_list()
    if not rows or _scores(model, frame[rows]):
        return found.clear()
    return found.filter(pl.col("row").is_in([row for row in rows if not _scores(model, frame[[row]])]))


def _scores(model: Predictor, frame: pl.DataFrame) -> bool:
    try:
        model.predict(frame)
    except PredictorError:
        return False
    return True


def _scored(job: JobContext, model: Predictor, frame: pl.DataFrame) -> pl.DataFrame:
    def predict() -> pl.DataFrame:
        try:
            return model.predict(frame)
        except OwnerCodeError:
            raise
        except PredictorError as err:
            raise InvalidInput(f"the model cannot score these rows: {err}", field="model", remedy="score with another version") from None

    made: pl.DataFrame = owned(job, "model", job.spec.model_name, predict)
    return made


def commit(job: JobContext) -> Json:
    """Store the manifest of all scores, and make them the newest version of their Delta table. Raises DataRejected."""
    from perdure.adapters import delta

    inputs = job.request.inputs
    content = _manifest(job, inputs)
    _check(content, inputs["quarantined"])
    manifest = job.objects.put(KIND, "manifest.json", canonical(content))
    uri = f"{job.request.storage}/delta/{inputs['to']}"
    memory = (job.spec.data.memory_mb << 20) // 16
    version = delta.overwrite(job.objects, uri, lambda: _batches(job, content), identity=manifest.sha256, memory=memory)
    return {
        "manifest": manifest.as_json(),
        "rows": {"train": 0, "test": 0, "scored": content["scores"]["rows"], "quarantined": content["quarantine"]["rows"]},
        "delta": {"uri": uri, "version": version},
        "schema": content["schema"],
        "classes": content["classes"],
        "failures": content["failures"],
    }


def _manifest(job: JobContext, inputs: Json) -> Json:
    """Everything that the scores are, and nothing that differs between two identical scorings."""
    plan, shards = inputs["plan"], inputs["shards"]
    scores = _files(shards, "scores")
    first = next((file for file in scores["files"]), None)
    return {
        "version": VERSION,
        "model": {**inputs["model"], "predictor": job.artifact("predictor").as_json()},
        "source": plan["source"],
        "reader": plan["reader"],
        "keep": plan["keep"],
        "columns": plan["columns"],
        "schema": _schema(job, first) if first else [],
        "classes": plan["classes"],
        "scores": scores,
        "quarantine": _files(shards, "quarantine"),
        "failures": merged(shards)[:50],
    }


def _files(shards: list[Json], name: str) -> Json:
    files = [shard["files"][name] for shard in shards if shard["files"][name]]
    return {"rows": sum(file["rows"] for file in files), "files": files}


def _schema(job: JobContext, file: Json) -> list[Json]:
    """The columns of the scores."""
    frame = next(frames(job.objects, [file], Path(job.scratch), 1 << 20))
    return [{"name": name, "dtype": str(dtype)} for name, dtype in frame.schema.items()]


def _check(content: Json, allowed: float) -> None:
    scored, aside = content["scores"]["rows"], content["quarantine"]["rows"]
    told = "".join(f"\n  {each['column'] or 'row'}: {each['check']} ({each['count']} rows)" for each in content["failures"][:5])
    if not scored:
        raise DataRejected(
            f"no row of {scored + aside} could be scored{told}", field="source", remedy="see that the source is the right one"
        )
    if aside > allowed * (scored + aside):
        share = aside / (scored + aside)
        raise DataRejected(
            f"{aside} of {scored + aside} rows ({share:.2%}) do not fit the model's columns, {allowed:.2%} are allowed{told}",
            field="quarantined",
            remedy="mend the source; raise the limit only if these rows do not matter",
        )


def _batches(job: JobContext, content: Json) -> Any:
    """All scores in the order of their shards."""

    def tables() -> Iterator[pa.Table]:
        done = 0
        for frame in frames(job.objects, content["scores"]["files"], job.scratch, (job.spec.data.memory_mb << 20) // 64):
            done += frame.height
            job.progress({"phase": "commit", "rows": done})
            yield to_arrow(frame)

    return stream(tables())
