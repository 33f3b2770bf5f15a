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
class DriftSignal:
    """Argument of signal ``drift`` for the bare CLI: one drift event, in the words of docs/events.md. What does not fit is quarantined."""

    event: Json = field(default_factory=dict)


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
