"""The parts `log` and `ask` of the specification: what is kept of predictions, and which of them people are asked about."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from perdure.labeling.spec import Campaign, Overlap, Predictions, Shows
from perdure.spec.fields import ColumnName, Duration, duration
from perdure.spec.mistakes import show
from perdure.spec.part import Broken, Part


class Log(Part):
    """Predictions are kept in the inference log. What monitors, experiments and people see comes from there."""

    personal: Literal["drop", "hash"] = Field(
        "drop", description="what becomes of columns that data.schema marks with `pii`; hash: by the secret that inference.secret names"
    )
    sample: float = Field(1.0, gt=0, le=1, description="share of the requests whose predictions are kept")


class Ask(Part):
    """People are asked about predictions. What they say is the outcome of the prediction, and a label in the campaign's snapshots."""

    question: str = Field(min_length=1, max_length=2_000, description="what people are asked", examples=["Is this message spam?"])
    instructions: str = Field("", max_length=20_000, description="told to people beside the question")
    payload: list[ColumnName] | None = Field(None, min_length=1, description="columns that are shown; default: all that are not personal")
    flagged: bool = Field(True, description="ask about predictions that users say are wrong")
    confident_below: float = Field(0.0, ge=0, le=1, description="ask where the likeliest class is less probable than this")
    random: float = Field(0.01, ge=0, le=1, description="share of the predictions that are asked about by chance")
    most_open: int = Field(500, ge=0, description="tasks that may wait for people; only flagged predictions are added beyond")
    overlap: Overlap = Field(Overlap(), description="opinions a prediction")
    blind: float = Field(0.1, ge=0, le=1, description="share of the tasks that never show what the model said")
    learn: bool | None = Field(
        None, description="whether trainings learn what people say; unset: if they are shown every column, and none is personal"
    )
    snapshot_every: Duration = duration("1d", "how often decisions become a snapshot")

    def rules(self) -> Broken:
        """No column is shown twice."""
        for index, name in enumerate(self.payload or []):
            if name in (self.payload or [])[:index]:
                yield ("payload", index), f"{show(name)} is named twice", ("payload",)

    def campaign(self, *, owner: str | None, classes: list[str]) -> dict[str, Any]:
        """The specification of the standing campaign; *classes* are those of the model, none for a regression."""
        made = Campaign(
            question=self.question,
            instructions=self.instructions,
            choices=classes,
            shows=Shows.CONFIRM,
            overlap=self.overlap,
            predictions=Predictions(show=True, blind=self.blind),
            standing=True,
            snapshot_every=self.snapshot_every,
            outcomes=True,
            **({"owner": owner} if owner else {}),
        )
        return made.model_dump(mode="json")
