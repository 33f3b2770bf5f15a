"""The stage `experiment` of `promote.rollout`: two versions answer, each for its units, until what came of it says which is better."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from perdure.spec.fields import ColumnName, Duration, duration
from perdure.spec.part import Broken, Part

MEASURES = {"accuracy": "classification", "error": "regression", "reward": None}
"""Metrics of an experiment, with the task that each is for (None: any)."""
LOOKS = 1_000
"""Most looks at one experiment."""


class Experiment(Part):
    """The candidate answers a share of the units, the released version the others, and outcomes are compared by unit.

    It is looked at again and again by a test that allows it, and ends as soon as one version is better, or the time is over.
    """

    metric: Literal["accuracy", "error", "reward"] = Field(
        description="accuracy: share of right classes; error: mean distance of number and outcome, lower is better; reward: the outcome's"
        " own value, a number or true and false, higher is better"
    )
    share: float = Field(50, ge=1, le=99, description="percent of the units that the candidate answers")
    unit: ColumnName | None = Field(
        None,
        description="the raw column that is kept together (a customer, a device) where a request names no unit itself;"
        " default: such a request is a unit of its own",
    )
    source: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="the source whose outcomes count; default: the latest outcome of any",
        examples=["shop"],
    )
    min_units: int = Field(500, ge=100, description="units with an outcome in each arm before the first verdict")
    max_duration: Duration = duration("14d", "after this the experiment ends, whatever it says")
    peek: Duration = duration("1d", "time between two looks")
    alpha: float = Field(0.05, gt=0, le=0.2, description="chance that any look finds a difference where there is none")
    min_effect: float = Field(
        0, ge=0, description="a difference of the metric that would not matter: once it is known to be no greater, the experiment ends"
    )
    on_inconclusive: Literal["keep", "release"] = Field(
        "keep", description="what follows where neither is better: the released version is kept, or the candidate is released"
    )
    stall: Duration = duration("1h", "a look that says nothing for this long is stopped and started again")

    def rules(self) -> Broken:
        """There is a look before the end, and not more than can be kept."""
        by = ("peek", "max_duration")
        if self.peek < timedelta(seconds=1):
            yield ("peek",), "must be at least 1s", ("peek",)
        elif self.max_duration < self.peek:
            yield ("max_duration",), "must not be shorter than `peek`: there would be no look", by
        elif self.max_duration / self.peek > LOOKS:
            yield ("peek",), f"would be more than {LOOKS:,} looks until `max_duration`; look less often", by
        if self.metric == "accuracy" and self.min_effect >= 1:
            yield ("min_effect",), "must be less than 1: accuracy is a share", ("metric", "min_effect")


def unfit(metric: Any, task: Any) -> str | None:
    """Why *metric* is none for models of this *task*; None where it is."""
    wanted = MEASURES.get(metric) if isinstance(metric, str) else None
    if wanted is None or wanted == task or task not in ("classification", "regression"):
        return None
    return f"{metric} is for a {wanted}; data.target.task is {task}: use `{'error' if metric == 'accuracy' else 'accuracy'}` or `reward`"
