"""Pairs of answers that people are asked to compare: drawn while two models score the same rows, and told without whose is whose."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from perdure.errors import InvalidInput
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.schema import row_schema
from perdure.keys import canonical, digest
from perdure.labeling.manifest import LONGEST
from perdure.labeling.pairwise import Side
from perdure.messages.common import Json

LONGEST_TEXT = 4_000  # characters of one value; a row is shown to people, not archived
FIGURES = 6  # significant ones of a number: what people can compare
_SPLIT, _GAP, _DRAW = "__split", "__gap", "__draw"
_OURS, _THEIRS = "__ours", "__theirs"
_ROW = "__row"


class Pairs:
    """The best rows to ask about so far.

    First rows of which the models say different classes, drawn by lot; then those whose scores differ most. Rows of which both say what
    people cannot tell apart are never asked about. The lot depends on the two models and the data, so the same evaluation asks the same.
    """

    def __init__(self, job: JobContext, manifest: Json) -> None:
        human = job.spec.evaluate.human
        assert human is not None, "people are to be asked"
        self._job, self._sample = job, human.sample
        self._columns = row_schema(job).shown(human.columns, manifest["schema"], manifest["target"]["column"])
        names = ("challenger", "champion", "manifest")
        self._seed = digest([job.artifact(name).sha256 for name in names])
        self._lot = np.random.default_rng(int(self._seed, 16))
        self._classes = manifest["target"]["task"] == "classification"
        self._kept: list[pl.DataFrame] = []
        self._differ = 0

    def add(self, first: int, frame: pl.DataFrame, ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
        """Take in the next rows of the test split, from number *first* on, with the challenger's and the champion's scores."""
        compared = _classes(ours, theirs) if self._classes else _numbers(ours, theirs)
        numbers = pl.Series(_ROW, np.arange(first, first + frame.height))
        lot = pl.Series(_DRAW, self._lot.random(frame.height))
        made = pl.concat([frame.select(self._columns), compared, pl.DataFrame([numbers, lot])], how="horizontal")
        made = made.filter(pl.col(_OURS) != pl.col(_THEIRS))
        self._differ += made.height
        self._kept = [pl.concat([*self._kept, made]).sort([_SPLIT, _GAP, _DRAW], descending=[True, True, False]).head(self._sample)]

    def store(self) -> Json:
        """The tasks as a manifest, and, in an object of its own, where the challenger's answers stand; how many rows differ at all."""
        [kept] = self._kept or [pl.DataFrame()]
        rows = kept.sort(_DRAW).to_dicts() if kept.height else []  # the order tells nothing
        if not rows:
            return {"asked": 0, "differ": 0, "tasks": None, "sides": None}
        lines, sides, places = [], {}, _places(self._seed, [row[_ROW] for row in rows])
        for number, row in enumerate(rows, 1):
            key = f"pair-{number:0{len(str(len(rows)))}}"
            side = places[row[_ROW]]
            answers = (row[_OURS], row[_THEIRS]) if side is Side.LEFT else (row[_THEIRS], row[_OURS])
            shown = {_called(name): _shown(row[name]) for name in self._columns}
            lines.append(self._line({"key": key, "payload": {**shown, Side.LEFT: answers[0], Side.RIGHT: answers[1]}}))
            sides[key] = {"challenger": side.value, "row": row[_ROW]}
        return {
            "asked": len(rows),
            "differ": self._differ,
            "tasks": self._job.objects.put("tasks", "tasks.ndjson", b"".join(lines)).as_json(),
            "sides": self._job.objects.put("reports", "sides.json", canonical(sides)).as_json(),
        }

    def _line(self, task: Json) -> bytes:
        line = canonical(task) + b"\n"
        if len(line) > LONGEST:
            raise InvalidInput(
                f"{len(self._columns)} columns of one row are more than people can be shown",
                field="evaluate.human.columns",
                remedy="name the few columns by which an answer can be judged",
            )
        return line


def _places(seed: str, rows: Sequence[int]) -> dict[int, Side]:
    """Where the challenger's answer to each row stands: by a lot that depends on nothing that is shown.

    Half of them stand left, so who always says the same side prefers nobody.
    """
    drawn = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row}".encode()).digest())
    left = int(seed, 16) % 2  # whether the one that is left over stands there
    return {row: Side.LEFT if (number + left) % 2 else Side.RIGHT for number, row in enumerate(drawn)}


def _classes(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """What each says with which probability; whether the classes differ, else how far apart the distributions are."""
    names = sorted({name for scores in (ours, theirs) for name in scores.columns if name.startswith("p_")})
    zero = pl.Series("", np.zeros(ours.height))
    apart = sum(((_column(ours, name, zero) - _column(theirs, name, zero)).abs() for name in names), zero) / 2
    split = ours["prediction"] != theirs["prediction"]
    return pl.DataFrame(
        [
            _answer(ours).alias(_OURS),
            _answer(theirs).alias(_THEIRS),
            split.alias(_SPLIT),
            pl.select(pl.when(split).then(0.0).otherwise(apart)).to_series().alias(_GAP),
        ]
    )


def _column(scores: pl.DataFrame, name: str, missing: pl.Series) -> pl.Series:
    """The probabilities of a class; a model that does not know it gives it none."""
    return scores[name] if name in scores.columns else missing


def _answer(scores: pl.DataFrame) -> pl.Series:
    likeliest = pl.max_horizontal([name for name in scores.columns if name.startswith("p_")])
    percent = (likeliest * 100).round(0).cast(pl.Int64)
    return scores.select(pl.format("{} ({} %)", pl.col("prediction"), percent)).to_series()


def _numbers(ours: pl.DataFrame, theirs: pl.DataFrame) -> pl.DataFrame:
    """What each says, and how far apart that is."""
    one, other = ours["prediction"], theirs["prediction"]
    return pl.DataFrame(
        [
            pl.Series(_OURS, [f"{value:.{FIGURES}g}" for value in one], dtype=pl.String),
            pl.Series(_THEIRS, [f"{value:.{FIGURES}g}" for value in other], dtype=pl.String),
            pl.repeat(False, ours.height, dtype=pl.Boolean, eager=True).alias(_SPLIT),
            (one - other).abs().alias(_GAP),
        ]
    )


def _called(column: str) -> str:
    """What a column is called beside the two answers."""
    return f"{column} (column)" if column in set(Side) else column


def _shown(value: Any) -> Any:
    """A value as JSON that people can read."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
