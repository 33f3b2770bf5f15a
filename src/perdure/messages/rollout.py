"""Rollout: what a version goes through between the decision to release it and its release."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from perdure.messages.common import PATIENCE, Json


class TrafficKind(StrEnum):
    """What a version that is not released (yet) does for a while."""

    STANDBY = "standby"  # loaded, answers nothing
    SHADOW = "shadow"  # scores a share of the requests; callers get the released version's answer
    CANARY = "canary"  # answers a share of the requests
    ARM = "arm"  # the same as an arm of an experiment: by unit, for as long as the experiment goes


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. It ends ``lasts`` after it began, unless what is looked at decides before; ``share`` is percent of the requests."""

    kind: TrafficKind
    share: float
    lasts: timedelta
    settings: Json = field(default_factory=dict)  # of an experiment

    def __str__(self) -> str:
        if self.kind is TrafficKind.STANDBY:
            return str(self.kind)
        return f"{'experiment' if self.kind is TrafficKind.ARM else self.kind} of {self.share:g} %"


@dataclass(frozen=True, kw_only=True)
class OpenStage:
    """`rollout.open`: enter the stage at ``position`` (0: standby); the stage before it has passed, and why."""

    promotion: UUID
    position: int
    stages: list[Stage]
    reason: str = ""
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a rollout stands: the traffic row that is open since ``since``; or ``ended``, why there is nothing to go on with."""

    traffic: UUID | None = None
    position: int = 0
    since: datetime | None = None
    ended: str = ""


class Verdict(StrEnum):
    """What follows from a look at a stage."""

    GO_ON = "go on"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class LookAtStage:
    """`rollout.look`: how the open stage does. ``over``: its time is, and has been for ``late``."""

    run_id: UUID
    promotion: UUID
    traffic: UUID
    over: bool
    late: timedelta = timedelta(0)
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class StageLook:
    """What was seen of a stage, and what follows."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, kw_only=True)
class Withdraw:
    """`rollout.withdraw`: the candidate takes part no longer."""

    promotion: UUID
    reason: str
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class StageCommand:
    """`rollout.command`: somebody skipped the rest of a stage (``advance``) or ended the rollout (``abort``)."""

    promotion: UUID
    traffic: UUID
    command: str
    command_id: str
    actor: str
    reason: str
    patience: timedelta = PATIENCE
