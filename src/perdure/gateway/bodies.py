"""What routes take and give, with examples. Times are ISO 8601 with their zone, durations in requests are ``15m``, ``14d``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from perdure.gateway.fields import Milliseconds, Name, Revision, Text, Value
from perdure.labeling.ports import CampaignRow
from perdure.labeling.spec import Campaign
from perdure.messages.labeling import AnnotationStatus, CampaignState, DeliveryState, TaskState
from perdure.metadata.repository.access import NAME

MOST_ANSWERS = 100
MOST_LEASES = 50


def example(**values: Any) -> ConfigDict:
    """The configuration of a body, with an example."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class NewCampaign(BaseModel):
    """A campaign to open. The same again opens it once."""

    model_config = example(
        name="spam-november",
        spec={"question": "Is it spam?", "choices": ["ham", "spam"], "overlap": {"labels": 2, "most": 3}, "deadline": "14d"},
    )
    name: Annotated[str, Field(pattern=NAME)]
    spec: Campaign


class CampaignView(BaseModel):
    """A campaign as it stands. ``version`` is what a command may expect; ``total`` counts tasks whose answer is not known."""

    id: UUID
    name: str
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

    @classmethod
    def of(cls, row: CampaignRow) -> CampaignView:
        """The row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class CampaignDetail(CampaignView):
    """The same with its specification."""

    spec: dict[str, Any]

    @classmethod
    def of(cls, row: CampaignRow) -> CampaignDetail:
        """The row."""
        return cls(**CampaignView.of(row).model_dump(), spec=row.spec.model_dump(mode="json"))


class CampaignList(BaseModel):
    """Campaigns, the newest first."""

    campaigns: list[CampaignView]


class LabelerFigures(BaseModel):
    """How a labeler is doing, on hidden tasks with known answers and in all."""

    principal: str
    status: str
    gold_right: int
    gold_wrong: int
    answers: int


class ProgressView(BaseModel):
    """Figures, counted now, or within the last minute where that takes long: tasks by state, answers by status, labelers."""

    campaign: CampaignView
    tasks: dict[TaskState, int]
    annotations: dict[AnnotationStatus, int]
    labelers: list[LabelerFigures]


class Manifest(BaseModel):
    """Tasks that lie in an object: lines of JSON. The campaign's workflow imports them."""

    model_config = example(uri="s3://perdure/tasks/november.ndjson", sha256="0" * 64)
    uri: Annotated[str, Field(pattern=r"^s3://[^\x00]+$", max_length=2_000)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Imported(BaseModel):
    """What came of an import. ``tasks`` and ``added`` are known where the tasks came in the body."""

    import_id: UUID
    tasks: int | None = None
    added: int | None = None


class LeaseRequest(BaseModel):
    """How many tasks are wanted."""

    model_config = example(max=5)
    max: Annotated[int, Field(ge=1, le=MOST_LEASES)] = 1


class LeaseView(BaseModel):
    """A task in the caller's hands until ``expires_at``. ``lease_token`` proves it."""

    assignment_id: UUID
    lease_token: UUID
    expires_at: datetime
    task: str
    payload: dict[str, Any]
    prediction: dict[str, Any] | None = None


class LeaseList(BaseModel):
    """Tasks to work on."""

    leases: list[LeaseView]


class Token(BaseModel):
    """Proof of a lease."""

    model_config = example(lease_token="7a3f6f0e-2f7d-4c55-9e0f-2f4d1c1a9b11")
    lease_token: UUID


class Skip(Token):
    """Why a task is not answered."""

    model_config = example(lease_token="7a3f6f0e-2f7d-4c55-9e0f-2f4d1c1a9b11", reason="ambiguous")
    reason: Text = ""


class Submit(Token):
    """The answer to a leased task."""

    model_config = example(lease_token="7a3f6f0e-2f7d-4c55-9e0f-2f4d1c1a9b11", value="spam", duration_ms=2400)
    value: Value
    duration_ms: Milliseconds | None = None


class LeaseExtended(BaseModel):
    """Until when the task is held now."""

    expires_at: datetime


class AnswerItem(BaseModel):
    """One answer. The same ``key`` again is the same answer; a changed one has a later ``revision`` (they are compared as texts)."""

    model_config = ConfigDict(extra="forbid")
    task: Name
    value: Value | None = None
    key: Name | None = None
    revision: Revision = ""
    skip: bool = False
    deleted: bool = False
    reason: Text | None = None
    duration_ms: Milliseconds | None = None


class AnswerBatch(BaseModel):
    """Answers of one labeler, at most 100. Each has a key of its own, or the request has an ``Idempotency-Key``."""

    model_config = example(answers=[{"task": "m1", "value": "spam", "key": "m1/1"}, {"task": "m2", "skip": True, "key": "m2/1"}])
    answers: Annotated[list[AnswerItem], Field(min_length=1, max_length=MOST_ANSWERS)]


class AnswerView(BaseModel):
    """What became of an answer. Only ``valid`` ones count. ``error`` says why it was not taken; then there is no status."""

    task: str
    status: AnnotationStatus | None = None
    duplicate: bool = False
    error: str | None = None


class AnswerViews(BaseModel):
    """Results, in the order of the answers."""

    results: list[AnswerView]


class Adjudication(BaseModel):
    """A decision by hand. ``campaign`` is needed where the path names the task by its key."""

    model_config = example(campaign="spam-november", value="ham", reason="a greeting")
    value: Value
    reason: Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\x00]+$")]
    campaign: Name | None = None


class Adjudicated(BaseModel):
    """The label that was decided."""

    task: str
    label: Any


class Command(BaseModel):
    """Why, and on which view of the campaign: a command made on an older one is refused."""

    model_config = example(reason="holidays", expected_version=3)
    reason: Text = ""
    expected_version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class Extend(Command):
    """A later deadline."""

    model_config = example(reason="holidays", deadline="2027-01-31T12:00:00Z")
    deadline: AwareDatetime


class SnapshotView(BaseModel):
    """An immutable object that holds a campaign's labels at one time."""

    number: int
    uri: str
    sha256: str
    tasks: int
    statistics: dict[str, Any]
    created_at: datetime


class DeliveryView(BaseModel):
    """What became of a message to a hook."""

    hook: str
    delivery_id: str
    state: DeliveryState
    attempts: int
    received_at: datetime
    error: str | None = None


class DeliveryList(BaseModel):
    """Messages, the newest first."""

    deliveries: list[DeliveryView]


class EventsTaken(BaseModel):
    """How many events are new, and how many were there already."""

    accepted: int
    duplicates: int


class ApprovalView(BaseModel):
    """What is up for decision: a model version, and the evidence that votes are bound to."""

    id: UUID
    model: str
    version: int
    run: str
    requested_by: str
    required: int
    approvers: list[str]
    deadline: datetime
    opened_at: datetime
    evidence_sha256: str
    metrics: dict[str, Any]
    gates: list[dict[str, Any]]
    votes: list[dict[str, Any]]


class ApprovalList(BaseModel):
    """Open approvals, the oldest first."""

    approvals: list[ApprovalView]


class Decision(BaseModel):
    """A vote, bound to the evidence that the voter saw."""

    model_config = example(decision="approve", reason="better on every slice", evidence_sha256="0" * 64)
    decision: Literal["approve", "reject"]
    reason: Text = ""
    evidence_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VoteState(BaseModel):
    """The votes that count so far."""

    approvals: int
    rejections: int
    required: int
    approved_by: list[str]
    rejected_by: list[str]
