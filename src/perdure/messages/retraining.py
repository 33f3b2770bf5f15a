"""Drift, triggers and what follows from them."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from perdure.messages.common import PATIENCE, STRICT, Json


class DriftKind(StrEnum):
    """What drifted. Feature drift asks people, measured loss trains."""

    DATA = "data"  # schema or distribution of inputs
    LABEL = "label"  # distribution of the truth
    CONCEPT = "concept"  # distribution of predictions, or of the truth given them
    QUALITY = "quality"  # error of predictions whose outcome is known


class EpisodeState(StrEnum):
    """Where an episode stands."""

    WATCH = "watch"
    CONFIRMED = "confirmed"
    ACTED = "acted"
    CLOSED = "closed"


class TriggerKind(StrEnum):
    """What else may ask for a training."""

    SCHEDULE = "schedule"
    DATA = "data"
    LABELS = "labels"
    DATASET = "dataset"
    FORCE = "force"


class Outcome(StrEnum):
    """What a decision says."""

    TRAIN = "train"
    LABEL = "label"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class DriftEvent:
    """What one monitor says of one window. ``source`` and ``event_id`` name it: the same again is the same event.

    ``drifted`` is the monitor's own verdict, ``n`` the rows of the window, ``severity`` goes from 0 to 1. ``level`` is set where the sender
    tells how things stand rather than what one window showed (an alert that fires until it is resolved): one such event confirms an
    episode, and one that is quiet ends it.
    """

    source: str
    event_id: str
    type: str
    model: str
    kind: DriftKind
    monitor: str
    drifted: bool
    version: int | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    n: int = 0
    severity: float = 0.0
    metrics: list[Json] = field(default_factory=list)
    report_uri: str | None = None
    level: bool = False


@dataclass(frozen=True, kw_only=True)
class ControllerRequest:
    """Starts `RetrainingController` (``retrain/{model}``); continue-as-new carries the rest."""

    model: str
    patience: timedelta = PATIENCE
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Force:
    """Argument of update ``force``: train now, whatever the policy says; ``command_id`` names it, so that it counts once."""

    actor: str = "unknown"
    reason: str = ""
    command_id: str = ""
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Snooze:
    """Argument of update ``snooze``: no action before ``until`` (None: at once again)."""

    until: datetime | None = None
    actor: str = "unknown"
    reason: str = ""
    __pydantic_config__ = STRICT
