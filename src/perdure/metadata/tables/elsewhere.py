"""Campaigns whose tasks people see in another tool, Label Studio: what of them is there, and what has been read there."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Big, Created, owned_by


class ExternalProject(Base):
    """A campaign's project there. ``watermark`` is a time of the tool's: what changed there before it has been read."""

    __tablename__ = "external_project"

    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"), primary_key=True)
    hook_id: Mapped[str] = mapped_column(owned_by("hook"))
    address: Mapped[str]
    project: Mapped[Big | None]  # none until it is made
    watermark: Mapped[datetime | None]
    asked_at: Mapped[datetime | None]
    sending_problem: Mapped[str | None]  # why tasks could not be sent since then
    reading_problem: Mapped[str | None]  # why answers could not be read since then
    created_at: Mapped[Created]


class ExternalRef(Base):
    """A task there. The row is written before the task is sent: one without an id may be there or not, and is looked up by its key.

    The id is no name of the task: the tool may give it to another one later.
    """

    __tablename__ = "external_ref"
    __table_args__ = (
        Index("ix_external_ref_unsure", "campaign_id", postgresql_where=text("external_id is null and problem is null")),
        Index("ix_external_ref_campaign_id", "campaign_id"),
    )

    task_id: Mapped[UUID] = mapped_column(owned_by("task"), primary_key=True)
    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"))
    external_id: Mapped[Big | None]
    overlap: Mapped[int | None]  # opinions for which it is asked there
    problem: Mapped[str | None]  # why it cannot be shown there
    created_at: Mapped[Created]
    sent_at: Mapped[datetime | None]
