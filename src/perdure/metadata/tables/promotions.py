"""Promotions, the votes on them, and the releases they led to."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.promotion import VoteDecision
from perdure.metadata.tables.base import Base, Created, Key, owned_by


class PromotionState(StrEnum):
    """Where a promotion stands; only ``open`` may still change."""

    OPEN = "open"
    RELEASED = "released"
    REFUSED = "refused"


class ApprovalStatus(StrEnum):
    """Where an approval stands; only ``open`` takes votes. ``closed``: its promotion, or its run, ended without a decision by vote."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    CLOSED = "closed"


class Promotion(Base):
    """The wish to release a model version, on the grounds of one evaluation. Its id is that of its step run."""

    __tablename__ = "promotion"
    __table_args__ = (CheckConstraint("(state = 'open') = (closed_at is null)", name="closed"),)

    id: Mapped[UUID] = mapped_column(owned_by("step_run"), primary_key=True)
    model: Mapped[str]
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), index=True)
    evaluation_id: Mapped[UUID] = mapped_column(owned_by("evaluation"))
    requested_by: Mapped[str]
    state: Mapped[PromotionState] = mapped_column(server_default=PromotionState.OPEN)
    reason: Mapped[str] = mapped_column(server_default="")
    closed_by: Mapped[str | None]
    opened_at: Mapped[Created]
    closed_at: Mapped[datetime | None]


class Approval(Base):
    """People are asked about one promotion; votes are bound to the digest of the evidence."""

    __tablename__ = "approval"
    __table_args__ = (CheckConstraint("required > 0", name="required"),)

    id: Mapped[Key]
    promotion_id: Mapped[UUID] = mapped_column(owned_by("promotion"), unique=True)
    evidence_sha256: Mapped[str]
    required: Mapped[int]
    approvers: Mapped[list[Any]]  # empty: anybody
    unauthenticated_counts: Mapped[bool]
    status: Mapped[ApprovalStatus] = mapped_column(server_default=ApprovalStatus.OPEN)
    deadline: Mapped[datetime]
    opened_at: Mapped[Created]


class ApprovalVote(Base):
    """One person's vote. One by a channel that proves nothing about the actor is refused where the policy wants proof."""

    __tablename__ = "approval_vote"

    approval_id: Mapped[UUID] = mapped_column(owned_by("approval"), primary_key=True)
    actor: Mapped[str] = mapped_column(primary_key=True)
    decision: Mapped[VoteDecision]
    reason: Mapped[str]
    channel: Mapped[str]
    at: Mapped[Created]


class Release(Base):
    """The interval in which a model version serves; the one without ``until`` serves now."""

    __tablename__ = "release"
    __table_args__ = (
        Index("uq_release_open", "tenant", "model", unique=True, postgresql_where=text("until is null")),
        Index(None, "tenant", "model", "since"),
        CheckConstraint("until > since", name="interval"),
    )

    id: Mapped[Key]
    model: Mapped[str]
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), index=True)
    promotion_id: Mapped[UUID | None] = mapped_column(owned_by("promotion"), unique=True)
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    rolled_back_id: Mapped[UUID | None] = mapped_column(owned_by("release"))  # the release that this one undid
    actor: Mapped[str]
    reason: Mapped[str]
