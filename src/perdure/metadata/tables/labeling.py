"""Campaigns, their tasks, who works on them, and what they answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from perdure.messages.labeling import AnnotationStatus, AssignmentState, Assist, CampaignState, LabelerStatus, TaskState
from perdure.metadata.tables.base import Base, Created, Key, Serial, owned_by

_Value = JSONB(none_as_null=True)


class Campaign(Base):
    """Questions for people.

    ``decided`` and ``rejected`` count tasks; only the campaign's own tick writes them, so that no label waits for this row.
    ``version`` grows by each command: a command that names an older one is refused. ``measured`` is what ticks last found out for the
    rules that end it before its tasks do: labels and hours spent, agreement.
    """

    __tablename__ = "campaign"
    __table_args__ = (
        UniqueConstraint("tenant", "name"),
        UniqueConstraint("tenant", "workflow_id"),
        CheckConstraint("(state = 'closed') = (closed_at is not null)", name="closed"),
    )

    id: Mapped[Key]
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_sha256: Mapped[str]
    state: Mapped[CampaignState] = mapped_column(server_default=CampaignState.OPEN)
    version: Mapped[int] = mapped_column(server_default="1")
    deadline: Mapped[datetime | None]
    workflow_id: Mapped[str]
    total: Mapped[int] = mapped_column(server_default="0")
    decided: Mapped[int] = mapped_column(server_default="0")
    rejected: Mapped[int] = mapped_column(server_default="0")
    requested_by: Mapped[str]
    measured: Mapped[dict[str, Any] | None]
    closed_reason: Mapped[str | None]
    opened_at: Mapped[Created]
    closed_at: Mapped[datetime | None]


class TaskImport(Base):
    """One manifest of tasks on its way into a campaign; ``rows`` is how far it came."""

    __tablename__ = "task_import"

    id: Mapped[Key]
    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"), index=True)
    uri: Mapped[str]
    sha256: Mapped[str]
    rows: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[Created]
    finished_at: Mapped[datetime | None]


class Task(Base):
    """One question. Its id derives from campaign and key, so a repeated import meets its own rows.

    ``overlap`` is how many opinions it wants now; ``n_valid`` and ``n_skip`` change in one transaction with the annotation that they count.
    ``assist`` is set where a model answers for people, or is audited by them.
    """

    __tablename__ = "task"
    __table_args__ = (
        UniqueConstraint("campaign_id", "key"),
        Index("ix_task_open", "campaign_id", text("priority desc"), "id", postgresql_where=text("state = 'open'")),
        Index("ix_task_full", "campaign_id", "id", postgresql_where=text("state = 'full'")),
        Index("ix_task_disputed", "campaign_id", "id", postgresql_where=text("state = 'disputed'")),
        Index("ix_task_assisted", "campaign_id", "id", postgresql_where=text("state = 'open' and assist = 'accept'")),
        Index("ix_task_gold", "campaign_id", postgresql_where=text("gold is not null")),
        Index("ix_task_audited", "campaign_id", postgresql_where=text("state = 'decided' and assist = 'audit'")),
    )

    id: Mapped[Key]
    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"))
    key: Mapped[str]
    payload: Mapped[dict[str, Any]]
    priority: Mapped[float] = mapped_column(server_default="0")
    state: Mapped[TaskState] = mapped_column(server_default=TaskState.OPEN)
    overlap: Mapped[int]
    n_valid: Mapped[int] = mapped_column(server_default="0")
    n_skip: Mapped[int] = mapped_column(server_default="0")
    gold: Mapped[Any | None] = mapped_column(_Value)
    prediction: Mapped[dict[str, Any] | None]
    assist: Mapped[Assist | None]
    model_version_id: Mapped[UUID | None] = mapped_column(owned_by("model_version"))


class Labeler(Base):
    """Who answers: a person, or a model.

    ``gold_right`` and ``gold_wrong`` count their first answers to hidden gold tasks, from 0 again once a block was lifted.
    """

    __tablename__ = "labeler"
    __table_args__ = (UniqueConstraint("tenant", "principal"),)

    id: Mapped[Key]
    principal: Mapped[str]
    model: Mapped[bool] = mapped_column(server_default="false")
    status: Mapped[LabelerStatus] = mapped_column(server_default=LabelerStatus.ACTIVE)
    status_at: Mapped[Created]  # since when
    gold_right: Mapped[int] = mapped_column(server_default="0")
    gold_wrong: Mapped[int] = mapped_column(server_default="0")
    requeue_due: Mapped[bool] = mapped_column(server_default="false")  # blocked, and their last answers still count
    created_at: Mapped[Created]


class Assignment(Base):
    """A task in somebody's hands. An expired lease needs nobody to notice it: it is simply free again."""

    __tablename__ = "assignment"
    __table_args__ = (
        Index("uq_assignment_held", "task_id", "labeler_id", unique=True, postgresql_where=text("state in ('leased', 'submitted')")),
        Index("ix_assignment_leased", "labeler_id", postgresql_where=text("state = 'leased'")),
        Index(None, "task_id"),
    )

    id: Mapped[Key]
    task_id: Mapped[UUID] = mapped_column(owned_by("task"))
    labeler_id: Mapped[UUID] = mapped_column(owned_by("labeler"))
    state: Mapped[AssignmentState]
    lease_token: Mapped[UUID]
    expires_at: Mapped[datetime]
    prediction_shown: Mapped[bool]
    reason: Mapped[str | None]
    started_at: Mapped[Created]
    ended_at: Mapped[datetime | None]


