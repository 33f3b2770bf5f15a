"""Selection: scores the pool with the predictor that would serve, and writes what people are asked next.

The pool is gone through once; no more of it is held than the rows from which the batch is chosen.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from perdure.jobs.context import JobContext
from perdure.jobs.preparation.pool import KEY, POOL, SIDE, shown
from perdure.jobs.preparation.rows import TEST, TRAIN
from perdure.jobs.preparation.tables import frames
from perdure.jobs.preparation.transform import owned
from perdure.keys import canonical
from perdure.labeling import selection
from perdure.labeling.chosen import RANDOM, UNSURE
from perdure.labeling.manifest import LONGEST
from perdure.labeling.selection import Floats, Strategy
from perdure.messages.common import Json
from perdure.predictor import load, numbers
from perdure.spec.label import ONE_COLUMN, Label

KIND = "tasks"
_BATCH = 4 << 20  # bytes of raw rows that are scored together
_CONFIDENT = 0.9  # the likeliest class's probability, where the specification names none
_RANK, _CHOSEN = "__rank", "__chosen"


def select(job: JobContext) -> Json:
    """Choose a batch: a share by chance from the whole pool, the others where the model is least sure, on the training side only.

    So the test set, which the random ones join as the split's rule says, stays a fair sample. Raises InvalidInput, UserCodeError.
    """
    label = job.spec.label
    assert label is not None, "only who labels selects"
    manifest = job.objects.get_json(job.artifact("manifest"))
    pool = _Pool(job, label, manifest)
    for frame in frames(job.objects, manifest[POOL]["files"], job.scratch, _BATCH):
        pool.add(frame)
        job.progress({"phase": "select", "rows": pool.rows})
    drawn = pool.chosen()
    chosen = drawn.filter(pl.Series([len(canonical(task)) <= LONGEST for task in pool.tasks(drawn)], dtype=pl.Boolean))
    path = job.scratch / "tasks.ndjson"
    with path.open("wb") as file:
        file.writelines(canonical(task) + b"\n" for task in pool.tasks(chosen))
    tasks = job.objects.put(KIND, path.name, path).as_json() if chosen.height else None
    return {"tasks": tasks, "asked": chosen.height, "classes": manifest["classes"], "figures": pool.figures(chosen, drawn.height)}


class _Pool:
    """Scores rows, and keeps those that may be asked about."""

    def __init__(self, job: JobContext, label: Label, manifest: Json) -> None:
        self._label = label
        self._job, self._model, self._seed = job, job.request.inputs["model"], str(job.artifact("predictor").sha256)
        self._predictor = load(job.objects.download(job.artifact("predictor"), job.scratch / "predictor.zip"), job.scratch)
        self._columns = shown(label, manifest["schema"], manifest["target"]["column"], manifest.get("personal", []))
        self._strategy = Strategy(label.strategy)
        batch: int = min(label.batch, manifest[POOL]["rows"])
        by_chance: int = batch if self._strategy is Strategy.RANDOM else round(batch * label.random)
        self._count: int = batch - by_chance
        self._chance, self._unsure = _Best(by_chance), _Best(self._held(by_chance))
        self.rows = self._learnable = self._confident = 0
        self._margins = 0.0

    def _held(self, by_chance: int) -> int:
        """How many unsure rows are held: some more than are wanted, for diversity, as far as their features fit into memory."""
        if not self._label.diverse:
            return self._count + by_chance
        room = (self._job.spec.data.memory_mb << 20) // 8 // (4 * max(1, len(self._predictor.features)))
        return max(self._count, min(self._count * selection.POOL, room)) + by_chance  # chance may take some of them

    def add(self, frame: pl.DataFrame) -> None:
        """Take *frame* in."""
        self.rows += frame.height
        features, scores = self._scored(frame)
        told = frame.select(KEY, SIDE, *self._columns).with_columns(_prediction(scores, self._predictor.classes))
        self._chance.add(told.with_columns(_chance(frame.get_column(KEY), self._seed).alias(_RANK)))
        if not self._predictor.classes:
            return
        probabilities = scores.select([f"p_{name}" for name in self._predictor.classes]).to_numpy()
        likeliest = np.sort(probabilities, axis=1)
        least = self._label.when.confidence if self._label.when else _CONFIDENT
        self._confident += int((likeliest[:, -1] >= least).sum())
        self._margins += float((likeliest[:, -1] - likeliest[:, -2]).sum())
        learnable = (frame.get_column(SIDE) == TRAIN).to_numpy()
        self._learnable += int(learnable.sum())
        unsure = selection.uncertainty(probabilities, self._strategy)
        self._unsure.add(told.with_columns(pl.Series(_RANK, unsure)).filter(learnable), self._points(features, learnable))

    def chosen(self) -> pl.DataFrame:
        """The batch, each row once, with what chose it."""
        by_chance = self._chance.rows
        left = np.ones(self._unsure.rows.height, dtype=bool)
        if by_chance.height and len(left):
            left = ~self._unsure.rows.get_column(KEY).is_in(by_chance.get_column(KEY).implode()).to_numpy()
        unsure, points = self._unsure.rows.filter(left), self._unsure.points
        if self._label.diverse and points is not None and self._count and unsure.height:
            unsure = unsure[selection.spread(points[left].astype(np.float64), self._count)]
        named = [(by_chance, RANDOM), (unsure.head(self._count), UNSURE)]
        parts = [rows.with_columns(pl.lit(name).alias(_CHOSEN)) for rows, name in named if rows.height]
        return pl.concat(parts) if parts else pl.DataFrame()

    def tasks(self, chosen: pl.DataFrame) -> Iterator[Json]:
        """The batch as lines of a campaign's manifest, the least sure first; what chance chose is mixed among them."""
        for row in chosen.iter_rows(named=True):
            values = [_plain(row[name]) for name in self._columns]
            names = [self._label.shows] if self._label.shows in ONE_COLUMN else self._columns
            prediction = {"label": row["__label"], **self._model, "chosen": row[_CHOSEN]}
            if row["__score"] is not None:
                prediction["score"] = row["__score"]
            yield {
                "key": row[KEY],
                "payload": dict(zip(names, values, strict=True)),
                "priority": row[_RANK] if row[_CHOSEN] == UNSURE else math.modf(row[_RANK] * 2**20)[0],
                "prediction": prediction,
            }

    def figures(self, chosen: pl.DataFrame, drawn: int) -> Json:
        """What the pool looks like to the model, and what was chosen of it; what is too long for a task is left out of what was *drawn*."""
        counts = {(str(how), str(side)): n for how, side, n in chosen.group_by(_CHOSEN, SIDE).len().iter_rows()} if chosen.height else {}
        random = {side: counts.get((RANDOM, side), 0) for side in (TRAIN, TEST)}
        return {
            "pool": self.rows,
            "random": random,
            "unsure": counts.get((UNSURE, TRAIN), 0),
            "too_long": drawn - chosen.height,
            **self._sureness(),
        }

    def _sureness(self) -> Json:
        if not self._predictor.classes:
            return {}
        shares = {"confident": self._confident / max(1, self.rows), "mean_margin": self._margins / max(1, self.rows)}
        return {"learnable": self._learnable, **shares}

    def _scored(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        features = owned(self._job, "the model", "predictor", self._predictor.transform, frame)
        return features, owned(self._job, "the model", "predictor", self._predictor.score, features)

    def _points(self, features: pl.DataFrame, rows: Any) -> Any:
        if not self._label.diverse:
            return None
        return np.nan_to_num(numbers(features, self._predictor.features).to_numpy()[rows])


class _Best:
    """The rows with the highest ranks so far, each key once, the highest first; ``points`` are their features."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = pl.DataFrame()
        self.points: Any = None

    def add(self, rows: pl.DataFrame, points: Any = None) -> None:
        """Take in what ranks high enough. Of equal ranks the first one stays."""
        if not self._most or not rows.height:
            return
        held = pl.concat([self.rows, rows]) if self.rows.height else rows
        if points is not None:
            points = points if self.points is None else np.concatenate([self.points, points])
        ranked = held.with_row_index("__at").unique(KEY, keep="first", maintain_order=True)
        ranked = ranked.sort(_RANK, descending=True, maintain_order=True).head(self._most)
        self.points = None if points is None else points[ranked.get_column("__at").to_numpy()]
        self.rows = ranked.drop("__at")


def _prediction(scores: pl.DataFrame, classes: list[str]) -> list[pl.Series]:
    """What the model says about each row, and how likely it finds that (nothing for a number)."""
    label = scores.get_column("prediction").alias("__label")
    if not classes:
        return [label, pl.Series("__score", [None] * scores.height, dtype=pl.Float64)]
    likeliest = scores.select(pl.max_horizontal([f"p_{name}" for name in classes]))
    return [label, likeliest.to_series().alias("__score")]


def _chance(named: pl.Series, seed: str) -> pl.Series:
    """A number from 0 to 1 for each key, as good as random, and the same in every attempt: the highest ones are drawn."""
    start = hashlib.blake2b(digest_size=8, key=seed.encode()[:64])
    drawn: Floats = np.empty(len(named))
    for row, key in enumerate(named):
        hasher = start.copy()
        hasher.update(key.encode())
        drawn[row] = int.from_bytes(hasher.digest(), "big") / 2**64
    return pl.Series(drawn)


def _plain(value: Any) -> Any:
    """*value* as JSON takes it; what it does not know is written as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
