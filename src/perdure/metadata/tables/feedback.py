"""What became known after a prediction: the truth, and what users said of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Created, Key


class Verdict(StrEnum):
    """What a user said of a prediction."""

    RIGHT = "right"
    WRONG = "wrong"
    UNSURE = "unsure"


class Outcome(Base):
    """The truth about one prediction, as one source tells it. A correction by the same source is another row with a later time."""

    __tablename__ = "outcome"
    __table_args__ = (Index(None, "tenant", "model", "received_at", "sequence"), Index(None, "prediction_id"))

    id: Mapped[Key]  # of prediction, source and the time it was observed: the same again is one row
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)  # the order of those of one time
    prediction_id: Mapped[str]
    model: Mapped[str]
    source: Mapped[str]
    value: Mapped[dict[str, Any]]  # {"value": …}
    observed_at: Mapped[datetime]
    received_at: Mapped[Created]


class Feedback(Base):
    """What one person said of one prediction. The last word of a person counts; each is kept."""

    __tablename__ = "feedback"
    __table_args__ = (Index(None, "tenant", "model", "created_at"), Index(None, "prediction_id"))

    id: Mapped[Key]
    prediction_id: Mapped[str]
    model: Mapped[str]
    version: Mapped[int]  # of the model that predicted
    principal: Mapped[str]
    verdict: Mapped[Verdict]
    comment: Mapped[str]
    created_at: Mapped[Created]
