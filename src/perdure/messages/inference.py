"""Batch inference: a source is scored shard by shard; the scores are a dataset version."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from perdure.messages.common import PATIENCE, STRICT, ArtifactRef
from perdure.messages.jobs import Engine
from perdure.messages.pipeline import RunState


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What the workflow must know in order to go on; everything else is in rows."""

    run_id: UUID
    step_run: UUID
    model: str
    version: int
    patience: timedelta
    window: int


@dataclass(frozen=True, kw_only=True)
class BatchCursor:
    """Where a batch inference with very many shards goes on after continue-as-new."""

    plan: BatchPlan
    shards: int
    index: int
    paused: bool = False


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """Starts a `BatchInference`.

    ``version`` is a number of ``model``; by default the version that is released at the start, which then scores everything.
    ``source`` is ``{"uri", "format", "columns", "quoting", "null_values"}`` as in a specification (the format is told by the file's name
    if it is left out), or ``{"dataset", "version", "split"}``. ``to`` names the data set of the scores, by default ``{model}-scores``. The
    columns ``keep`` are passed through to it. ``shards``: into how many parts the source is divided, by default one for each 64 MiB;
    ``window`` of them are scored at once. Rows that do not fit the model's columns are set aside; ``quarantined`` is the largest share
    of such rows. The default of ``window``, ``quarantined`` and ``patience`` is what the model's own pipeline says. With ``cache``, shards
    that this version has scored before are taken as they are. ``pause_limit`` is how long a paused run is kept before it fails.
    """

    model: str
    version: int | None = None
    source: dict[str, Any] = field(default_factory=dict)
    to: str | None = None
    keep: list[str] = field(default_factory=list)
    shards: int | None = None
    window: int | None = None
    quarantined: float | None = None
    engine: Engine = Engine.LOCAL
    cache: bool = True
    requested_by: str = "unknown"
    patience: timedelta | None = None
    pause_limit: timedelta = timedelta(days=30)
    cursor: BatchCursor | None = None  # the workflow's own
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """What is decided once, at the start: which version scores, which version of a data set is scored (if it is one), and where to."""

    model_version: UUID
    to: str
    source_version: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class OpenBatch:
    """`inference.open`: what the workflow knows about itself, and what was pinned."""

    workflow_id: str
    chain: str
    request: BatchRequest
    pinned: Pinned
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class ShardDone:
    """One shard is committed, now or before."""

    index: int
    rows: int
    quarantined: int


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What `inference.commit` made: a version of the data set ``dataset``."""

    dataset: str
    dataset_version: UUID
    number: int
    manifest: ArtifactRef
    rows: int
    quarantined: int


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """Answer of query ``progress``: the workflow's own view. ``done`` of ``shards`` are committed."""

    stage: str
    paused: bool = False
    run_id: UUID | None = None
    model: str = ""
    version: int | None = None
    done: int = 0
    shards: int | None = None


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What a batch inference came to."""

    run_id: UUID
    state: RunState
    model: str
    version: int
    scored: Scored | None = None
    reason: str = ""
