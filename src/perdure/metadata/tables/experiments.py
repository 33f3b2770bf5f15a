"""Experiments: two versions, by unit, until a sequential test or the end of the time decides."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.experiment import ExperimentState
from perdure.metadata.tables.base import Base, Key, owned_by


class Experiment(Base):
    """One stage of one promotion in which units are divided between the released version and the candidate."""

    __tablename__ = "experiment"
    __table_args__ = (Index(None, "tenant", "model", "started_at"),)

    id: Mapped[Key]  # the traffic row's
    model: Mapped[str]
    promotion_id: Mapped[UUID] = mapped_column(owned_by("promotion"))
    champion_id: Mapped[UUID] = mapped_column(owned_by("model_version"))
    challenger_id: Mapped[UUID] = mapped_column(owned_by("model_version"))
    spec: Mapped[dict[str, Any]]
    state: Mapped[ExperimentState] = mapped_column(server_default=ExperimentState.RUNNING)
    reason: Mapped[str] = mapped_column(server_default="")
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class ExperimentLook(Base):
    """One look at an experiment: the figures per arm, and what followed from them."""

    __tablename__ = "experiment_look"

    experiment_id: Mapped[UUID] = mapped_column(owned_by("experiment"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]  # what came before counts
    figures: Mapped[dict[str, Any]]
    verdict: Mapped[ExperimentState]  # running: it goes on
    reason: Mapped[str]
