"""Checkpoints, training metrics, and the versions of models."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Created, Key, owned_by


class Checkpoint(Base):
    """A training state that the job committed in ``latest``."""

    __tablename__ = "checkpoint"

    step_run_id: Mapped[UUID] = mapped_column(owned_by("step_run"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str]  # of its directory, below the job's
    metrics: Mapped[dict[str, Any]]
    files: Mapped[dict[str, Any]]  # name: sha256
    recorded_at: Mapped[Created]


class Metric(Base):
    """A training metric by round. A round that is computed again after a restart gives the same figure, so the first one stays."""

    __tablename__ = "metric"

    step_run_id: Mapped[UUID] = mapped_column(owned_by("step_run"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    recorded_at: Mapped[Created]


class ModelVersion(Base):
    """A trained version of a model: exactly one per training step that computed something."""

    __tablename__ = "model_version"
    __table_args__ = (
        UniqueConstraint("tenant", "model", "number"),
        CheckConstraint("number > 0", name="number"),
    )

    id: Mapped[Key]
    model: Mapped[str]
    number: Mapped[int]
    step_run_id: Mapped[UUID] = mapped_column(owned_by("step_run"), unique=True)
    run_id: Mapped[UUID] = mapped_column(owned_by("run"), index=True)
    dataset_version_id: Mapped[UUID] = mapped_column(owned_by("dataset_version"), index=True)
    predictor_id: Mapped[UUID] = mapped_column(owned_by("artifact"))
    rounds: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class ModelEventKind(StrEnum):
    """What happened to a model version."""

    TRAINED = "trained"
    EVALUATED = "evaluated"
    REFUSED = "refused"
    RELEASED = "released"
    RETIRED = "retired"
    STAGED = "staged"
    ROLLED_BACK = "rolled_back"


class ModelEvent(Base):
    """The history of a model version, each event once per row that caused it (``subject_id``)."""

    __tablename__ = "model_event"
    __table_args__ = (Index(None, "model_version_id", "at"),)

    id: Mapped[Key]
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"))
    kind: Mapped[ModelEventKind]
    subject_id: Mapped[UUID]
    detail: Mapped[dict[str, Any]]
    at: Mapped[Created]


class Tag(Base):
    """What people search model versions by."""

    __tablename__ = "tag"
    __table_args__ = (Index(None, "tenant", "key", "value"),)

    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
