"""The part `evaluate.human` of the specification: people judge the challenger against the champion, pair by pair, blind."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from perdure.labeling.pairwise import CHOICES
from perdure.labeling.spec import Campaign, Overlap, Rung, Shows
from perdure.messages.common import Json
from perdure.spec.fields import ColumnName, Duration, duration
from perdure.spec.mistakes import show
from perdure.spec.part import Broken, Part

REMINDERS = (0.0, 0.5, 0.9)
"""Shares of the time to the deadline after which the owner is told that people are asked: at once, and twice again."""


class Human(Part):
    """People compare the answers of challenger and champion to the same rows, without knowing whose is whose. Their verdict is a gate.

    How opinions become labels is a campaign's: see docs/labeling.md.
    """

    sample: int = Field(50, ge=1, le=10_000, description="pairs that people are asked about")
    rubric: Literal["pairwise"] = Field("pairwise", description="how people judge: which of two answers is better")
    min_win_rate: float = Field(0.5, ge=0, le=1, description="least share of pairs that the challenger wins; a tie counts half")
    confidence: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="how sure it must be that the rate is not less; default: the rate itself counts",
        examples=[0.9],
    )
    question: str = Field("Which answer is better?", min_length=1, max_length=2_000, description="what people are asked")
    instructions: str = Field("", max_length=20_000, description="told to people beside the question")
    columns: list[ColumnName] | None = Field(
        None, min_length=1, description="columns of the row that are shown; default: all but the target and personal ones"
    )
    overlap: Overlap = Field(Overlap(), description="opinions a pair")
    deadline: Duration = duration("7d", "after this the verdict is made of what is decided")

    def rules(self) -> Broken:
        """No column is named twice."""
        for index, column in enumerate(self.columns or []):
            if column in (self.columns or [])[:index]:
                yield ("columns", index), f"{show(column)} is named twice", ("columns",)

    def gate(self) -> dict[str, Any]:
        """What the verdict's row says of its gate."""
        return self.model_dump(mode="json", include={"rubric", "sample", "min_win_rate", "confidence"}, exclude_none=True)

    def campaign(self, owner: str | None) -> dict[str, Any]:
        """The specification of its campaign."""
        made = Campaign(
            question=self.question,
            instructions=self.instructions,
            choices=list(CHOICES),
            shows=Shows.PAIR,
            overlap=self.overlap,
            deadline=self.deadline,
            ladder=[Rung(after=share, then="remind") for share in REMINDERS],
            **({"owner": owner} if owner else {}),
        )
        return made.model_dump(mode="json")


def without_people(spec: Json) -> Json:
    """A specification as if it had nobody compare models: that of a round after which more may be learned."""
    return {**spec, "evaluate": {**spec["evaluate"], "human": None}}
