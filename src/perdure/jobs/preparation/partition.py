"""One partition: read, verify, check each row, set bad rows aside with their reasons, and split the good ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from perdure.jobs.context import JobContext
from perdure.jobs.preparation import answered, profile
from perdure.jobs.preparation.columns import Failures, failing, typed
from perdure.jobs.preparation.limits import check_number
from perdure.jobs.preparation.pool import KEY, POOL, SIDE, Labels, empty, keys, without_blanks
from perdure.jobs.preparation.quarantine import Quarantine, without
from perdure.jobs.preparation.reading import reader
from perdure.jobs.preparation.rows import TEST, TRAIN, in_time, membership, unsplittable
from perdure.jobs.preparation.schema import RowSchema, row_schema
from perdure.jobs.preparation.source import Sources
from perdure.jobs.preparation.tables import KIND, TableWriter, frames
from perdure.keys import canonical
from perdure.messages.common import Json
from perdure.spec.pipeline import Data


def partition(job: JobContext) -> Json:
    """Read partition ``request.index`` of the plan; results are committed only if its bytes are those of the plan.

    With the input ``labels`` (snapshots of what people said, perhaps none yet) a row without a label gets that of its key, or belongs to
    the pool. Of predictions that people have labeled, only those that chance chose are tested on. Raises SourceMissing, SourceChanged,
    SchemaBroken, DataRejected (too many classes), InvalidInput (a label that is none), UserCodeImport, UserCodeError.
    """
    plan, index, data = job.request.inputs["plan"], job.request.index, job.spec.data
    part = plan["partitions"][index]
    source = reader(data.source, Sources(job.objects), data.memory_mb, job.scratch)
    work = _Partition(job, plan, row_schema(job))
    repeated = _repeated(job, plan, index)
    row = 0
    for each in part["ranges"]:
        for rows, unreadable in answered.read(job, source, each, plan):
            new = ~np.isin(np.arange(row, row + rows.height), repeated)
            work.add(rows.filter(pl.Series(new)) if not new.all() else rows)
            if unreadable is not None:
                work.set_aside.unreadable(unreadable)
            row += rows.height
            job.progress({"phase": "partition", "index": index, "rows": row})
    return {"index": index, "duplicates": len(repeated), **work.result()}


def _repeated(job: JobContext, plan: Json, index: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The rows of this partition that repeat an earlier row."""
    if plan["duplicates"] is None:
        return np.empty(0, dtype=np.int64)
    memory = (job.spec.data.memory_mb << 20) // 64
    found = [t.filter(pl.col("partition") == index)["row"] for t in frames(job.objects, [plan["duplicates"]], job.scratch, memory)]
    return pl.concat(found).to_numpy()


