"""Signals that a model may have to be trained again, what they add up to, and every decision about it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.retraining import DriftKind, EpisodeState, Outcome, TriggerKind
from perdure.metadata.tables.base import Base, Big, Created, Key, owned_by


class DriftEvent(Base):
    """One statement of one monitor about one window. ``source`` and ``event_id`` are the sender's: the same again is one row."""

    __tablename__ = "drift_event"
    __table_args__ = (
        UniqueConstraint("tenant", "source", "event_id"),
        Index(None, "tenant", "model", "received_at"),
        Index(None, "tenant", "model", "monitor", "received_at"),
        Index("ix_drift_event_undecided", "tenant", "model", "received_at", postgresql_where=text("decision_id is null")),
    )

    id: Mapped[Key]
    source: Mapped[str]
    event_id: Mapped[str]
    type: Mapped[str]
    model: Mapped[str]
    version: Mapped[int | None]
    kind: Mapped[DriftKind]
    monitor: Mapped[str]
    window_start: Mapped[datetime | None]
    window_end: Mapped[datetime | None]
    n: Mapped[Big]
    drifted: Mapped[bool]
    severity: Mapped[float]  # 0 to 1
    metrics: Mapped[list[Any]]
    report_uri: Mapped[str | None]
    level: Mapped[bool] = mapped_column(server_default="false")  # how things stand, not what one window showed
    received_at: Mapped[Created]
    episode_id: Mapped[UUID | None] = mapped_column(owned_by("drift_episode"), index=True)
    decision_id: Mapped[UUID | None] = mapped_column(owned_by("retrain_decision"), index=True)  # that answered it


class DriftEpisode(Base):
    """Statements of one monitor that belong together, from the first drifted window to the return of quiet. One is open per monitor."""

    __tablename__ = "drift_episode"
    __table_args__ = (
        Index("uq_drift_episode_open", "tenant", "model", "monitor", unique=True, postgresql_where=text("closed_at is null")),
        Index(None, "tenant", "model", "opened_at"),
    )

    id: Mapped[Key]
    model: Mapped[str]
    monitor: Mapped[str]
    kind: Mapped[DriftKind]
    state: Mapped[EpisodeState]
    hits: Mapped[int]  # drifted windows that share no data
    misses: Mapped[int]  # quiet ones in a row
    last_window_end: Mapped[datetime | None]
    opened_at: Mapped[Created]
    closed_at: Mapped[datetime | None]


class RetrainTrigger(Base):
    """A reason other than drift to look whether a model should be trained: a date, data, labels, a dataset, a person."""

    __tablename__ = "retrain_trigger"
    __table_args__ = (
        UniqueConstraint("tenant", "model", "key"),
        Index("ix_retrain_trigger_undecided", "tenant", "model", "at", postgresql_where=text("decision_id is null")),
    )

    id: Mapped[Key]
    model: Mapped[str]
    kind: Mapped[TriggerKind]
    key: Mapped[str]  # made by who triggers: the same again is one row
    detail: Mapped[dict[str, Any]]
    actor: Mapped[str]
    at: Mapped[Created]
    decision_id: Mapped[UUID | None] = mapped_column(owned_by("retrain_decision"), index=True)


class RetrainPolicy(Base):
    """The part of a specification that decides about retraining, as it was when decisions were made by it."""

    __tablename__ = "retrain_policy"
    __table_args__ = (UniqueConstraint("tenant", "model", "sha256"),)

    id: Mapped[Key]
    model: Mapped[str]
    number: Mapped[int]
    sha256: Mapped[str]
    spec: Mapped[dict[str, Any]]
    pipeline: Mapped[str]  # that is run
    created_at: Mapped[Created]


class RetrainDecision(Base):
    """What was decided, also *not* to act, and why. What it started, and whether that helped, is added once it is known."""

    __tablename__ = "retrain_decision"
    __table_args__ = (
        UniqueConstraint("tenant", "model", "key"),
        Index(None, "tenant", "model", "created_at"),
    )

    id: Mapped[Key]
    model: Mapped[str]
    key: Mapped[str]  # derived from what is decided about: at most one decision to act per episode
    policy_id: Mapped[UUID] = mapped_column(owned_by("retrain_policy"))
    outcome: Mapped[Outcome]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]]  # the figures that were compared
    episodes: Mapped[list[Any]]  # ids
    actor: Mapped[str]
    workflow_id: Mapped[str | None]  # the run or campaign that was started
    result: Mapped[str | None]  # released | refused | failed | labels
    helped: Mapped[bool | None]
    created_at: Mapped[Created]
    finished_at: Mapped[datetime | None]
