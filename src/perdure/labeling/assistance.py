"""What a model says of a task: whether it answers for people, whether people see it, and whether it has been right often enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from perdure.keys import identity
from perdure.labeling.spec import Campaign, Model
from perdure.messages.common import Json
from perdure.messages.labeling import Assist

SOURCE = "model"
"""The source of answers that a model gave."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A prediction as it came with a task: ``confidence`` is its own ("score" means the same), ``labeler`` the model that said it."""

    label: Any
    confidence: float
    labeler: str


def guess(prediction: Json | None) -> Guess | None:
    """None where no label is predicted with a confidence from 0 to 1."""
    if prediction is None or prediction.get("label") is None:
        return None
    confidence = prediction.get("confidence", prediction.get("score"))
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        return None
    return Guess(label=prediction["label"], confidence=float(confidence), labeler=labeler_of(prediction.get("version")))


def labeler_of(version: object) -> str:
    """The name under which this version of a model answers."""
    return f"model:{'unknown' if version is None else version}"[:500]


def assist(task: UUID, prediction: Json | None, spec: Campaign) -> Assist | None:
    """Whether the model answers this task: accepted, audited by people, or not sure enough. The same in every attempt."""
    if spec.model is None or (said := guess(prediction)) is None:
        return None
    if said.confidence < spec.model.accept_above or spec.check(said.label):
        return None
    return Assist.AUDIT if drawn(task, "audit") < spec.model.audit else Assist.ACCEPT


def shown(task: UUID, prediction: Json | None, assisted: Assist | None, spec: Campaign) -> bool:
    """Whether people see what the model says of this task. An audit is blind."""
    return spec.predictions.show and prediction is not None and assisted is None and drawn(task, "blind") >= spec.predictions.blind


def failing(agreed: int, audited: int, rule: Model) -> bool:
    """Whether people disagreed with the model too often."""
    return audited >= rule.least and agreed < rule.min_agreement * audited


def drawn(task: UUID, what: str) -> float:
    """A number from 0 to 1, for each task another one, and always the same."""
    return float((identity(task, what).int >> 80) / 2**48)
