"""The part `monitor` of the specification: what of a served model is looked at, how often, and what counts as drift."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perdure.spec.fields import ColumnName, Duration, duration
from perdure.spec.part import Broken, Part
from perdure.spec.retrain import Policy

Detector = Literal["schema", "psi", "ks", "label", "prediction", "quality"]
DETECTORS: tuple[Detector, ...] = ("schema", "psi", "ks", "label", "prediction", "quality")


class Effect(Part):
    """How far a distribution must have moved. Significance alone does not count: with many rows, everything is significant."""

    psi: float = Field(0.2, gt=0, description="population stability index of a number's bins, corrected for its bias")
    ks: float = Field(0.15, gt=0, lt=1, description="largest distance of two cumulative distributions of a number")
    categories: float = Field(0.1, gt=0, lt=1, description="Cramér's V of a category's counts")
    missing: float = Field(0.05, gt=0, lt=1, description="change of the share of missing values")
    error: float = Field(
        0.03,
        gt=0,
        description="rise of the error: in shares of rows where classes are predicted, in shares of the reference's for numbers",
    )


class Monitor(Policy):
    """A model that serves is looked at again and again. A look compares a window of what it was asked with what it was trained on."""

    every: Duration = duration("1h", "time between two looks")
    window: Duration = duration("24h", "what a look looks at; as long as the shortest season, or a multiple of it")
    detectors: list[Detector] = Field(
        list(DETECTORS),
        min_length=1,
        description="schema: columns, types, missing values; psi, ks: distributions; label, prediction: of these; quality: errors",
    )
    min_rows: int = Field(1_000, ge=100, description="fewest rows of a window that say anything")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance of an alarm by one monitor in one window without drift, over all columns")
    effect: Effect = Field(Effect(), description="how far something must have moved to count")
    time: ColumnName | None = Field(
        None,
        description="the column of the raw rows that says when: then days are compared with the same days of the week, and how much days"
        " differ is known; default: the column of a split by time",
    )
    ignore: list[ColumnName] = Field(default_factory=list, description="columns that are not looked at, such as numbers that count up")
    late: Duration = duration("24h", "outcomes come in for so long; the quality of a window is judged after that")
    stall: Duration = duration("1h", "a look that says nothing for this long is stopped and started again")

    def rules(self) -> Broken:
        """A look needs time, and a detector is named once."""
        yield from super().rules()
        if self.every.total_seconds() < 60:
            yield ("every",), "must be at least 1m", ("every",)
        if self.window < self.every:
            yield ("window",), "must not be shorter than `every`: what lies between two looks would never be looked at", ("window", "every")
        for index, name in enumerate(self.detectors):
            if name in self.detectors[:index]:
                yield ("detectors", index), f"{name} is named twice", ("detectors",)
