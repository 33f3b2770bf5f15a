"""Evaluation: challenger and champion score the same frozen test rows with the predictors that would serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import polars as pl

from perdure.errors import InvalidInput, bounded
from perdure.jobs import metrics
from perdure.jobs.context import JobContext
from perdure.jobs.metrics import Array
from perdure.jobs.pairs import Pairs
from perdure.jobs.preparation.rows import TEST
from perdure.jobs.preparation.tables import TableWriter, frames
from perdure.jobs.preparation.transform import owned
from perdure.messages.common import ArtifactRef, Json
from perdure.predictor import InputMismatch, OwnerCodeError, PredictorError, load
from perdure.spec.pipeline import METRICS

KIND = "reports"
_BATCH = 4 << 20  # bytes of raw rows that are scored together
_GROUPS = 100  # slices of one column: the largest
_T = TypeVar("_T")


def evaluate(job: JobContext) -> Json:
    """Score, measure, compare. Raises InvalidInput where the challenger does not fit the rows, UserCodeError.

    A champion that cannot score these rows has ``error`` with the reason and no figures. ``metrics`` hold None, with a word in ``notes``,
    where the rows do not define one. ``pairs`` are what people are to be asked about both, where the specification wants that.
    """
    manifest = job.objects.get_json(job.artifact("manifest"))
    evaluation = _Evaluation(job, manifest)
    writer = TableWriter(job.scratch, "scores.parquet")
    for frame in evaluation.scored():
        writer.write(frame)
        job.progress({"phase": "evaluate", "rows": writer.rows})
    scores = writer.store(job.objects, KIND)
    if scores is None:
        raise InvalidInput("the data set has no test rows", field="data.split", remedy="prepare data with a test split")
    return {"rows": writer.rows, **evaluation.figures(), "scores": scores, "pairs": evaluation.pairs()}


class _Evaluation:
    """Scores in batches, and keeps what the metrics need of them: truth, scores and groups."""

    def __init__(self, job: JobContext, manifest: Json) -> None:
        self._job, self._manifest = job, manifest
        self._target = manifest["target"]
        self._challenger = _Scorer(job, "challenger", ArtifactRef.from_json(job.request.inputs["challenger"]))
        champion = job.request.inputs["champion"]
        self._champion = _Scorer(job, "champion", ArtifactRef.from_json(champion)) if champion else None
        self._pairs = Pairs(job, manifest) if champion and job.spec.evaluate.human else None
        self._truth: list[pl.Series] = []
        self._groups: dict[str, list[pl.Series]] = {each.column: [] for each in job.spec.evaluate.slices}

    def scored(self) -> Iterator[pl.DataFrame]:
        """Row number, label, the challenger's scores, and the champion's under ``champion_…``."""
        files = self._manifest["splits"][TEST]["files"]
        row = 0
        for frame in frames(self._job.objects, files, self._job.scratch, _BATCH):
            label = frame.get_column(self._target["column"]).alias("label")
            label = label.cast(pl.Float64) if self._target["task"] == "regression" else label.cast(pl.String)
            ours = self._challenger.score(frame)
            assert ours is not None, "a challenger that cannot score raises"
            features, scores = ours
            self._truth.append(label)
            for column, parts in self._groups.items():
                parts.append(_group(column, frame, features))
            numbers = pl.Series("row", np.arange(row, row + frame.height))
            theirs = self._champion.score(frame) if self._champion else None
            if self._pairs and theirs:
                self._pairs.add(row, frame, scores, theirs[1])
            row += frame.height
            made = [pl.DataFrame([numbers, label]), scores]
            if theirs is not None:
                made.append(theirs[1].rename(lambda name: f"champion_{name}"))
            yield pl.concat(made, how="horizontal")

    def figures(self) -> Json:
        """Metrics and slices of both."""
        truth = pl.concat(self._truth)
        groups = {column: _largest(pl.concat(parts)) for column, parts in self._groups.items()}
        return {
            "challenger": self._measured(self._challenger, truth, groups),
            "champion": self._measured(self._champion, truth, groups) if self._champion else None,
        }

    def pairs(self) -> Json | None:
        """What people are to compare; None where they are not asked, or the champion could not score all rows."""
        return self._pairs.store() if self._pairs and self._champion and not self._champion.error else None

    def _measured(self, scorer: _Scorer, truth: pl.Series, groups: dict[str, dict[str, Array]]) -> Json:
        unknown = "" if scorer.error else scorer.unknown(truth)
        if unknown and scorer is self._challenger:
            raise InvalidInput(
                f"the model does not know the classes {unknown}", field="data.target", remedy="train on data that holds them"
            )
        if unknown or scorer.error:
            return {"metrics": {}, "slices": {}, "error": scorer.error or f"it does not know the classes {unknown}"}
        wanted = self._job.spec.evaluate.metrics or list(METRICS[self._target["task"]])
        # a gate may ask for a metric that the list leaves out
        wanted = list(dict.fromkeys([*wanted, *(gate.metric for gate in self._job.spec.evaluate.gates)]))
        least = {each.column: each.min_rows for each in self._job.spec.evaluate.slices}
        return {
            **scorer.measure(wanted, truth, None),
            "slices": {
                column: {
                    value: {"rows": len(rows), **scorer.measure(wanted, truth, rows)}
                    for value, rows in values.items()
                    if len(rows) >= least[column]
                }
                for column, values in groups.items()
            },
        }


class _Scorer:
    """A predictor and its scores so far. The challenger must be able to score; what keeps the champion from it is its ``error``."""

    def __init__(self, job: JobContext, name: str, ref: ArtifactRef) -> None:
        self._job, self._name = job, name
        self.error: str | None = None
        self._scores: list[pl.DataFrame] = []
        self._path = job.objects.download(ref, job.scratch / f"{name}.zip")
        self._predictor = self._tried(lambda: load(self._path, job.scratch))

    def score(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """The transform's output and the scores. Raises InvalidInput, UserCodeError for the challenger; None for a champion that cannot."""
        predictor = self._predictor
        if predictor is None:
            return None
        features = self._tried(lambda: predictor.transform(frame))
        scores = self._tried(lambda: predictor.score(features)) if features is not None else None
        if features is None or scores is None:
            self._predictor = None
            return None
        self._scores.append(scores)
        return features, scores

    def unknown(self, truth: pl.Series) -> str:
        """Classes of *truth* that the model does not know."""
        known = self._predictor.classes if self._predictor else []
        return ", ".join(name for name in truth.unique().sort() if name not in known) if known else ""

    def measure(self, wanted: list[str], truth: pl.Series, rows: Array | None) -> Json:
        """Metrics of all rows, or of those at the positions *rows*, and notes where there are some."""
        assert self._predictor is not None
        chosen = truth if rows is None else truth.gather(rows)
        scores = pl.concat(self._scores)
        scores = scores if rows is None else scores[rows]
        if classes := self._predictor.classes:
            positions = chosen.replace_strict(classes, list(range(len(classes))), return_dtype=pl.Int64).to_numpy()
            values, notes = metrics.classification(wanted, positions, scores.select([f"p_{name}" for name in classes]).to_numpy())
        else:
            values, notes = metrics.regression(wanted, chosen.to_numpy(), scores.get_column("prediction").to_numpy())
        return {"metrics": values, **({"notes": notes} if notes else {})}

    def _tried(self, work: Callable[[], _T]) -> _T | None:
        if self._name == "challenger":
            made: _T = owned(self._job, "the model", "challenger", _fitting, work)
            return made
        try:
            return work()
        except MemoryError:
            raise
        except Exception as err:
            self.error = bounded(str(err) if isinstance(err, PredictorError) else f"{type(err).__name__}: {err}", 500)
            return None


