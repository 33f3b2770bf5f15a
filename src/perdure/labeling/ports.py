"""What activities and the gateway need of labeling's rows, with plain values. `perdure.metadata.repository` implements it.

Every method is one transaction and idempotent under its keys. All raise `StoreUnavailable` where Postgres does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from perdure.labeling.spec import Campaign
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.labeling import AnnotationStatus, AnswerResult, CampaignCommand, CampaignState, LabelerStatus, TaskState, Tick


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
    measured: Json | None = None  # labels and hours spent, and agreement, as they were when a rule about them was last looked at


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
class Held:
    """What a lease is about, and whose it is."""

    campaign: UUID
    task: str
    labeler: str


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """An answer on its way in, from whichever channel. ``lease`` (assignment, token) is that under which it was given, if any.

    ``source`` and ``source_key`` name it for ever, ``revision`` orders its changes. With ``held`` it is refused where its lease is lost:
    the task was given back, or leased anew. One that ran out is not lost.
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
    held: bool = False


LEASE_LOST = "its lease is lost"
"""The error of an answer that wanted to be ``held``."""


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


Send = Callable[[list[str]], dict[str, str]]
"""Tells targets, and returns those that could not be told with the reason. Raises Transient where nobody can be told now."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What one delivery did: targets told, their rows, and targets that failed."""

    targets: int
    rows: int
    failed: int
    told: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Rows of the outbox that were not sent yet."""

    rows: int
    oldest: timedelta


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A task with all opinions on it: labelers and what they say.

    ``known`` is a label that is certain: of a ``gold`` task, or decided by hand.
    """

    id: UUID
    known: str | None
    gold: bool
    inputs_sha256: str
    votes: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """The label of a task by all opinions of its campaign; ``inputs_sha256`` names those on the task itself."""

    task: UUID
    label: str
    posterior: float
    inputs_sha256: str


@dataclass(frozen=True, kw_only=True)
class Consolidated:
    """What an estimate came to; ``figures`` are bounded."""

    method: str
    decisions: Iterator[Estimated]
    figures: Json


class Consolidation(Protocol):
    """Labels estimated from all opinions of a campaign at once."""

    def ready(self) -> None:
        """Raises InvalidInput where this process cannot estimate."""

    def consolidate(self, tasks: Iterable[Asked], choices: Sequence[str]) -> Consolidated:
        """The most likely label of each task that has no known one."""


class Campaigns(Protocol):
    """Campaigns and their tasks."""

    def open(self, name: str, spec: Json | None, workflow_id: str, requested_by: str, scheduled: datetime | None = None) -> CampaignRow:
        """The campaign of this name, made where *spec* is given. Raises InvalidInput, NotFound; Conflict for another spec or workflow.

        One that was withdrawn goes on, with the time that it had left; unless that was after *scheduled*.
        """

    def campaign(self, campaign: UUID) -> CampaignRow:
        """Raises NotFound."""

    def named(self, name: str) -> CampaignRow:
        """Raises NotFound."""

    def asked_about(self, model: str) -> list[CampaignRow]:
        """The campaigns about predictions of *model*, also those that are closed, oldest first."""

    def imported(self, campaign: UUID, tasks: ArtifactRef) -> int:
        """How many rows of this manifest are in; opens the import, again where it was refused."""

    def add_tasks(self, campaign: UUID, tasks: ArtifactRef, upto: int, rows: Sequence[NewTask], *, last: bool) -> None:
        """Add the rows up to number *upto* of the manifest; a key that is there already keeps its task. No-op where *upto* is behind."""

    def refuse_import(self, campaign: UUID, tasks: ArtifactRef, error: Json) -> None:
        """End an import that cannot be done; what is in stays."""

    def command(self, campaign: UUID, kind: str, command_id: str, command: CampaignCommand) -> CampaignRow:
        """Pause, resume, extend or close; once per *command_id*. Raises Conflict for a stale ``expected_version`` or change."""

    def tick(self, campaign: UUID, limit: int = 500) -> Tick:
        """Decide what can be decided, climb the ladder, say whether it is over."""

    def adjudicate(self, campaign: UUID, task: str, actor: str, value: Any, reason: str) -> None:
        """Decide a task by hand. Raises Conflict for one of its own labelers, or a task that is decided otherwise."""

    def close(self, campaign: UUID, reason: str, *, only_if_over: bool = False) -> CampaignRow:
        """No answer is valid from here on. Waits for answers that are being committed.

        *only_if_over* leaves a campaign open that has got more to do since it was found to be over: the row's state tells.
        """

    def export(self, campaign: UUID) -> Iterator[Json]:
        """Each decided task by its key: label, posterior, opinions with their labelers. The same every time once the campaign is closed."""

    def asked(self, campaign: UUID) -> Iterator[Asked]:
        """Each task that has opinions of people, in the same order every time; not those that a model decides."""

    def reconsider(self, campaign: UUID, method: str, estimates: Iterable[Estimated]) -> None:
        """The labels of decided tasks are these, if the opinions are still the same. What was decided by hand stays."""

    def annotations(self, campaign: UUID) -> dict[AnnotationStatus, int]:
        """How many answers are in each status."""

    def on_gold(self, campaign: UUID) -> dict[str, tuple[int, int]]:
        """How often labelers were right on hidden tasks of this campaign, and how often not."""

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

    def held(self, leases: Sequence[tuple[UUID, UUID]]) -> list[Held | None]:
        """What each lease (assignment, token) is about, whether it still runs, ran out or was answered; None where it is lost."""

    def accept(self, campaign: UUID, answers: Sequence[Incoming]) -> list[AnswerResult]:
        """Every answer's status, in order; annotations, counters and outbox are one transaction. What does not fit gets its ``error``."""


class Lines(Protocol):
    """Objects that hold lines of JSON: manifests of tasks, label snapshots."""

    def read(self, ref: ArtifactRef) -> AbstractContextManager[Iterator[bytes]]:
        """Its lines, verified before the first is given. Raises NotFound, CorruptArtifact; ObjectsUnavailable where S3 does not answer."""

    def write(self, kind: str, name: str, lines: Iterable[bytes]) -> ArtifactRef:
        """Keep the lines as ``{kind}/{sha256}/{name}``. Raises ObjectsUnavailable, StorageFull."""


class Outbox(Protocol):
    """What is to be told outside."""

    def deliver(self, topic: str, send: Send, resting: Collection[str] = (), limit: int = 500) -> Delivered:
        """Hand the targets of unsent rows to *send*, each once, and mark their rows.

        Rows of *resting* targets are left for later, and so are those that somebody else is sending now. What *send* answers for a target
        is why it failed: its rows are tried again after a while. If it raises, nothing is marked.
        """

    def unsent(self, topic: str) -> Backlog:
        """How many rows wait, and how long the oldest has been due."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something that people are told by one channel. ``attempt`` counts from 0."""

    id: int
    channel: str
    target: str
    payload: Json
    attempt: int


class Messages(Protocol):
    """What people are to be told."""

    def claim(self) -> Message | None:
        """One message that is due; nobody else gets it for two minutes."""

    def settle(self, id: int, problem: str | None, retry_after: float | None) -> None:
        """It was told, or is told again after so many seconds, or (a *problem*, and no time) never."""


class Sweeper(Protocol):
    """What deletes old rows."""

    def sweep(self, limit: int = 5_000) -> int:
        """Delete up to *limit* old rows of each kind; how many that were."""