class _Partition:
    """What becomes of a partition's rows."""

    def __init__(self, job: JobContext, plan: Json, schema: RowSchema) -> None:
        self._job, self._plan, self._schema, self._data = job, plan, schema, job.spec.data
        snapshots = job.request.inputs.get("labels")
        self._labels = None if snapshots is None else Labels(job, snapshots, plan["columns"])
        names = (TRAIN, TEST, *(() if snapshots is None else (POOL,)))
        self._tables = {name: TableWriter(job.scratch, f"{name}.parquet") for name in names}
        self._labeled = self._answered = 0
        self._profiles: dict[str, Json] = {}
        self._classes: dict[str, dict[str, int]] = {TRAIN: {}, TEST: {}}
        self.set_aside = Quarantine(job.scratch, schema.personal)

    def add(self, raw: pl.DataFrame) -> None:
        """Check and split rows; those after the data cut-off are left out."""
        raw = in_time(raw, self._data, self._plan["columns"])
        fair = raw.get_column(answered.FAIR) if answered.FAIR in raw.columns else None
        raw = raw.drop(answered.FAIR, strict=False)
        frame, unfit = typed(without_blanks(raw, self._data.target.column), self._plan["columns"])
        unlabeled = _unlabeled(frame, self._data, unfit)
        asked = None
        if self._labels is not None:
            frame, asked, unlabeled = self._ask(frame, unlabeled)
        failures = pl.concat([unfit, unlabeled, unsplittable(frame, self._data.split)])
        sound = without(frame, failures)
        checked = self._schema.failures(frame.filter(sound))
        checked = checked.with_columns(sound.arg_true().cast(pl.UInt32).gather(checked["row"]).alias("row"))
        if asked is not None:  # that a row of the pool has no label is no failure
            waiting = asked["waiting"].arg_true()
            checked = checked.filter(~((pl.col("column") == self._data.target.column) & pl.col("row").is_in(waiting.implode())))
        failures = pl.concat([failures, checked])
        if failures.height:
            self.set_aside.add(raw, failures)
            good = without(frame, failures)
            frame, asked = frame.filter(good), None if asked is None else asked.filter(good)
            fair = None if fair is None else fair.filter(good)
        chosen = membership(frame, self._data.split, self._data.target.column, self._plan["cut"])
        if fair is not None:
            kept = fair | (chosen != TEST)
            frame, chosen, asked = frame.filter(kept), chosen.filter(kept), None if asked is None else asked.filter(kept)
            self._answered += frame.height
        if asked is not None:
            assert self._labels is not None
            waiting = asked["waiting"] | (self._labels.unsure(asked[KEY]) & (chosen == TEST))
            pool = frame.drop(self._data.target.column).with_columns(asked[KEY], chosen.alias(SIDE))
            self._tables[POOL].write(pool.filter(waiting))
            self._labeled += int((asked[KEY].is_not_null() & ~waiting).sum())
            frame, chosen = frame.filter(~waiting), chosen.filter(~waiting)
        for name in (TRAIN, TEST):
            rows = frame.filter(chosen == name)
            if rows.height:
                self._tables[name].write(rows)
                self._measure(name, rows)

    def _ask(self, frame: pl.DataFrame, unlabeled: Failures) -> tuple[pl.DataFrame, pl.DataFrame, Failures]:
        """Rows without a label with that which people gave; by row its key (null where none is needed) and whether it still waits."""
        assert self._labels is not None
        target = self._data.target.column
        mask = empty(frame, target, unlabeled)
        rows = mask.arg_true()
        named = keys(frame.filter(mask), target)
        labels = self._labels.of(named)
        found = frame.get_column(target).scatter(rows, labels) if len(rows) else frame.get_column(target)
        key = pl.Series(KEY, [None] * frame.height, dtype=pl.String).scatter(rows, named)
        asked = pl.DataFrame([key, (mask & found.is_null()).alias("waiting")])
        return frame.with_columns(found.alias(target)), asked, unlabeled.filter(~pl.col("row").is_in(rows.implode()))

    def result(self) -> Json:
        """Store everything; the job's result."""
        files = {name: table.store(self._job.objects) for name, table in self._tables.items()}
        files["quarantine"] = self.set_aside.store(self._job.objects)
        summary = self._job.objects.put(KIND, "profile-part.json", canonical(self._profiles))
        counts = {name: file["rows"] if file else 0 for name, file in files.items()}
        return {
            "rows": counts[TRAIN] + counts[TEST],
            "quarantined": counts["quarantine"],
            "files": files,
            "classes": profile.add_counts(self._classes[TRAIN], self._classes[TEST]),
            "train_classes": self._classes[TRAIN],
            "failures": self.set_aside.kinds(),
            "profile": summary.as_json(),
            **({} if self._labels is None else {"labeled": self._labeled}),
            **({"answered": self._answered} if self._answered else {}),
        }

    def _measure(self, split: str, rows: pl.DataFrame) -> None:
        part = profile.measure(rows, self._schema.personal)
        self._profiles[split] = profile.merge([self._profiles[split], part]) if split in self._profiles else part
        if self._data.target.task == "classification":
            counts = rows.get_column(self._data.target.column).cast(pl.String).rename("class").value_counts(name="n")
            named = dict(zip(counts["class"].to_list(), counts["n"].to_list(), strict=True))
            self._classes[split] = profile.add_counts(self._classes[split], named)
            check_number(self._data, len(self._classes[split]))


def _unlabeled(frame: pl.DataFrame, data: Data, unfit: Failures) -> Failures:
    """Rows without a label: none, NaN, or (a number) infinite. Values that were no number have been told already."""
    label = frame.get_column(data.target.column)
    missing = label.is_null()
    if data.target.task == "regression" and label.dtype.is_float():
        missing = missing | label.is_infinite().fill_null(False)
    told = unfit.filter(pl.col("column") == data.target.column)["row"]
    found = failing(missing, data.target.column, "is missing")
    return found.filter(~pl.col("row").is_in(told.implode())) if told.len() else found
