"""What serving hands to the inference log: predictions, and how much of them may be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPolicy:
    """Which predictions people are asked about. ``choices``: the model's classes, none for a number."""

    random: float
    confident_below: float
    most_open: int  # tasks that may wait for people; more are added for flagged predictions only
    columns: tuple[str, ...] | None  # what people are shown; None: all that is logged as it is
    campaign: dict[str, object]  # the specification of the standing campaign


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """What of a model's predictions is kept: the share ``sample`` of them, with ``personal`` columns dropped or hashed."""

    personal: frozenset[str] = frozenset()
    treat: Literal["drop", "hash"] = "drop"
    sample: float = 1.0
    ask: AskPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Predictions that one version made together: one request, or several in one batch. All sequences have a value for each row.

    ``ids`` are of `perdure.predictions`: a prediction's time is read off its id. A shadow has the ids of its own version with the same
    request at the end.
    """

    model: str
    version: int
    role: str  # release | canary | arm | shadow
    rows: pl.DataFrame  # raw input columns; others than the predictor's schema are left out by the caller
    scores: pl.DataFrame  # as `Predictor.predict` gave them: p_<class> and prediction
    ids: Sequence[str]
    units: Sequence[str | None]
    traces: Sequence[str]  # trace id of `traceparent` (32 hex), "" where there is none
    latencies: Sequence[float]  # milliseconds until the answer was ready
    policy: LogPolicy
    unit_column: str | None = None  # the raw column that an experiment takes as the unit


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFigures:
    """What the log of this process did so far, in rows. ``taken`` = ``logged`` + ``dropped`` + what is on its way."""

    taken: int  # handed over, but for those that a sample leaves out
    logged: int  # committed to Delta
    dropped: int  # refused, as memory or disk were full
    waiting: int  # in memory or in the spool
    spool_bytes: int


class Recorder(Protocol):
    """What keeps predictions."""

    def record(self, scored: Scored) -> None:
        """Keep these. Takes microseconds, never waits and never raises: what cannot be kept is counted as dropped."""

    def figures(self) -> LogFigures:
        """Counted now."""

    def close(self, seconds: float = 10.0) -> None:
        """Commit what is there, for so long at most; what is left is found by the next process on this machine."""
