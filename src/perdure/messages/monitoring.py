"""Monitoring: one look at a served model."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from perdure.messages.common import PATIENCE, STRICT, ArtifactRef


@dataclass(frozen=True, kw_only=True)
class MonitorRequest:
    """Starts `DriftMonitor`: one look at ``model``, at windows that end at ``at``.

    Default: the time for which a schedule planned this look, else that of its start. It is rounded down to `monitor.every`, so that a
    repeated look is the same one.
    """

    model: str
    at: datetime | None = None
    patience: timedelta = PATIENCE
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class LookRequest:
    """`monitoring.look`: look at ``model`` as of ``at``, which is not rounded yet."""

    model: str
    at: datetime
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class LookResult:
    """What a look found: ``drifted`` are names of monitors, ``looked`` all that had enough rows.

    ``reason`` says why nothing was looked at.
    """

    model: str
    version: int | None = None
    at: datetime | None = None
    drifted: list[str] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    report: ArtifactRef | None = None
    reason: str = ""
