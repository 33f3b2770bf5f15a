"""What activities and the gateway need of labeling's rows, with plain values. `perdure.metadata.repository` implements it.

Every method is one transaction and idempotent under its keys. All raise `StoreUnavailable` where Postgres does not answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from perdure.labeling.spec import Campaign
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.labeling import AnswerResult, CampaignCommand, CampaignState, LabelerStatus, TaskState, Tick


@dataclass(frozen=True, kw_only=True)
class CampaignRow:
    """A campaign as it stands. ``total`` counts tasks without gold ones."""

    id: UUID
    name: str
    spec: Campaign
    state: CampaignState
    version: int
    workflow_id: str
    requested_by: str
    total: int
    decided: int
    rejected: int
    opened_at: datetime
    deadline: datetime | None = None
    closed_at: datetime | None = None
    closed_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """One line of a manifest."""

    key: str
    payload: Json
    priority: float = 0.0
    gold: Any = None
    prediction: Json | None = None


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A task in somebody's hands until ``expires_at``; ``token`` proves it. ``prediction`` is there only where it may be shown."""

    assignment: UUID
    token: UUID
    expires_at: datetime
    task: str
    payload: Json
    prediction: Json | None = None


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """An answer on its way in, from whichever channel. ``lease`` (assignment, token) is that under which it was given, if any.

    ``source`` and ``source_key`` name it for ever, ``revision`` orders its changes.
    """

    task: str
    labeler: str
    source: str
    source_key: str
    event_time: datetime
    revision: str = ""
    value: Any = None
    skip: bool = False
    deleted: bool = False
    reason: str | None = None
    duration_ms: int | None = None
    lease: tuple[UUID, UUID] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelerRow:
    """How a labeler is doing."""

    principal: str
    status: LabelerStatus
    gold_right: int
    gold_wrong: int
    answers: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A campaign's figures by state of task and status of answer, counted now."""

    campaign: CampaignRow
    tasks: dict[TaskState, int]
    annotations: dict[str, int]
    labelers: list[LabelerRow] = field(default_factory=list)


class Campaigns(Protocol):
    """Campaigns and their tasks."""

    def open(self, name: str, spec: Json | None, workflow_id: str, requested_by: str) -> CampaignRow:
        """The campaign of this name, made where *spec* is given. Raises InvalidInput, NotFound; Conflict for another spec or workflow."""

    def campaign(self, campaign: UUID) -> CampaignRow:
        """Raises NotFound."""

    def named(self, name: str) -> CampaignRow:
        """Raises NotFound."""

    def imported(self, campaign: UUID, tasks: ArtifactRef) -> int:
        """How many rows of this manifest are in; opens the import."""

    def add_tasks(self, campaign: UUID, tasks: ArtifactRef, upto: int, rows: Sequence[NewTask], *, last: bool) -> None:
        """Add the rows up to number *upto* of the manifest; a key that is there already keeps its task. No-op where *upto* is behind."""

    def command(self, campaign: UUID, kind: str, command_id: str, command: CampaignCommand) -> CampaignRow:
        """Pause, resume, extend or close; once per *command_id*. Raises Conflict for a stale ``expected_version`` or change."""

    def tick(self, campaign: UUID, limit: int = 500) -> Tick:
        """Decide what can be decided, climb the ladder, say whether it is over."""

    def close(self, campaign: UUID, reason: str) -> CampaignRow:
        """No answer is valid from here on. Waits for answers that are being committed."""

    def export(self, campaign: UUID) -> Iterator[Json]:
        """Each decided task by its key: label, posterior, opinions with their labelers. The same every time once the campaign is closed."""

    def snapshot(self, campaign: UUID, artifact: ArtifactRef, tasks: int, statistics: Json) -> int:
        """Record a snapshot; returns its number, the same for the same content."""


class Labels(Protocol):
    """Who works on what, and what they answered."""

    def lease(self, campaign: UUID, labeler: str, most: int) -> list[Lease]:
        """Up to *most* tasks for *labeler*, none leased twice; empty where nothing is to be done. Raises AccessDenied for a blocked one."""

    def extend(self, assignment: UUID, token: UUID) -> datetime:
        """Hold a lease for longer. Raises LeaseLost."""

    def release(self, assignment: UUID, token: UUID) -> None:
        """Give a task back. Raises LeaseLost."""

    def accept(self, campaign: UUID, answers: Sequence[Incoming]) -> list[AnswerResult]:
        """Every answer's status, in order; annotations, counters and outbox are one transaction. What does not fit gets its ``error``."""

    def adjudicate(self, campaign: UUID, task: str, actor: str, value: Any, reason: str) -> None:
        """Decide a task by hand. Raises Conflict for one of its own labelers, or a task that is decided otherwise."""
