"""Monitoring: what is normal for a model version, once; and looks at what it was asked, answered, and got wrong since.

Both go through their rows once, in batches: memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from perdure.adapters.delta_log import DeltaLog, in_one
from perdure.errors import InvalidInput
from perdure.jobs.context import JobContext
from perdure.jobs.joining import ANSWERED, NUMBER, TRUTH, errors, with_truth
from perdure.jobs.preparation import profile
from perdure.jobs.preparation.rows import TEST, TRAIN
from perdure.jobs.preparation.tables import TableWriter, frames
from perdure.jobs.preparation.transform import owned
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.retraining import DriftKind
from perdure.monitoring import drift, report, sketches
from perdure.monitoring.bins import Bins
from perdure.monitoring.drift import Finding
from perdure.monitoring.reference import Counting, Normal
from perdure.monitoring.schema import differences
from perdure.monitoring.statistics import block_bootstrap
from perdure.monitoring.windows import Window, hourly, since_epoch
from perdure.predictions import REQUEST
from perdure.predictor import load, parse_dtype
from perdure.spec.monitor import Monitor

KIND = "reports"
INPUT, CLASS = "input.", "p."  # columns of the inference log: see perdure.serving.rows
_BATCH = 4 << 20  # bytes of raw rows that are taken together
_TOGETHER = 1_000_000  # outcomes that are joined at a time
_BEGINNING = 24  # a window's first part, an hour of a day, in which the version may not have answered yet
_CLASSES = 20  # whose probabilities are looked at
_BLOCK = 6  # hours, or days of the reference, that the block bootstrap draws together
_DAY = timedelta(days=1)


def reference(job: JobContext) -> Json:
    """The distributions of the rows that a version was trained on, and of its predictions and errors on those it was tested on.

    Raises UserCodeError where the version's transform fails, InvalidInput where the rows lack the column that says when they were.
    """
    wanted = _wanted(job)
    manifest = job.objects.get_json(job.artifact("manifest"))
    told = job.objects.get_json(ArtifactRef.from_json(manifest["profile"]))["splits"]
    target, time = manifest["target"], wanted.time or job.spec.data.split.column if job.spec.data.split.by == "time" else wanted.time
    left_out = {target["column"], *wanted.ignore, *([time] if time else [])}
    usual = told[TRAIN]
    if time is not None and time not in usual:
        raise InvalidInput(f"the training rows have no column {time!r}", field="monitor.time", remedy=f"choose from {', '.join(usual)}")
    bins = [each for name in usual if name not in left_out and (each := Bins.of(name, usual[name], profile.quantile))]
    label = _label_bins(target, manifest["classes"], usual)
    features = Counting([*bins, *([label] if label else [])])
    for frame in frames(job.objects, manifest["splits"][TRAIN]["files"], job.scratch, _BATCH):
        features.add(_as_text(frame, label), _days(frame, time))
        job.progress({"phase": "reference"})
    limits = {name: (column["numbers"].get("min"), column["numbers"].get("max")) for name, column in usual.items() if "numbers" in column}
    normals = features.normals(limits)
    scores = _scored(job, manifest, time)
    made = {
        "version": 1,
        "columns": {name: usual[name]["dtype"] for name in usual if name != target["column"] and not usual[name].get("personal")},
        "personal": [name for name in usual if usual[name].get("personal")],
        "requests": {each.name: normals[each.name].as_json() for each in bins},
        "labels": {label.name: normals[label.name].as_json()} if label else {},
        **scores,
        "task": target["task"],
        "target": target["column"],
    }
    return {"reference": job.objects.put(KIND, "reference.json", canonical(made)).as_json()}


def look(job: JobContext) -> Json:
    """Findings of all monitors that have enough rows, and a report.

    ``inputs``: ``reference``, ``model``, ``version``, ``at`` (the windows' end), ``outcomes`` (or None), ``trained``, the manifest of the
    data that the version was trained on, and ``newest``, that of newer data (or None).
    """
    return _Look(job).result()


class _Look:
    def __init__(self, job: JobContext) -> None:
        given = job.request.inputs
        self._job, self._wanted = job, _wanted(job)
        self._known = job.objects.get_json(job.artifact("reference"))
        self._end = datetime.fromisoformat(given["at"])
        self._days = self._wanted.window / _DAY
        self._log = DeltaLog(job.objects, job.objects.uri(f"inference/{given['model']}"))
        self._shown: list[report.Shown] = []

    def result(self) -> Json:
        found = [*self._training(), *self._asked(), *self._answered()]
        given = self._job.request.inputs
        about = report.About(given["model"], given["version"], self._end - self._wanted.window, self._end)
        page = report.page(about, found, self._shown).encode()
        path = self._job.objects.put(KIND, "drift.html", page)
        return {"findings": [each.as_json() for each in found], "report": path.as_json()}

    def _rows(self, since: datetime, until: datetime) -> pl.LazyFrame | None:
        """What the version answered in this time.

        None where it answered nothing, or where others did in the beginning: half a day, compared with whole days, looks like drift.
        """
        rows = self._log.scan(since.date(), until.date())
        if rows is None:
            return None
        answered = rows.filter(pl.col("role").is_in(ANSWERED), pl.col("time").is_between(since, until, closed="left"))
        mine = pl.col("version") == self._job.request.inputs["version"]
        begin = answered.select(pl.col("time").min().alias("any"), pl.col("time").filter(mine).min().alias("mine"))
        first, own = begin.collect(engine="streaming").row(0)
        return answered.filter(mine) if own is not None and own - first <= (until - since) / _BEGINNING else None

    def _training(self) -> list[Finding]:
        """Newer data against that which the version was trained on, by their profiles."""
        given = self._job.request.inputs
        if given.get("newest") is None:
            return []
        before, now = (self._profile(name) for name in ("trained", "newest"))
        target = self._known["target"]
        found = []
        for monitor, kind, part in (("training", DriftKind.DATA, "requests"), ("training-labels", DriftKind.LABEL, "labels")):
            if monitor == "training-labels" and "label" not in self._wanted.detectors:
                continue
            normals = {name: Normal.from_json(data) for name, data in self._known[part].items()}
            counted = {name: each for name, normal in normals.items() if (each := sketches.counted(normal, now.get(name, {}))) is not None}
            made = drift.columns(monitor, kind, counted, normals, sketches.whole(self._days), self._wanted)
            if monitor == "training":
                usual, types = ({name: column["dtype"] for name, column in each.items() if name != target} for each in (before, now))
                made = self._with_schema(made, monitor, kind, usual, types, sketches.rows(now))
            self._keep(made, normals, counted, sketches.whole(self._days))
            found.append(made)
        return [each for each in found if each is not None]

    def _profile(self, manifest: str) -> Json:
        """The columns of the training rows."""
        told = self._job.objects.get_json(self._job.artifact(manifest))
        columns: Json = self._job.objects.get_json(ArtifactRef.from_json(told["profile"]))["splits"][TRAIN]
        return columns

    def _asked(self) -> list[Finding]:
        """Requests and predictions of the window."""
        wanted, rows = self._wanted, self._rows(self._end - self._wanted.window, self._end)
        if rows is None:
            return []
        requests = {f"{INPUT}{name}": Normal.from_json(data) for name, data in self._known["requests"].items()}
        scores = {name: Normal.from_json(data) for name, data in self._known["predictions"].items()}
        types = {f"{INPUT}{name}": kind for name, text in self._known["columns"].items() if (kind := parse_dtype(text)) is not None}
        rows = in_one(rows, types)
        window = Window({**requests, **scores})
        window.read(rows, "time")
        self._job.progress({"phase": "requests", "rows": window.rows})
        if window.rows < wanted.min_rows:
            return []
        counted, span = window.counted(), window.span(self._days)
        asked = {name.removeprefix(INPUT): each for name, each in counted.items() if name in requests}
        normals = {name.removeprefix(INPUT): each for name, each in requests.items()}
        tested = asked if {"psi", "ks", "schema"} & set(wanted.detectors) else {}
        found = drift.columns("requests", DriftKind.DATA, tested, normals, span, wanted)
        schema = {name: str(kind) for name, kind in rows.collect_schema().items()}
        # others are of other versions: what this one is not asked for, it does not log
        logged = {name: schema[f"{INPUT}{name}"] for name in self._known["columns"] if f"{INPUT}{name}" in schema}
        found = self._with_schema(found, "requests", DriftKind.DATA, self._known["columns"], logged, window.rows)
        self._keep(found, normals, asked, span)
        answered = {name: each for name, each in counted.items() if name in scores}
        told = drift.columns("predictions", DriftKind.CONCEPT, answered, scores, span, wanted) if "prediction" in wanted.detectors else None
        self._keep(told, scores, answered, span)
        return [each for each in (found, told) if each is not None]

    def _answered(self) -> list[Finding]:
        """Labels and errors of the window whose outcomes had the time to come in."""
        wanted, end = self._wanted, self._end - self._wanted.late
        start = end - wanted.window
        rows = self._rows(start, end)
        if rows is None or self._job.request.inputs["outcomes"] is None:
            return []
        path = self._job.objects.download(self._job.artifact("outcomes"), self._job.scratch / "outcomes.parquet")
        asked, outcomes = rows.select("id", "time", "prediction"), pl.scan_parquet(path)
        labels = {name: Normal.from_json(data) for name, data in self._known["labels"].items()}
        window, task = Window(labels), self._known["task"]
        told = TRUTH if task == "classification" else NUMBER
        parts, squares = [], 0.0
        for batch in _joined(asked, outcomes):
            known = batch.with_columns(pl.col(told).alias(self._known["target"])).drop_nulls(self._known["target"])
            window.add(known, known.get_column("time"))
            known = errors(known, self._known["target"], task)
            squares += float((known.get_column("error") ** 2).sum())
            parts.append(hourly(known, start, end))
        found = []
        if labels and "label" in wanted.detectors:
            found.append(drift.columns("labels", DriftKind.LABEL, window.counted(), labels, window.span(self._days), wanted))
            self._keep(found[-1], labels, window.counted(), window.span(self._days))
        if parts and "quality" in wanted.detectors and self._known["error"] is not None:
            sums, counts = (np.sum([part[index] for part in parts], axis=0) for index in (0, 1))
            mean, error = block_bootstrap(sums, counts, _BLOCK)
            number = max(1.0, counts.sum())
            error = max(error, np.sqrt(max(0.0, squares / number - mean**2) / number))  # where all came in one hour, blocks say nothing
            usual = self._known["error"]
            found.append(drift.quality(float(mean), float(error), usual["mean"], usual["error"], int(counts.sum()), task, wanted))
            self._shown.append(report.Hours(start, sums, counts, usual["mean"]))
        return [each for each in found if each is not None]

    def _with_schema(
        self, found: Finding | None, monitor: str, kind: DriftKind, usual: dict[str, str], now: dict[str, str], rows: int
    ) -> Finding | None:
        if "schema" not in self._wanted.detectors:
            return found
        broken, new = differences(usual, now)
        return drift.with_schema(found, monitor, kind, rows, broken, new)

    def _keep(self, found: Finding | None, normals: dict[str, Normal], counted: dict[str, drift.Counted], span: drift.Span) -> None:
        if found is not None:
            self._shown += [
                report.Bars(found.monitor, name, normals[name].bins.labels, each.counts, normals[name].expected(span.weights))
                for name, each in counted.items()
            ]


def _wanted(job: JobContext) -> Monitor:
    return job.spec.monitor or Monitor()


def _joined(asked: pl.LazyFrame, outcomes: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Predictions with their truth, in batches. A join holds its outcomes in memory, so only so many are joined at a time."""
    parts = 1 + outcomes.select(pl.len()).collect().item() // _TOGETHER
    for part in range(parts):
        ours, theirs = (pl.col(name).str.tail(REQUEST).hash() % parts == part for name in ("id", "prediction_id"))
        yield from with_truth(asked.filter(ours), outcomes.filter(theirs), known=True).collect_batches(chunk_size=1 << 16)


def _label_bins(target: Json, classes: list[str], usual: Json) -> Bins | None:
    if target["task"] == "classification":
        return Bins(target["column"], "category", categories=tuple(classes))
    return Bins.of(target["column"], usual[target["column"]], profile.quantile)


def _as_text(frame: pl.DataFrame, label: Bins | None) -> pl.DataFrame:
    return frame.with_columns(pl.col(label.name).cast(pl.String)) if label is not None and label.kind == "category" else frame


def _days(frame: pl.DataFrame, time: str | None) -> pl.Series | None:
    """The day of each row; None where no column says when."""
    if time is None:
        return None
    times = frame.get_column(time)
    if times.dtype == pl.String:
        times = times.str.to_datetime(strict=False, time_unit="us", time_zone="UTC")  # what is no time has no day
    known = pl.Series(since_epoch(times.drop_nulls(), "day"))
    return pl.Series(np.zeros(frame.height, dtype=np.int64)).scatter(times.is_not_null().arg_true(), known).set(times.is_null(), None)


def _scored(job: JobContext, manifest: Json, time: str | None) -> Json:
    """Predictions and errors on the test rows; nothing where there are none."""
    predictor = load(job.objects.download(job.artifact("predictor"), job.scratch / "predictor.zip"), job.scratch)
    target, measured, names = manifest["target"], None, None
    writer = TableWriter(job.scratch, "scored.parquet")
    with writer:
        for frame in frames(job.objects, manifest["splits"][TEST]["files"], job.scratch, _BATCH):
            features = owned(job, "the model", "predictor", predictor.transform, frame)
            scores = owned(job, "the model", "predictor", predictor.score, features)
            names = [name for name in scores.columns if name != "prediction"][:_CLASSES]
            scores = scores.select("prediction", *names).rename({name: f"{CLASS}{name.removeprefix('p_')}" for name in names})
            label = frame.get_column(target["column"]).alias("__label")
            both = errors(scores.with_columns(label), "__label", target["task"]).drop("__label")
            part = profile.measure(both, set())
            measured = part if measured is None else profile.merge([measured, part])
            days = _days(frame, time)
            writer.write(both.with_columns(pl.Series("__day", days if days is not None else [0] * frame.height, dtype=pl.Int64)))
            job.progress({"phase": "reference", "rows": writer.rows})
    if measured is None:
        return {"predictions": {}, "error": None}
    counting = Counting([each for name in measured if name != "error" and (each := Bins.of(name, measured[name], profile.quantile))])
    sums: dict[int, list[float]] = {}
    for batch in pl.scan_parquet(job.scratch / "scored.parquet").collect_batches(chunk_size=1 << 16):
        counting.add(batch, batch.get_column("__day") if time is not None else None)
        for day, total, count in batch.group_by("__day").agg(pl.col("error").sum(), pl.len()).iter_rows():
            held = sums.setdefault(-1 if day is None else day, [0.0, 0])
            held[0], held[1] = held[0] + total, held[1] + count
    of_days = np.array([sums[day] for day in sorted(sums)], dtype=np.float64)
    mean, error = block_bootstrap(of_days[:, 0], of_days[:, 1], _BLOCK)
    numbers = measured["error"]["numbers"]
    error = max(error, np.sqrt(numbers["m2"]) / numbers["count"])  # of a single day, or of unknown ones, blocks say nothing
    limits = {name: (column["numbers"]["min"], column["numbers"]["max"]) for name, column in measured.items() if "numbers" in column}
    normals = counting.normals(limits)
    return {
        "predictions": {name: normal.as_json() for name, normal in normals.items()},
        "error": {"mean": float(mean), "error": float(error)},
    }
