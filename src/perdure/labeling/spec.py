"""The specification of a labeling campaign: what people are asked, how many of them, and until when."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from perdure.errors import InvalidInput
from perdure.spec.fields import Duration, duration

Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shows(StrEnum):
    """How a task's payload is shown."""

    TEXT = "text"  # payload: {"text": ...}
    IMAGE = "image"  # payload: {"image": address}
    ROW = "row"  # payload: any columns
    PAIR = "pair"  # payload: {"left": ..., "right": ...}
    CONFIRM = "confirm"  # any payload, with a prediction that is confirmed or corrected


class Method(StrEnum):
    """How opinions become a label. Numbers are always decided by their median."""

    MAJORITY = "majority"  # each opinion is one vote
    WEIGHTED = "weighted"  # votes weigh by how their labelers did on gold
    DAWID_SKENE = "dawid_skene"  # weighted task by task, until each snapshot estimates labels and labelers' errors over the whole campaign


class Overlap(_Part):
    """Opinions a task: ``labels`` at first, one more while they disagree, ``most`` at last; then somebody else adjudicates."""

    labels: int = Field(1, ge=1, le=9, description="opinions at first")
    most: int = Field(3, ge=1, le=9, description="opinions at last, while they disagree")
    agreement: Share = Field(0.6, description="posterior of the winning label (majority: its share) below which another is asked for")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most < self.labels:
            raise ValueError("`most` must be at least `labels`")
        return self


class Gold(_Part):
    """Hidden tasks whose answer is known.

    A labeler who is right less often than ``warn`` is warned; than ``block``, is blocked, and their last ``requeue`` answers count no more.
    """

    rate: Share = Field(0.05, description="share of leased tasks that are gold, while there are any")
    least: int = Field(10, ge=1, description="gold answers before anybody is judged")
    warn: Share = 0.8
    block: Share = 0.6
    requeue: int = Field(50, ge=0)


class Rung(_Part):
    """One rung of the ladder: ``after`` this share of the time to the deadline, do ``then``."""

    after: Share = Field(description="share of the time to the deadline")
    then: Literal["remind", "escalate", "lower_overlap", "close"] = Field(description="what is done then")
    tell: str | None = Field(None, description="who is told; default: the owner")


class Predictions(_Part):
    """Whether a labeler sees what the model says. The ``blind`` share never does: it measures anchoring."""

    show: bool = Field(False, description="whether people see what the model says")
    blind: Share = Field(0.1, description="share of the tasks that are never shown with it")


class Model(_Part):
    """A model that answers the tasks whose predictions are confident enough.

    People answer the ``audit`` share of them instead, without seeing what the model says. Where they agree with it too seldom, all its
    answers in this campaign are withdrawn and left to people.
    """

    accept_above: Share = Field(description="confidence of a prediction from which on it is an answer", examples=[0.98])
    audit: Share = Field(0.1, description="share of these tasks that people answer instead")
    min_agreement: Share = Field(0.9, description="share of audited tasks in which people and model agree, at least")
    least: int = Field(20, ge=1, description="audited tasks before the model is judged")


class LabelStudio(_Part):
    """That the tasks are shown in Label Studio, too: the server that the settings name. Answers come back by web hook, and by looking."""

    project: int | None = Field(None, ge=1, description="a project that is there; default: a new one is made")


class Budget(_Part):
    """What people's work may cost, at most. It is looked at from time to time, so somewhat more may come in."""

    labels: int | None = Field(None, ge=1, description="answers of people that count")
    hours: float | None = Field(None, gt=0, description="time that answers took, as they tell it; each at most one hour")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.labels is None and self.hours is None:
            raise ValueError("a budget needs `labels` or `hours`")
        return self


class Stop(_Part):
    """Enough is known once labelers agree: the lower bound of Krippendorff's alpha is at least ``alpha``.

    The bound is three standard errors below the estimate, as it is looked at again and again.
    """

    alpha: float = Field(ge=-1, le=1, description="least alpha, with confidence")
    least: int = Field(200, ge=2, description="tasks with two opinions or more before it is judged")


