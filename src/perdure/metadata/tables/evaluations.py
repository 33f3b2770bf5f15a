"""Evaluations, their figures, and what the gates said."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Big, Created, Key, owned_by


class EvaluationSubject(StrEnum):
    """Which of the two models a figure is about."""

    CHALLENGER = "challenger"
    CHAMPION = "champion"


class Evaluation(Base):
    """A model version, and the champion of that moment, scored on the same frozen rows."""

    __tablename__ = "evaluation"

    id: Mapped[Key]
    step_run_id: Mapped[UUID] = mapped_column(owned_by("step_run"), unique=True)
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), index=True)
    dataset_version_id: Mapped[UUID] = mapped_column(owned_by("dataset_version"))
    champion_version_id: Mapped[UUID | None] = mapped_column(owned_by("model_version"))
    rows: Mapped[Big]
    passed: Mapped[bool]
    metrics: Mapped[dict[str, Any]]  # of the challenger, on all rows
    evidence_sha256: Mapped[str]
    scores_id: Mapped[UUID | None] = mapped_column(owned_by("artifact"))
    human: Mapped[dict[str, Any] | None]  # what people said, where they were asked
    labels_id: Mapped[UUID | None] = mapped_column(owned_by("artifact"))  # the snapshot in which they said it
    created_at: Mapped[Created]


class EvaluationMetric(Base):
    """One figure on one group of rows; an empty ``slice_column`` means all rows."""

    __tablename__ = "evaluation_metric"

    evaluation_id: Mapped[UUID] = mapped_column(owned_by("evaluation"), primary_key=True)
    subject: Mapped[EvaluationSubject] = mapped_column(primary_key=True)
    slice_column: Mapped[str] = mapped_column(primary_key=True, server_default="")
    slice_value: Mapped[str] = mapped_column(primary_key=True, server_default="")
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]  # None: the metric is not defined on these rows
    rows: Mapped[Big]


class GateVerdict(Base):
    """One gate's outcome on one group of rows."""

    __tablename__ = "gate_verdict"

    evaluation_id: Mapped[UUID] = mapped_column(owned_by("evaluation"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    gate: Mapped[dict[str, Any]]
    passed: Mapped[bool]
    reason: Mapped[str]
    value: Mapped[float | None]
    champion_value: Mapped[float | None]
    slice: Mapped[str | None]
