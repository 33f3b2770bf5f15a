"""Signal ``drift`` of the bare Temporal CLI: what it carries goes through the same inbox as what comes by HTTP."""

from __future__ import annotations

import json
from typing import Any, Protocol

from perdure.errors import InvalidInput
from perdure.events.cloudevents import from_json
from perdure.labeling.deliveries import Delivery, Meaning, Unusable


class SignalInbox(Protocol):
    """Where signals are kept."""

    def signaled(self, body: bytes, meaning: Meaning | Unusable) -> Delivery:
        """Keep what a signal carried, and do what it says, or quarantine it. The same again is a duplicate."""


def receive(inbox: SignalInbox, event: Any) -> Delivery:
    """Take one event, a CloudEvent as JSON (docs/events.md). What cannot be used is quarantined with the reason, never refused."""
    body = json.dumps(event, sort_keys=True).encode()
    try:
        meaning: Meaning | Unusable = Meaning(events=[from_json(event)])
    except InvalidInput as err:
        meaning = Unusable(reason=f"{err.field}: {err.problem}")
    return inbox.signaled(body, meaning)
