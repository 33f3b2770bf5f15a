"""Batch inference: one request to score a source, shard by shard."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Big, Created, Key, owned_by


class BatchState(StrEnum):
    """Where a batch inference stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchInference(Base):
    """One scoring of one source by one version; ``result`` is what was committed: manifest, Delta table, rows."""

    __tablename__ = "batch_inference"
    __table_args__ = (UniqueConstraint("tenant", "workflow_id"),)

    id: Mapped[Key]
    workflow_id: Mapped[str]
    chain: Mapped[str]
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), index=True)
    request: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any] | None]
    state: Mapped[BatchState] = mapped_column(server_default=BatchState.RUNNING)
    error: Mapped[dict[str, Any] | None]
    manifest_id: Mapped[UUID | None] = mapped_column(owned_by("artifact"))
    dataset: Mapped[str]
    rows: Mapped[Big | None]
    requested_by: Mapped[str]
    started_at: Mapped[Created]
    finished_at: Mapped[datetime | None]


class BatchShard(Base):
    """What was committed of one shard; the first result stays."""

    __tablename__ = "batch_shard"

    batch_id: Mapped[UUID] = mapped_column(owned_by("batch_inference"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    result: Mapped[dict[str, Any]]
    committed_at: Mapped[Created]
