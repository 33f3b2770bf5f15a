"""Step runs and the submissions of their jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.pipeline import StepKind
from perdure.metadata.tables.base import Base, Created, Key, owned_by


class StepState(StrEnum):
    """Where a step run stands; only ``running`` may still change."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class SubmissionState(StrEnum):
    """Where a submission stands; only ``open`` may still change."""

    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STALLED = "stalled"
    LOST = "lost"
    STOPPED = "stopped"


class StepRun(Base):
    """One step of one run: its cache key, its progress for people, its result."""

    __tablename__ = "step_run"
    __table_args__ = (
        UniqueConstraint("run_id", "round", "step"),
        # One step computes a key at a time. A step that waits for another, or uses its result, has the key but does not compute it.
        Index("uq_step_run_computing", "tenant", "key", unique=True, postgresql_where=text("computes and state = 'running'")),
        Index("ix_step_run_result", "tenant", "key", "finished_at", postgresql_where=text("computes and state = 'succeeded'")),
        CheckConstraint("(state = 'running') = (finished_at is null)", name="finished"),
        CheckConstraint("(state = 'succeeded') = (result is not null)", name="result"),
    )

    id: Mapped[Key]
    run_id: Mapped[UUID] = mapped_column(owned_by("run"))
    round: Mapped[int]
    step: Mapped[StepKind]
    state: Mapped[StepState] = mapped_column(server_default=StepState.RUNNING)
    key: Mapped[str | None]
    components: Mapped[dict[str, Any] | None]  # what the key was made of: code, params, inputs, environment
    computes: Mapped[bool] = mapped_column(server_default=text("false"))
    reason: Mapped[str] = mapped_column(server_default="")  # of the hit or miss
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    waiting_for: Mapped[str | None]
    waiting_since: Mapped[datetime | None]
    started_at: Mapped[Created]
    reported_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Submission(Base):
    """One start of a job. The insert decides which attempt submits; the others attach."""

    __tablename__ = "submission"
    __table_args__ = (
        Index("ix_submission_open", "step_run_id", postgresql_where=text("state = 'open'")),
        CheckConstraint("number > 0", name="number"),
        CheckConstraint("(state = 'open') = (finished_at is null)", name="finished"),
    )

    step_run_id: Mapped[UUID] = mapped_column(owned_by("step_run"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)  # of the job in its step; empty where a step has one job
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    job_id: Mapped[str] = mapped_column(unique=True)
    state: Mapped[SubmissionState] = mapped_column(server_default=SubmissionState.OPEN)
    exit_code: Mapped[int | None]
    message: Mapped[str] = mapped_column(server_default="")
    round: Mapped[int | None]  # the last committed checkpoint when it ended
    started_at: Mapped[Created]
    finished_at: Mapped[datetime | None]
