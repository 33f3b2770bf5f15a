"""The part `label` of the specification: people are asked about rows of the pool, and what they say is learned from, round by round."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from perdure.labeling.spec import Campaign, Overlap, Predictions, Rung
from perdure.spec.fields import ColumnName, Duration, duration
from perdure.spec.mistakes import show
from perdure.spec.part import Broken, Part

ONE_COLUMN = ("text", "image")
"""Shown from one column, under this name."""


class When(Part):
    """People are asked only while the model is sure about too little of the pool."""

    confident_below: float = Field(gt=0, le=1, description="asked while less than this share of the pool is predicted with confidence")
    confidence: float = Field(0.9, gt=0, lt=1, description="the probability of the likeliest class that counts as confident")


class Label(Part):
    """Rows without a label are a pool. A run asks people about some, learns from the answers, and does so again, for some rounds.

    What is asked, and of whom, is a campaign's: see docs/labeling.md.
    """

    question: str = Field(min_length=1, max_length=2_000, description="what people are asked", examples=["Is this message spam?"])
    choices: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=100, description="the classes to choose from; default: those of the labeled rows"
    )
    instructions: str = Field("", max_length=20_000, description="told to people beside the question")
    shows: Literal["text", "image", "row", "confirm"] = Field(
        "text", description="how a row is shown: text and image show one column, row and confirm any"
    )
    payload: list[ColumnName] | None = Field(None, min_length=1, description="columns that are shown; default: all that are not personal")
    rounds: int = Field(1, ge=1, le=100, description="how often people are asked, at most")
    batch: int = Field(100, ge=1, le=10_000, description="rows that are asked about in a round")
    strategy: Literal["margin", "entropy", "least_confidence", "random"] = Field(
        "margin", description="what counts as useful: close classes, entropy, no likely class; or chance"
    )
    diverse: bool = Field(True, description="whether useful rows are spread over the data, so that they do not repeat each other")
    random: float = Field(
        0.1, ge=0, le=1, description="share of a batch that chance chooses, from the whole pool; it alone may be tested on"
    )
    overlap: Overlap = Field(Overlap(), description="opinions a row")
    consensus: Literal["majority", "weighted", "dawid_skene"] = Field("weighted", description="how opinions become a label")
    predictions: Predictions = Field(Predictions(), description="whether people see what the model says")
    deadline: Duration | None = Field(None, description="after this a round goes on with what was decided", examples=["14d"])
    ladder: list[Rung] = Field(default_factory=list, max_length=20, description="reminders and the like on the way to the deadline")
    lease: Duration = duration("15m", "how long a row stays in somebody's hands without a word")
    skips: int = Field(2, ge=1, description="skips after which a row goes to an adjudicator")
    when: When | None = Field(None, description="asked only while this holds")
    metric: str | None = Field(None, description="what a round's gain is measured by; default: the first of evaluate.metrics")
    min_gain: float | None = Field(None, description="least gain of the metric per 100 labels; a round that gained less is the last")
    earlier: bool = Field(True, description="whether what people said in earlier runs of this pipeline counts from the start")

    def rules(self) -> Broken:
        """One column where one is shown; a prediction to be confirmed is shown; the campaign as a whole is one."""
        if self.shows in ONE_COLUMN and self.payload is not None and len(self.payload) != 1:
            yield ("payload",), f"{self.shows} shows one column, not {len(self.payload)}; or use `shows: row`", ("shows", "payload")
        if self.shows == "confirm" and not self.predictions.show:
            yield ("predictions", "show"), "must be true: what is confirmed has to be shown", ("shows", "predictions")
        if self.ladder and self.deadline is None:
            yield ("deadline",), "missing: a ladder leads to a deadline", ("ladder", "deadline")
        for name, values in (("choices", self.choices), ("payload", self.payload or [])):
            for index, value in enumerate(values):
                if value in values[:index]:
                    yield (name, index), f"{show(value)} is named twice", (name,)
        if len(self.choices) == 1:
            yield ("choices",), "one choice is no question; name all classes, or none", ("choices",)

    def campaign(self, *, owner: str | None, classes: list[str]) -> dict[str, Any]:
        """The specification of a round's campaign; *classes* are those of the labeled rows, none for a regression."""
        names = ("question", "instructions", "shows", "overlap", "consensus", "predictions", "deadline", "ladder", "lease", "skips")
        given = {name: getattr(self, name) for name in names}
        made = Campaign(**given, choices=self.choices or classes, **({"owner": owner} if owner else {}))
        return made.model_dump(mode="json")
