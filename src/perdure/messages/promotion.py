"""Promotion: gates, votes, release."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from perdure.messages.common import PATIENCE, STRICT, StepRequest
from perdure.messages.rollout import Stage


class VoteDecision(StrEnum):
    """What a voter says."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True)
class PromoteRequest(StepRequest):
    """Starts `ModelPromotion` and `promotion.open`."""

    model: str
    model_version: UUID
    evaluation: UUID


@dataclass(frozen=True, kw_only=True)
class PromotionResult:
    """Whether the version serves now, and why or why not."""

    promotion: UUID
    released: bool
    reason: str
    release: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class PromotionPlan:
    """Answer of `promotion.open`: whether people are asked, how many, until when, and about which evidence.

    ``promotion`` is the promote step's id. ``outcome`` is what was decided before: the workflow was reset. ``until`` is set where people
    are asked. ``cli_votes_count`` is false for a quorum: a name at a bare terminal is a claim. ``undone`` says who rolled the version
    back, where that was the end of its last release: then people alone release it again.
    """

    promotion: UUID
    outcome: PromotionResult | None = None
    passed: bool = False
    reasons: list[str] = field(default_factory=list)
    serves_already: bool = False
    required: int = 0
    evidence_sha256: str = ""
    deadline: timedelta = timedelta(days=7)
    until: datetime | None = None
    approvers: list[str] = field(default_factory=list)  # empty: anybody
    requested_by: str = "unknown"
    cli_votes_count: bool = True
    remind: timedelta | None = None
    stages: list[Stage] = field(default_factory=list)  # before the release; none: it serves at once
    undone: str = ""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """Argument of updates ``approve`` and ``reject``.

    ``evidence_sha256`` may be left out at a terminal: then the vote is bound to the evidence that is up for decision.
    """

    actor: str = "unknown"
    reason: str = ""
    evidence_sha256: str | None = None
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class RecordVote:
    """`promotion.vote`: the vote counts when this row commits."""

    promotion: UUID
    decision: VoteDecision
    actor: str
    reason: str
    evidence_sha256: str
    channel: str = "temporal"
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class PromotionRef:
    """`promotion.approval`: reads the votes."""

    promotion: UUID
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class Remind:
    """`promotion.remind`: tell who has not voted, for the ``number``-th time."""

    promotion: UUID
    number: int
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class ApprovalState:
    """Votes that count so far."""

    approvals: int
    rejections: int
    required: int
    approved_by: list[str] = field(default_factory=list)
    rejected_by: list[str] = field(default_factory=list)
    refused: str = ""  # why votes matter no more: a rollback, say, ended the promotion


@dataclass(frozen=True, kw_only=True)
class ClosePromotion:
    """`promotion.close`: release (compare-and-set against the champion that was evaluated) or refusal, with the reason."""

    promotion: UUID
    release: bool
    reason: str
    actor: str = "perdure"
    patience: timedelta = PATIENCE
