"""What answers requests: shares of the traffic, the processes that serve, and what they counted."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.rollout import TrafficKind
from perdure.metadata.tables.base import Base, Big, Created, Key, owned_by


class Traffic(Base):
    """The interval in which a candidate takes part in serving beside the released version. One candidate per model at a time."""

    __tablename__ = "traffic"
    __table_args__ = (
        Index("uq_traffic_open", "tenant", "model", unique=True, postgresql_where=text("until is null")),
        Index(None, "tenant", "model", "since"),
        CheckConstraint("until > since", name="interval"),
        CheckConstraint("share >= 0 and share <= 100", name="share"),
    )

    id: Mapped[Key]  # of promotion and stage
    model: Mapped[str]
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), index=True)
    promotion_id: Mapped[UUID] = mapped_column(owned_by("promotion"), index=True)
    stage: Mapped[int]  # position in promote.rollout; -1: standby before the first
    kind: Mapped[TrafficKind]
    share: Mapped[float]  # percent
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(server_default="")  # passed | rolled back | why it ended


class ServingInstance(Base):
    """A serving process, as it last said of itself. One that was not seen for a while is gone."""

    __tablename__ = "serving_instance"
    __table_args__ = (Index(None, "tenant", "seen_at"),)

    id: Mapped[Key]
    address: Mapped[str]
    started_at: Mapped[Created]
    seen_at: Mapped[Created]
    loaded: Mapped[list[Any]]  # ids of model versions that it can answer with at once
    failed: Mapped[dict[str, Any]]  # id of a version that it cannot load: why
    predictions: Mapped[Big] = mapped_column(server_default="0")  # answered so far
    logged: Mapped[Big] = mapped_column(server_default="0")  # of these, committed to the inference log


class ServingWindow(Base):
    """What one process counted of one version in one minute, by the row by which it took part. Written over: a repeat changes nothing."""

    __tablename__ = "serving_window"
    __table_args__ = (Index(None, "model_version_id", "minute"), Index(None, "minute"))

    instance_id: Mapped[UUID] = mapped_column(owned_by("serving_instance"), primary_key=True)
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)  # release | shadow | canary | arm
    by_id: Mapped[UUID] = mapped_column(primary_key=True)  # the row of `release`, or of `traffic`: a stage's counts are its own
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    requests: Mapped[Big]
    rows: Mapped[Big]
    errors: Mapped[Big]  # of the version: refused requests are the caller's
    latency: Mapped[list[Any]]  # requests by bucket, see perdure.serving.counting
    disagreements: Mapped[Big]  # a shadow's rows whose prediction differs from the answer
