"""What people did, and what has been told to MLflow."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Created, Serial


class Audit(Base):
    """Commands and decisions, append-only (a trigger refuses anything else)."""

    __tablename__ = "audit"
    __table_args__ = (
        Index(None, "tenant", "object_id"),
        Index("uq_audit_command", "tenant", "object_id", "command_id", unique=True, postgresql_where=text("command_id is not null")),
    )

    id: Mapped[Serial]
    at: Mapped[Created]
    actor: Mapped[str]
    action: Mapped[str]  # `run.pause`, `promotion.release`, ...
    object_id: Mapped[UUID]
    command_id: Mapped[str | None]  # made by who commands: the same command twice is one row
    reason: Mapped[str] = mapped_column(server_default="")
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]


class ProjectionKind(StrEnum):
    """What is projected to MLflow. ``metric``: the training metrics of one step run."""

    RUN = "run"
    METRIC = "metric"
    MODEL_VERSION = "model_version"
    RELEASE = "release"


class Projection(Base):
    """What MLflow was last told about an object; ``digest`` says in which state the object was."""

    __tablename__ = "projection"

    kind: Mapped[ProjectionKind] = mapped_column(primary_key=True)
    object_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[str]
    external_id: Mapped[str | None]
    pushed_at: Mapped[Created]
