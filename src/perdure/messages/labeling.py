"""Labeling: campaigns that wait for people, the answers they give, and the label snapshots that come of them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from perdure.messages.common import PATIENCE, STRICT, ArtifactRef, Json


class CampaignState(StrEnum):
    """``paused`` gives out no tasks and still takes answers; ``closed`` takes none that count."""

    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class TaskState(StrEnum):
    """``full``: enough opinions, to be decided by the next tick. ``disputed`` waits for an adjudicator."""

    OPEN = "open"
    FULL = "full"
    DISPUTED = "disputed"
    DECIDED = "decided"
    REJECTED = "rejected"


class LabelerStatus(StrEnum):
    """A ``blocked`` labeler gets no tasks, and what they still send does not count."""

    ACTIVE = "active"
    WARNED = "warned"
    BLOCKED = "blocked"


class AssignmentState(StrEnum):
    """What became of a task in somebody's hands."""

    LEASED = "leased"
    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    RELEASED = "released"
    EXPIRED = "expired"


class AnnotationStatus(StrEnum):
    """The one status of an accepted answer. Only ``valid`` ones count, each once."""

    VALID = "valid"
    SUPERSEDED = "superseded"  # a newer answer of the same labeler to the same task counts
    LATE = "late"  # the campaign was closed, or the task decided
    SKIPPED = "skipped"
    BLOCKED = "blocked"  # its labeler was blocked
    DELETED = "deleted"  # its labeler took it back, or the place of one that was deleted before it came


class Assist(StrEnum):
    """A model is sure enough of a task to answer it. ``audit``: people answer instead, so that the model is seen to be right or wrong."""

    ACCEPT = "accept"
    AUDIT = "audit"


class DeliveryState(StrEnum):
    """What became of a message to a hook."""

    PROCESSED = "processed"
    QUARANTINED = "quarantined"  # it was signed but could not be used: kept for `perdure deliveries replay`


@dataclass(frozen=True, kw_only=True)
class CampaignRequest:
    """Starts a `LabelingCampaign`.

    ``spec`` is a campaign's specification (`perdure.labeling.spec.Campaign`), ``tasks`` a manifest of them: lines of JSON, each with
    ``key`` and ``payload``. A campaign that exists already (made over HTTP) is named by ``campaign`` alone.
    """

    campaign: str
    spec: dict[str, Any] | None = None
    tasks: ArtifactRef | None = None
    requested_by: str = "unknown"
    patience: timedelta = PATIENCE
    cursor: "CampaignCursor | None" = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class CampaignCursor:
    """What a campaign carries over continue-as-new. All else is rows."""

    plan: "CampaignPlan"
    snapshot_at: datetime | None = None  # when a standing campaign's next snapshot is due


