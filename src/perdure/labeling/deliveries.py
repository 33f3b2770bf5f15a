"""What a message to a hook says, as plain values: the gateway reads it, `perdure.metadata.repository` acts on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from perdure.labeling.ports import Incoming
from perdure.messages.common import Json
from perdure.messages.labeling import DeliveryState
from perdure.messages.promotion import VoteDecision
from perdure.messages.retraining import DriftEvent


@dataclass(frozen=True, kw_only=True)
class CastVote:
    """A vote on an approval, bound to the evidence that the voter saw."""

    approval: UUID
    decision: VoteDecision
    actor: str
    evidence_sha256: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What a message wants done, as a whole or not at all.

    ``withdrawn`` names answers (source, source_key) that were deleted by a sender who names no task. ``one_by_one``: two messages of
    this hook must not be acted on at once, as a deletion has to meet its answer in either order.
    """

    answers: list[Incoming] = field(default_factory=list)
    withdrawn: list[tuple[str, str]] = field(default_factory=list)
    vote: CastVote | None = None
    events: list[DriftEvent] = field(default_factory=list)
    one_by_one: bool = False


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A message that is signed and cannot be understood: kept, with the reason."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """A message whose sender has proved who it is. ``body`` is what is kept of it: nothing secret."""

    hook: str
    campaign: UUID | None
    key: str
    body: bytes
    body_sha256: str
    headers: Json


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of a message."""

    hook: str
    key: str
    state: DeliveryState
    attempts: int
    received_at: datetime
    error: str | None = None
    duplicate: bool = False


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A message as it was kept, to be read again. ``body`` is None once it was dropped with age."""

    delivery: Delivery
    body: bytes | None
    headers: Json
