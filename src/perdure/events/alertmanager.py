"""Notifications of Prometheus' Alertmanager, version 4.

They have no id and are sent again for as long as an alert fires: what counts is how things stand. So an alert is one event from its start,
by fingerprint and time, and another when its whole group is resolved: while one alert of a group fires, those that do not say nothing.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perdure.errors import InvalidInput
from perdure.events.cloudevents import SUBJECT, parsed
from perdure.labeling.fields import Moment
from perdure.messages.retraining import DriftEvent, DriftKind

TYPE = "alertmanager.v4"
MOST = 10_000  # alerts in one notification
SEVERITIES = {"critical": 1.0, "page": 1.0}
OTHER = 0.5
_Labels = dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=10_000)]]


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Alert(_Loose):
    status: Literal["firing", "resolved"]
    labels: _Labels
    annotations: _Labels = Field(default_factory=dict)
    startsAt: Moment
    endsAt: Annotated[str, Field(max_length=100)] = ""  # the year 1 while it fires
    generatorURL: Annotated[str, Field(max_length=2_000)] = ""
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]


class _Notification(_Loose):
    version: Literal["4"]
    groupKey: Annotated[str, Field(max_length=20_000)]
    status: Literal["firing", "resolved"]
    alerts: Annotated[list[_Alert], Field(min_length=1, max_length=MOST)]


def read(source: str, body: bytes, received: datetime) -> tuple[str, list[DriftEvent]]:
    """A name for the notification, and the event of each alert. Raises InvalidInput, Unparsed.

    The name has the minute in it: what is repeated hours later is looked at anew, which helps where it could not be used the first time.
    """
    try:
        said = _Notification.model_validate(parsed(body))
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        raise InvalidInput(first["msg"], field=".".join(map(str, first["loc"]))) from None
    stand = sorted(f"{alert.fingerprint} {alert.startsAt.isoformat()} {alert.status}" for alert in said.alerts)
    named = hashlib.sha256("\n".join([said.groupKey, said.status, *stand]).encode("utf-8", "surrogatepass")).hexdigest()
    telling = [(number, alert) for number, alert in enumerate(said.alerts) if alert.status == said.status]
    events = [_event(source, alert, f"alerts.{number}.") for number, alert in telling]
    return f"{named}:{received.astimezone(UTC):%Y%m%dT%H%M}", events


def alert_of(event_id: str) -> str:
    """Which alert an event is about: its fingerprint and start."""
    return "/".join(event_id.split("/")[:2])


def _event(source: str, alert: _Alert, where: str) -> DriftEvent:
    labels, firing = alert.labels, alert.status == "firing"
    version = labels.get("model_version")
    subject = SUBJECT.fullmatch(f"model/{labels.get('model', '')}" + (f"/{version}" if version else ""))
    if subject is None:
        raise InvalidInput("the alert names no model", field=f"{where}labels.model", remedy="send alerts with the label `model` here only")
    kind = labels.get("drift", DriftKind.DATA)
    if kind not in list(DriftKind):
        raise InvalidInput(f"{kind!r} is no kind of drift", field=f"{where}labels.drift", remedy=f"choose from {', '.join(DriftKind)}")
    return DriftEvent(
        source=source,
        event_id=f"{alert.fingerprint}/{alert.startsAt.astimezone(UTC).isoformat()}/{alert.status}",
        type=TYPE,
        model=subject[1],
        version=int(subject[2]) if subject[2] else None,
        kind=DriftKind(kind),
        monitor=labels.get("alertname", "")[:200] or "alertmanager",
        drifted=firing,
        window_start=alert.startsAt,
        severity=SEVERITIES.get(labels.get("severity", ""), OTHER) if firing else 0.0,
        metrics=[_metric(alert)],
        report_uri=alert.annotations.get("report") or alert.generatorURL or None,
        level=True,
    )


def _metric(alert: _Alert) -> dict[str, Any]:
    firing = alert.status == "firing"
    ends = {} if firing else {"ends_at": alert.endsAt}  # not the event's end: it may lie before the word that the alert had begun
    return {"labels": alert.labels, "annotations": alert.annotations, "drifted": firing, **ends}
