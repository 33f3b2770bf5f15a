"""What an event about drift says: our own words, and reports of Evidently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perdure.events.evidently import Report
from perdure.labeling.fields import Moment, Name
from perdure.messages.retraining import DriftEvent, DriftKind

EVIDENTLY = "ai.perdure.evidently.v1"
KINDS = {
    "ai.perdure.drift.data.v1": DriftKind.DATA,
    "ai.perdure.drift.label.v1": DriftKind.LABEL,
    "ai.perdure.drift.prediction.v1": DriftKind.CONCEPT,
    "ai.perdure.drift.concept.v1": DriftKind.CONCEPT,
    "ai.perdure.performance.v1": DriftKind.QUALITY,
    "ai.perdure.quality.v1": DriftKind.QUALITY,
}
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Uri = Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\x00-\x20]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Window(_Part):
    """The rows that were looked at: from when to when, and how many."""

    start: Moment | None = None
    end: Moment | None = None
    n: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("the window is empty: it does not end after it begins")
        return self


class Reference(_Part):
    """What they were compared with."""

    id: Name
    n: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Metric(BaseModel):
    """One figure, and whether its monitor holds it for drift. Further fields are kept."""

    model_config = ConfigDict(extra="allow")

    feature: Name | None = None
    method: Name | None = None
    statistic: Finite | None = None
    p_value: Share | None = None
    threshold: Finite | None = None
    drifted: bool = False


class _About(_Part):
    """What all kinds of events say."""

    monitor: Name
    window: Window = Window()
    report_uri: Uri | None = None
    level: bool = False


class Drift(_About):
    """Our own words. ``drifted`` is, where it is not said, whether any metric is; ``severity`` is then the share of those that are."""

    reference: Reference | None = None
    metrics: Annotated[list[Metric], Field(max_length=10_000)] = Field(default_factory=list)
    drift_share: Share | None = None
    severity: Share | None = None
    drifted: bool | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Evidently(_About):
    """A report of Evidently 0.7, as ``.json()`` gives it, and what it does not say itself."""

    monitor: Name = "evidently"
    kind: DriftKind = DriftKind.DATA
    report: Report


def drift_event(type: str, data: Any) -> DriftEvent:
    """What data of a known type says; source, id and model are the envelope's. Raises pydantic's ValidationError, and InvalidInput."""
    return TYPES[type](type, data)


def _own(type: str, data: Any) -> DriftEvent:
    said = Drift.model_validate(data)
    drifted = [metric for metric in said.metrics if metric.drifted]
    share = said.drift_share if said.drift_share is not None else len(drifted) / len(said.metrics) if said.metrics else None
    verdict = said.drifted if said.drifted is not None else bool(drifted)
    severity = next((each for each in (said.severity, share) if each is not None), float(verdict))
    metrics = [metric.model_dump(mode="json", exclude_none=True) for metric in said.metrics]
    return _event(type, said, KINDS[type], verdict, severity, metrics)


def _evidently(type: str, data: Any) -> DriftEvent:
    said = Evidently.model_validate(data)
    verdict = said.report.verdict()
    return _event(type, said, said.kind, verdict.drifted, verdict.share, verdict.metrics)


def _event(type: str, said: _About, kind: DriftKind, drifted: bool, severity: float, metrics: list[dict[str, Any]]) -> DriftEvent:
    return DriftEvent(
        source="",
        event_id="",
        type=type,
        model="",
        kind=kind,
        monitor=said.monitor,
        drifted=drifted,
        window_start=said.window.start,
        window_end=said.window.end,
        n=said.window.n,
        severity=severity,
        metrics=metrics,
        report_uri=said.report_uri,
        level=said.level,
    )


TYPES: dict[str, Callable[[str, Any], DriftEvent]] = {**dict.fromkeys(KINDS, _own), EVIDENTLY: _evidently}
"""Types of events that are known, and who reads their data."""