class Campaign(_Part):
    """What people are asked."""

    question: str = Field(min_length=1, max_length=2_000)
    choices: list[str] = Field(default_factory=list, max_length=100, description="labels to choose from; empty: a number is asked for")
    shows: Shows = Shows.TEXT
    instructions: str = Field("", max_length=20_000)
    owner: str = "unknown"
    overlap: Overlap = Overlap()
    consensus: Method = Field(Method.WEIGHTED, description="how opinions become a label")
    gold: Gold = Gold()
    predictions: Predictions = Predictions()
    model: Model | None = Field(None, description="lets a model answer what it is sure of")
    quota: int | None = Field(None, ge=1, description="decided tasks after which it is over; default: all")
    budget: Budget | None = Field(None, description="labels or hours after which it is over")
    stop: Stop | None = Field(None, description="agreement of labelers from which on it is over")
    deadline: Duration | None = Field(None, description="time from its opening after which it closes, complete or not", examples=["14d"])
    ladder: list[Rung] = Field(default_factory=list, max_length=20)
    lease: Duration = duration("15m", "how long a task stays in somebody's hands without a word")
    skips: int = Field(2, ge=1, description="skips after which a task goes to an adjudicator")
    standing: bool = Field(False, description="never over: tasks keep coming, snapshots are taken as it goes")
    snapshot_every: Duration = duration("1d", "how often a standing campaign's decisions become a snapshot")
    outcomes: bool = Field(False, description="keys of tasks are ids of predictions: what is decided is written as their outcome, too")
    labelstudio: LabelStudio | None = Field(None, description="show the tasks in Label Studio, too")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(set(self.choices)) != len(self.choices):
            raise ValueError("two choices are the same")
        if not all(choice.strip() and choice.isprintable() for choice in self.choices):
            raise ValueError("a choice is a text that can be read: not empty, and without control characters")
        if self.ladder and self.deadline is None:
            raise ValueError("a ladder needs a deadline")
        if self.standing and (self.budget or self.stop):
            raise ValueError("a standing campaign has no `budget` and no `stop`: somebody closes it")
        if self.stop and self.overlap.labels < 2:
            raise ValueError("`stop` needs `overlap.labels` of 2 or more: else only those are asked twice who are in doubt")
        if self.consensus is Method.DAWID_SKENE and not self.choices:
            raise ValueError("`dawid_skene` needs choices: numbers are decided by their median")
        if self.model is not None and not self.choices:
            raise ValueError("a model that answers needs choices: numbers hardly ever agree")
        if self.outcomes and (self.model is not None or self.consensus is Method.DAWID_SKENE):
            raise ValueError("an outcome is what people say, once: with `outcomes` leave out `model` and `dawid_skene`")
        if self.shows is Shows.PAIR and self.choices not in ([], ["left", "right"], ["left", "right", "tie"]):
            raise ValueError("a pair is judged by left, right or tie")
        return self

    def check(self, value: Any) -> str | None:
        """What is wrong with an answer; None where it is one."""
        if self.choices:
            return None if value in self.choices and isinstance(value, str) else f"the answer must be one of: {', '.join(self.choices)}"
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        return None if fits else "the answer must be a number"


def load(raw: Any) -> Campaign:
    """The campaign that *raw* describes. Raises InvalidInput with every mistake and its path."""
    try:
        return Campaign.model_validate(raw)
    except ValidationError as err:
        told = [f"{'.'.join(str(part) for part in each['loc']) or 'spec'}: {each['msg']}" for each in err.errors(include_url=False)]
        raise InvalidInput(
            f"the campaign has {len(told)} mistake{'s' if len(told) != 1 else ''}\n  " + "\n  ".join(told),
            field="spec",
            remedy="see docs/labeling.md for the fields of a campaign",
        ) from None
