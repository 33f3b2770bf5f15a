"""What the routes about outcomes and feedback take and give, with examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, Tag

from perdure.gateway.bodies import example
from perdure.gateway.fields import Moment, Text
from perdure.metadata.repository.access import PRINCIPAL

MOST = 1_000
_ID = "moderation.3.01a20620babc767eb72a8cb802537e30"
PredictionId = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]+$", description="The `id` that came with the prediction.")]
Truth = (
    Annotated[StrictStr, Field(max_length=2_000, pattern=r"^[^\x00]*$")]
    | StrictBool
    | Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
    | Annotated[StrictFloat, Field(allow_inf_nan=False)]
)


class OutcomeItem(BaseModel):
    """The truth about a prediction. Without ``observed_at`` it is what is known now, if it differs from what the same source said last."""

    model_config = ConfigDict(extra="forbid")
    prediction_id: PredictionId
    value: Truth
    observed_at: Moment | None = None
    source: Annotated[str, Field(pattern=PRINCIPAL, description="Where the caller knows it from; beside the key's holder.")] | None = None


class Outcome(OutcomeItem):
    """One outcome."""

    model_config = example(prediction_id=_ID, value="ham", observed_at="2026-11-22T09:00:00Z")


class Outcomes(BaseModel):
    """Up to 1,000 outcomes."""

    model_config = example(outcomes=[{"prediction_id": _ID, "value": "ham"}])
    outcomes: Annotated[list[OutcomeItem], Field(min_length=1, max_length=MOST)]


class FeedbackItem(BaseModel):
    """What somebody says of a prediction. Their last word counts."""

    model_config = ConfigDict(extra="forbid")
    prediction_id: PredictionId
    verdict: Literal["right", "wrong", "unsure"]
    comment: Text = ""
    user: Annotated[str, Field(pattern=PRINCIPAL, description="Whom the caller speaks for.")] | None = None


class Feedback(FeedbackItem):
    """One word."""

    model_config = example(prediction_id=_ID, verdict="wrong", comment="this is my sister", user="u-1204")


class Feedbacks(BaseModel):
    """Up to 1,000 of them."""

    model_config = example(feedback=[{"prediction_id": _ID, "verdict": "wrong"}])
    feedback: Annotated[list[FeedbackItem], Field(min_length=1, max_length=MOST)]


def _many(body: Any) -> str:
    """Whether a body is one or a batch: then mistakes are told of that alone."""
    batch = isinstance(body, Outcomes | Feedbacks) or (isinstance(body, dict) and ("outcomes" in body or "feedback" in body))
    return "many" if batch else "one"


OneOutcomeOrMore = Annotated[Annotated[Outcome, Tag("one")] | Annotated[Outcomes, Tag("many")], Discriminator(_many)]
OneFeedbackOrMore = Annotated[Annotated[Feedback, Tag("one")] | Annotated[Feedbacks, Tag("many")], Discriminator(_many)]


class ReceiptView(BaseModel):
    """What became of one: the row's id, and whether it was there already; or why it was not taken."""

    prediction_id: str
    id: UUID | None = None
    duplicate: bool = False
    error: str | None = None


class Receipts(BaseModel):
    """Results, in the order of what was sent."""

    accepted: int
    duplicates: int
    refused: int
    results: list[ReceiptView]