class Annotation(Base):
    """One answer that was accepted, in exactly one status. The same source, key and revision again is the same answer.

    Of its foreign keys only the task's is declared: each would lock a row that all labels share. Rows are never deleted.
    """

    __tablename__ = "annotation"
    __table_args__ = (
        UniqueConstraint("campaign_id", "source", "source_key", "revision"),
        Index("uq_annotation_standing", "task_id", "labeler_id", unique=True, postgresql_where=text("status in ('valid', 'skipped')")),
        Index("uq_annotation_judged", "task_id", "labeler_id", unique=True, postgresql_where=text("judged")),
        Index(None, "labeler_id", "created_at"),
    )

    id: Mapped[Key]
    campaign_id: Mapped[UUID]
    task_id: Mapped[UUID] = mapped_column(owned_by("task"))
    labeler_id: Mapped[UUID]
    assignment_id: Mapped[UUID | None]
    source: Mapped[str]
    source_key: Mapped[str]
    revision: Mapped[str]
    value: Mapped[Any] = mapped_column(_Value, nullable=True)  # none: a skip or a deletion
    reason: Mapped[str | None]
    duration_ms: Mapped[int | None]
    prediction_shown: Mapped[bool] = mapped_column(server_default="false")
    status: Mapped[AnnotationStatus]
    judged: Mapped[bool] = mapped_column(server_default="false")  # counted in its labeler's answers to gold, which is done once a task
    event_time: Mapped[datetime]
    created_at: Mapped[Created]


class Decision(Base):
    """The label of a task, and of which opinions it was made: ``inputs_sha256`` is over their sorted ids and revisions.

    ``weights`` are the accuracies that the votes of labelers were weighed by, where the method weighs them.
    """

    __tablename__ = "decision"

    task_id: Mapped[UUID] = mapped_column(owned_by("task"), primary_key=True)
    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"), index=True)
    label: Mapped[Any] = mapped_column(_Value)
    posterior: Mapped[float]
    method: Mapped[str]
    inputs_sha256: Mapped[str]
    weights: Mapped[dict[str, Any] | None]
    decided_by: Mapped[str]
    reason: Mapped[str | None]
    at: Mapped[Created]


class LabelSnapshot(Base):
    """An immutable object that holds a campaign's decisions at one time: content-addressed, so a repeated export is the same snapshot."""

    __tablename__ = "label_snapshot"
    __table_args__ = (UniqueConstraint("campaign_id", "sha256"), UniqueConstraint("campaign_id", "number"))

    id: Mapped[Key]
    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"))
    number: Mapped[int]
    artifact_id: Mapped[UUID] = mapped_column(owned_by("artifact"))
    sha256: Mapped[str]
    tasks: Mapped[int]
    statistics: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class CampaignEvent(Base):
    """What happened to a campaign: commands, reminders, escalations. The order is that of ``id``."""

    __tablename__ = "campaign_event"
    __table_args__ = (UniqueConstraint("campaign_id", "key"),)

    id: Mapped[Serial]
    campaign_id: Mapped[UUID] = mapped_column(owned_by("campaign"))
    key: Mapped[str]  # a repeated command or rung meets its own row
    kind: Mapped[str]
    actor: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[Created]
