"""What decides about retraining: fields of `monitor`, all with defaults; a pipeline without monitors decides about its triggers by them.

The numbers come from simulations without drift: a model that is trained for every alarm of fifty features is trained every week for
nothing. See docs/retraining.md.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perdure.messages.retraining import DriftKind, Outcome
from perdure.spec.fields import Duration, duration
from perdure.spec.part import Broken, Part

Action = Literal["train", "label", "nothing"]


class Act(Part):
    """What confirmed drift leads to. Feature drift asks people, measured loss trains."""

    data: Action = Field("label", description="inputs have drifted")
    label: Action = Field("label", description="the truth is distributed differently")
    concept: Action = Field("label", description="predictions are, or the truth given the inputs")
    quality: Action = Field("train", description="errors have risen")


class Policy(Part):
    """When drift is believed, what follows from it, and how often at most."""

    confirm: int = Field(3, ge=1, le=100, description="drifted windows in a row that share no data, before drift is believed")
    share: float = Field(0.3, gt=0, le=1, description="share of ten or more features whose drift in one window confirms it at once")
    enter: float = Field(0.0, ge=0, le=1, description="least severity of a window that counts as drifted")
    exit: float = Field(0.1, ge=0, le=1, description="a window that has not drifted counts as quiet up to this severity")
    quiet: int = Field(2, ge=1, le=100, description="quiet windows in a row that end believed drift")
    quorum: int = Field(1, ge=1, le=20, description="monitors whose drift must be confirmed at the same time")
    cooldown: Duration = duration("24h", "rest after an action; twice as long each time that one did not help")
    max_per_day: int = Field(1, ge=0, le=1_000, description="automatic actions in 24 hours, at most; dates of triggers do not count")
    max_per_30d: int = Field(4, ge=0, le=10_000, description="automatic actions in 30 days, at most; then a person has to decide")
    min_new_labels: int = Field(0, ge=0, description="labels and outcomes since the last training, without which drift trains nothing")
    act: Act | None = Field(
        None,
        description="what confirmed drift leads to: train, label (ask people) or nothing",
        examples=[{"data": "label", "quality": "train"}],
    )
    observe: bool | None = Field(
        None, description="decide and write down, but act on no drift; default: until `act` says what drift leads to"
    )

    @property
    def observes(self) -> bool:
        """Whether drift is only written down."""
        return self.act is None if self.observe is None else self.observe

    def outcome(self, kind: DriftKind) -> Outcome:
        """What confirmed drift of *kind* leads to."""
        return Outcome(getattr(self.act or Act(), kind.value))

    def rules(self) -> Broken:
        """What opens an episode does not end it."""
        if self.enter and self.exit > self.enter:
            yield ("exit",), f"must be at most enter ({self.enter}): what counts as drifted is not quiet", ("enter", "exit")
        if self.max_per_30d < self.max_per_day:
            yield ("max_per_30d",), f"must be at least max_per_day ({self.max_per_day})", ("max_per_day", "max_per_30d")
