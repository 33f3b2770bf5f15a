"""What the rollout's activities need of rows, with plain values. `perdure.metadata.repository` implements it.

Every method is one transaction, and idempotent under its keys. All raise `StoreUnavailable` where Postgres does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure.messages.rollout import Stage, Standing, TrafficKind
from perdure.ports import Release


@dataclass(frozen=True, kw_only=True)
class TrafficRow:
    """The interval in which a candidate takes part in serving; ``until`` is None while it does."""

    id: UUID
    model: str
    model_version: UUID
    kind: TrafficKind
    since: datetime
    until: datetime | None = None
    outcome: str = ""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the serving processes counted of one version: requests by bucket of their time, in `perdure.serving.counting`'s buckets."""

    requests: int = 0
    rows: int = 0
    errors: int = 0
    disagreements: int = 0
    latency: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of the candidate in its stage, and of the released version beside it since the stage began."""

    candidate: Counted
    released: Counted


@dataclass(frozen=True, kw_only=True)
class ServingProcess:
    """A process that serves now: whether it has loaded a version, or why it cannot."""

    address: str
    loaded: bool
    failed: str | None = None


class Traffic(Protocol):
    """Candidates beside the released version."""

    def open(self, promotion: UUID, position: int, stages: Sequence[Stage], reason: str) -> Standing:
        """Enter the stage at *position*; the stage of this promotion before it has passed, for this *reason*.

        The stage that is open already, or the first that has not passed yet, where that is further on. Nothing is opened where the
        promotion was decided, another version serves than was compared with, or another candidate takes part: then ``ended`` says so.
        Raises Conflict where the promotion's step has ended: this attempt was overtaken.
        """

    def row(self, traffic: UUID) -> TrafficRow:
        """The row, open or not. Raises NotFound."""

    def counts(self, traffic: UUID) -> Counts:
        """What the serving processes counted by the row, and of the released version since the row began, by whole minutes."""

    def processes(self, model: str, version: UUID) -> list[ServingProcess]:
        """The serving processes that live, and answer for *model*: those that have its released version, or all where there is none."""

    def staged(self, promotion: UUID) -> bool:
        """Whether a candidate of this promotion takes part now."""

    def withdraw(self, promotion: UUID, reason: str) -> None:
        """The promotion's candidate takes part no longer; no-op where none does."""

    def command(self, promotion: UUID, traffic: UUID, command: str, command_id: str, actor: str, reason: str) -> None:
        """Record what somebody said, once. ``advance`` is about this stage; ``abort`` refuses the promotion, whatever stage is open by now.

        Raises Conflict where that has ended.
        """


class Rollbacks(Protocol):
    """Going back to a version that was released before."""

    def rollback(self, model: str, *, to: int | None, reason: str, actor: str, command_id: str) -> Release:
        """The version that was released before the one that serves (or *to*) serves again, and every promotion under way is refused.

        Once per *command_id*. Raises NotFound for an unknown model or version, Conflict where there is nothing to go back to.
        """
