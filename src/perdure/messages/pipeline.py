"""One run: its request, its plan, its progress and its end."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from perdure.messages.common import PATIENCE, STRICT
from perdure.messages.selection import RoundDone


class RunState(StrEnum):
    """Where a run stands. ``LIVE`` states may still change."""

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"

    @property
    def is_live(self) -> bool:
        """Whether the run may still change."""
        return self in (RunState.RUNNING, RunState.PAUSED)


class StepKind(StrEnum):
    """The steps of a run; one file name everywhere. ``predict`` is the only step of a batch inference."""

    PREPARE = "prepare"
    TRAIN = "train"
    EVALUATE = "evaluate"
    LABEL = "label"
    PROMOTE = "promote"
    PREDICT = "predict"


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Starts a `TrainingPipeline`.

    ``pipeline`` names an applied pipeline, ``version`` one of its versions (a content hash or its prefix; default: the newest).
    Or ``spec`` holds a whole specification inline. ``params`` overrides ``train.params``. ``cache=False`` recomputes everything,
    ``recompute_from`` this step and what follows it. ``pause_limit`` is how long a paused run is kept before it fails. ``cutoff`` leaves
    out later rows, where the data are split by time. ``ask=False``: nobody is asked about rows without a label in this run.
    """

    pipeline: str | None = None
    version: str | None = None
    spec: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    cache: bool = True
    recompute_from: StepKind | None = None
    requested_by: str = "unknown"
    pause_limit: timedelta = timedelta(days=30)
    cutoff: datetime | None = None
    ask: bool = True
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """`runs.open`: what the workflow knows about itself. ``chain`` is its first execution's id: a second chain is refused."""

    workflow_id: str
    chain: str
    request: RunRequest


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What the workflow must know of the specification in order to decide; everything else is read by activities."""

    run_id: UUID
    pipeline: str
    pipeline_version: UUID
    model: str
    patience: timedelta = PATIENCE
    window: int = 4  # partitions in flight
    promote: bool = True
    labels: bool = False  # people are asked about rows without a label
    compares: bool = False  # people compare the model that may be released with the one that serves


@dataclass(frozen=True, kw_only=True)
class CloseRun:
    """`runs.close`: the run's last row. ``error`` is `PerdureError.as_dict`-shaped."""

    run_id: UUID
    state: RunState
    error: dict[str, str | None] | None = None
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """`runs.command`: records a person's command (``pause``, ``resume``, ``cancel``) in the run's row and the audit."""

    run_id: UUID
    command: str
    command_id: str
    actor: str = "unknown"
    reason: str = ""
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """One step as the watching activity last reported it."""

    step: StepKind
    state: str
    round: int = 0
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """Answer of query ``progress``: the workflow's own view; rows (`perdure show`) know more."""

    stage: str
    paused: bool = False
    run_id: UUID | None = None
    dataset_version: UUID | None = None
    model_version: UUID | None = None
    waiting_for: str | None = None
    round: int = 0


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to. ``released`` with ``reason`` says why or why not: a refused model is a result, not an error.

    Where people were asked, ``rounds`` has the figures of each round, and ``asked_until`` says why there was no further one.
    """

    run_id: UUID
    state: RunState
    model: str
    version: int | None = None
    predictor: str | None = None  # sha256
    released: bool = False
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    rounds: list[RoundDone] = field(default_factory=list)
    asked_until: str = ""
