"""An experiment: a stage of a rollout in which outcomes by unit decide."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from perdure.messages.common import PATIENCE
from perdure.messages.rollout import StageLook


class ExperimentState(StrEnum):
    """Where an experiment stands; only ``running`` may still change."""

    RUNNING = "running"
    CHALLENGER = "challenger"  # it is better
    CHAMPION = "champion"  # the challenger is worse
    INCONCLUSIVE = "inconclusive"  # neither is, or it cannot be told
    STOPPED = "stopped"  # a probe failed, or a person ended it


@dataclass(frozen=True, kw_only=True)
class ExperimentRequest:
    """`experiment.plan`: which stage, by its traffic row, whose id the experiment has."""

    run_id: UUID
    promotion: UUID
    traffic: UUID
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan:
    """When it is looked at: every ``peek`` after ``since``, for the last time at ``until``; or ``ended``, what it has come to already."""

    ended: StageLook | None = None
    since: datetime | None = None
    until: datetime | None = None
    peek: timedelta = timedelta(days=1)
    looks: int = 0  # the number of the last one


@dataclass(frozen=True, kw_only=True)
class LookAtExperiment(ExperimentRequest):
    """`experiment.look`: look ``number``, at what there was at ``at``; ``over``: it is the last one."""

    number: int
    at: datetime
    over: bool