def _fitting(work: Callable[[], _T]) -> _T:
    """What *work* makes; rows or a model that do not fit are a typed error. The owner's own errors pass."""
    try:
        return work()
    except OwnerCodeError:
        raise
    except InputMismatch as err:
        remedy = "evaluate on data that has the model's columns"
        raise InvalidInput(f"the model cannot score these rows: {err}", field="data.source", remedy=remedy) from None
    except PredictorError as err:
        raise InvalidInput(f"the model cannot score: {err}", field="train", remedy="mend the trainer or its parameters") from None


def _group(column: str, frame: pl.DataFrame, features: pl.DataFrame) -> pl.Series:
    """The slice of each row, as text: by a raw column, else by one of the transform's."""
    found = next((table.get_column(column) for table in (frame, features) if column in table.columns), None)
    if found is None:
        raise InvalidInput(
            f"{column!r} is neither a raw column nor one of the transform's",
            field="evaluate.slices",
            remedy=f"name one of: {', '.join([*frame.columns, *features.columns][:30])}",
        )
    text = found.cast(pl.String)
    if found.dtype.is_float():  # value by value: batches are grouped one after the other
        text = text.str.replace(r"^(-?\d+)\.0$", "$1")
    return text.fill_null("null")


def _largest(groups: pl.Series) -> dict[str, Array]:
    """Row positions by slice: the largest slices of the column, in order of their names."""
    counted = groups.alias("slice").value_counts(name="rows").sort("rows", "slice", descending=[True, False]).head(_GROUPS)
    return {value: (groups == value).arg_true().to_numpy() for value in counted.get_column("slice").sort()}
