"""Predictions that people are asked about: which, and what they are shown. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from perdure.labeling.chosen import RANDOM, UNSURE
from perdure.labeling.ports import NewTask
from perdure.serving.rows import CLASS, HASHED, INPUT, chance
from perdure.serving.scored import AskPolicy

WRONG = 2.0
"""The priority of what a user says is wrong. What the model is not sure of has less than 1: the less sure, the more."""
DRAWN = 1.0
"""That of what chance chose, sure or not: if the doubtful of them came first, those that are answered were not drawn by chance."""
_RANDOM = 1  # which of a request's numbers decides


def chosen(rows: pl.DataFrame, ask: AskPolicy) -> list[NewTask]:
    """The *rows* of the log that people are asked about: those that the model is not sure of, and some by chance."""
    confidence = _confidence(rows)
    tasks = []
    for number, id in enumerate(rows.get_column("id")):
        sure = confidence[number] if confidence is not None else None
        doubtful = sure is not None and sure < ask.confident_below
        drawn = chance(id, _RANDOM) < ask.random
        if doubtful or drawn:
            priority = DRAWN if drawn else 1.0 - (sure or 0.0)
            tasks.append(task(rows.row(number, named=True), ask.columns, priority, chosen=RANDOM if drawn else UNSURE))
    return tasks


def task(row: Mapping[str, Any], columns: Collection[str] | None, priority: float, *, chosen: str) -> NewTask:
    """The question about a row of the log. Its key is the prediction's id; what is hashed is not shown. *chosen* says why it is asked.

    ``shown`` in the prediction names the columns that people see, also those that are empty here.
    """
    inputs = {name.removeprefix(INPUT): value for name, value in row.items() if name.startswith(INPUT)}
    seen = {
        name: value
        for name, value in inputs.items()
        if (columns is None or name in columns)
        and not (isinstance(value, str) and value.startswith(HASHED))
        and not isinstance(value, bytes)
    }
    payload = {name: _plain(value) for name, value in seen.items() if value is not None}
    scores = [value for name, value in row.items() if name.startswith(CLASS) and value is not None]
    prediction = {"label": row["prediction"], "version": row["version"], "chosen": chosen, "shown": sorted(seen)}
    if scores:
        prediction["confidence"] = max(scores)
    return NewTask(key=row["id"], payload=payload, priority=priority, prediction=prediction)


def _confidence(rows: pl.DataFrame) -> list[float] | None:
    classes = [name for name in rows.columns if name.startswith(CLASS)]
    return rows.select(pl.max_horizontal(classes)).to_series().to_list() if classes else None


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)