@dataclass(frozen=True, kw_only=True)
class OpenCampaign:
    """`labeling.open`: what the workflow knows about itself."""

    workflow_id: str
    request: CampaignRequest


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Answer of `labeling.tick`: how far the campaign is, whether it is over and why, and when to look again without a poke."""

    total: int
    decided: int
    rejected: int
    open: int
    state: CampaignState
    over: str | None = None  # the reason to close: quota, budget, agreement, deadline, command
    next_look: timedelta = timedelta(minutes=1)  # without a poke, in case one was lost
    due: timedelta | None = None  # until the next rung of the ladder, or the deadline
    more: bool = False  # the tick stopped at its own limit: look again at once
    imports: list[ArtifactRef] = field(default_factory=list)  # manifests that are not in yet

    @property
    def left(self) -> int:
        """Tasks without an end."""
        return self.total - self.decided - self.rejected


@dataclass(frozen=True, kw_only=True)
class CampaignPlan:
    """What the workflow must know of a campaign in order to wait."""

    campaign: UUID
    name: str
    standing: bool = False
    snapshot_every: timedelta = timedelta(days=1)
    patience: timedelta = PATIENCE
    labelstudio: bool = False  # its tasks are shown there, too
    look: Tick | None = None  # the first one, of a campaign that has nothing to import: it comes with the opening


@dataclass(frozen=True, kw_only=True)
class CampaignRef:
    """A campaign that `labeling.open` opened."""

    campaign: UUID
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class ImportTasks:
    """`labeling.import_tasks`: brings a manifest into rows; goes on where an earlier attempt stopped."""

    campaign: UUID
    tasks: ArtifactRef
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class TasksImported:
    """Answer of `labeling.import_tasks`: lines of the manifest, all of them in."""

    rows: int


WITHDRAWN = "the run that asked has ended"
"""Why a campaign closed that its run left behind. If the run begins again, so does the campaign."""


@dataclass(frozen=True, kw_only=True)
class TasksSent:
    """Answer of `labeling.push`: tasks that Label Studio has got, and those that cannot be shown there. ``more``: call again at once."""

    sent: int = 0
    refused: int = 0
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class Reconcile:
    """`labeling.reconcile`: takes what Label Studio knows and no web hook has told; with ``whole`` deletions, too, by a full export."""

    campaign: UUID
    whole: bool = False
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """Answer of `labeling.reconcile`: answers found and deleted, and messages that could not be used."""

    found: int = 0
    deleted: int = 0
    quarantined: int = 0


@dataclass(frozen=True, kw_only=True)
class CloseCampaign:
    """`labeling.close`: no answer counts from here on. ``anyway`` also closes what is not over."""

    campaign: UUID
    reason: str
    anyway: bool = False
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class CampaignCommand:
    """Argument of updates ``pause``, ``resume``, ``extend`` and ``close``.

    ``expected_version`` refuses a command that was made on an older view. ``deadline`` is for ``extend``.
    """

    actor: str = "unknown"
    reason: str = ""
    command_id: str | None = None
    expected_version: int | None = None
    deadline: datetime | None = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class RecordCommand:
    """`labeling.command`: a person's command as a row; a repeated ``command_id`` changes nothing."""

    campaign: UUID
    kind: str
    command_id: str
    command: CampaignCommand
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class CampaignStanding:
    """Answer of a command: how the campaign stands after it. ``version`` is what the next command may expect."""

    state: CampaignState
    version: int
    deadline: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer to one task, from whichever channel.

    ``key`` is the caller's name for it: the same key again is the same answer. ``revision`` orders answers of one key (a time, ISO 8601).
    Without a key the newest answer of its labeler to the task counts. ``skip`` is no opinion, with a ``reason``; ``deleted`` takes back
    what was said under the key.
    """

    task: str
    value: Any = None
    key: str | None = None
    revision: str = ""
    skip: bool = False
    reason: str | None = None
    deleted: bool = False
    duration_ms: int | None = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Argument of update ``answer``: a person at a terminal answers, at most 100 at once."""

    actor: str
    items: list[Answer]
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class RecordAnswers:
    """`labeling.answer`: the same transaction as over HTTP. ``at`` is when they arrived, in every attempt the same."""

    campaign: UUID
    answers: Answers
    at: datetime
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class AnswerResult:
    """What became of one answer. ``duplicate``: it was there already. ``error`` says why it was not taken; then there is no status."""

    task: str
    status: AnnotationStatus | None = None
    duplicate: bool = False
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnswerResults:
    """Answer of update ``answer``, in the order of the items."""

    items: list[AnswerResult] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SnapshotTaken:
    """Answer of `labeling.snapshot`: the object, its number in the campaign, and its figures (its labelers are in the row only)."""

    snapshot: ArtifactRef
    number: int
    tasks: int
    statistics: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CampaignProgress:
    """Answer of query ``progress``: the workflow's own view; rows know more."""

    stage: str
    campaign: UUID | None = None
    tick: Tick | None = None
    snapshot: SnapshotTaken | None = None


@dataclass(frozen=True, kw_only=True)
class CampaignResult:
    """What a campaign came to. ``complete`` is false where it was closed with tasks left.

    ``missing`` says why answers may be missing: Label Studio could not be asked at the end.
    """

    campaign: UUID
    snapshot: ArtifactRef
    number: int
    tasks: int
    complete: bool
    reason: str
    statistics: Json = field(default_factory=dict)
    missing: str | None = None
