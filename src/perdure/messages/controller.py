"""The controller of a model's retraining: its looks, what it starts, and how it stands."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from perdure.messages.common import PATIENCE, STRICT
from perdure.messages.pipeline import RunRequest
from perdure.messages.retraining import Force, Outcome, Snooze, TriggerKind


@dataclass(frozen=True, kw_only=True)
class LookAtModel:
    """`retraining.look`: reads what is undecided about *model*, and decides it."""

    model: str
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class StartRun:
    """A decision to act whose run is not open yet. The workflow's id comes from the decision: however often it is started, it is one."""

    decision: UUID
    workflow_id: str
    outcome: Outcome
    request: RunRequest


@dataclass(frozen=True, kw_only=True)
class Look:
    """Answer of `retraining.look`. ``due``: when something ends that holds back an action. ``more``: there is more to read at once."""

    starts: list[StartRun] = field(default_factory=list)
    running: str | None = None
    open_episodes: int = 0
    decided: int = 0  # decisions that are new
    waits: list[str] = field(default_factory=list)
    due: timedelta | None = None
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordForce:
    """`retraining.force`: a person's wish, as a trigger's row, once by its command id."""

    model: str
    force: Force
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class RecordSnooze:
    """`retraining.snooze`: a person's decision that nothing is done for a while, once by ``command_id``."""

    model: str
    snooze: Snooze
    command_id: str
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class RecordSignal:
    """`retraining.drift`: what signal ``drift`` carried goes into the inbox."""

    event: dict[str, Any] = field(default_factory=dict)
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class RunNotOpened:
    """`retraining.failed`: the run of a decision has failed before it had a row; ``after``: if the decision is that old."""

    decision: UUID
    error: dict[str, str | None] = field(default_factory=dict)
    after: timedelta = timedelta(0)
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class TriggerRequest:
    """Starts `RetrainTrigger`, the action of a pipeline's schedules: a date (``schedule``), or a look at the source (``data``).

    ``at`` is the data cut-off where no schedule gives one.
    """

    pipeline: str
    kind: TriggerKind = TriggerKind.SCHEDULE
    number: int = 0  # position in the specification's triggers
    at: datetime | None = None
    patience: timedelta = PATIENCE
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class BackfillRequest:
    """Starts `Backfill`: one run of *pipeline* for each data cut-off, one after the other, oldest first."""

    pipeline: str
    cutoffs: list[datetime]
    version: str | None = None
    requested_by: str = "unknown"
    done: int = 0  # of them, by earlier executions
    failed: int = 0
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class BackfillResult:
    """How many runs there were, and how many of them failed."""

    runs: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class ControllerProgress:
    """Answer of query ``progress``: the last look's; `perdure retrain why` reads the rows, which know more."""

    model: str
    looks: int
    look: Look | None = None
