"""Pipelines and their runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.pipeline import RunState, StepKind
from perdure.metadata.tables.base import Base, Created, Key, owned_by

LIVE = "state in ('running', 'paused')"


class PipelineVersion(Base):
    """A specification with the package of the owner's code, under their common content hash."""

    __tablename__ = "pipeline_version"
    __table_args__ = (
        UniqueConstraint("tenant", "name", "number"),
        UniqueConstraint("tenant", "name", "sha256"),
        Index("uq_pipeline_version_newest", "tenant", "name", unique=True, postgresql_where=text("newest")),
        CheckConstraint("number > 0", name="number"),
    )

    id: Mapped[Key]
    name: Mapped[str]
    number: Mapped[int]
    sha256: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_sha256: Mapped[str]
    code_id: Mapped[UUID | None] = mapped_column(owned_by("artifact"))
    git_commit: Mapped[str | None]
    newest: Mapped[bool]  # what a run gets that names no version; applying an old content again makes it the newest
    applied_by: Mapped[str]
    applied_at: Mapped[Created]


class Run(Base):
    """One execution of a pipeline: one chain of workflow executions under one workflow id."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("tenant", "workflow_id"),
        Index(None, "tenant", "started_at"),
        Index("ix_run_live", "tenant", postgresql_where=text(LIVE)),
        CheckConstraint(f"({LIVE}) = (finished_at is null)", name="finished"),
    )

    id: Mapped[Key]
    workflow_id: Mapped[str]
    chain: Mapped[str]
    pipeline_version_id: Mapped[UUID] = mapped_column(owned_by("pipeline_version"), index=True)
    spec: Mapped[dict[str, Any]]
    request: Mapped[dict[str, Any]]
    state: Mapped[RunState] = mapped_column(server_default=RunState.RUNNING)
    cache: Mapped[bool] = mapped_column(server_default=text("true"))
    recompute_from: Mapped[StepKind | None]
    requested_by: Mapped[str]
    error: Mapped[dict[str, Any] | None]
    started_at: Mapped[Created]
    finished_at: Mapped[datetime | None]
