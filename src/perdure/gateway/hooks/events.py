"""Events about drift by web hooks: CloudEvents, signed by Standard Webhooks, and notifications of Alertmanager.

What is said is told in `perdure.events`. Signals of the bare Temporal CLI are read again here, where they could not be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from perdure.errors import InvalidInput
from perdure.events import alertmanager, cloudevents
from perdure.gateway.hooks.reading import Malformed, Message
from perdure.labeling.deliveries import Meaning, Unusable
from perdure.metadata.repository.access import Hook


def read(hook: Hook, body: bytes, received: datetime, headers: Mapping[str, str]) -> Message:
    """CloudEvents in any of their three forms. Their name is the delivery's, ``webhook-id``."""
    try:
        return Message(key=None, body=body, meaning=Meaning(events=cloudevents.from_http(headers, body)))
    except (InvalidInput, cloudevents.Unparsed) as err:
        return Message(key=None, body=body, meaning=unusable(err))


def read_alerts(hook: Hook, body: bytes, received: datetime, headers: Mapping[str, str]) -> Message:
    """A notification of Alertmanager."""
    try:
        key, events = alertmanager.read(f"hook:{hook.id}", body, received)
    except (InvalidInput, cloudevents.Unparsed) as err:
        return Message(key=None, body=body, meaning=unusable(err))
    return Message(key=key, body=body, meaning=Meaning(events=events))


def read_signal(hook: Hook, body: bytes, received: datetime, headers: Mapping[str, str]) -> Message:
    """The event that a signal carried."""
    try:
        return Message(key=None, body=body, meaning=Meaning(events=[cloudevents.from_json(cloudevents.parsed(body))]))
    except (InvalidInput, cloudevents.Unparsed) as err:
        return Message(key=None, body=body, meaning=unusable(err))


def verify_signal(headers: Mapping[str, str], body: bytes, secrets: object, now: float) -> None:
    """Raises Malformed: nobody sends these by HTTP."""
    raise Malformed("signals do not come by HTTP")


def unusable(err: InvalidInput | cloudevents.Unparsed) -> Unusable:
    """Why events cannot be used, with the field that is wrong."""
    return Unusable(reason=f"{err.field}: {err.problem}" if isinstance(err, InvalidInput) else str(err))
