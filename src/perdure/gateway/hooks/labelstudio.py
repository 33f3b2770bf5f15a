"""Label Studio: proves itself by a static header. What its messages mean is told in `perdure.labeling.labelstudio.messages`.

A message's project holds tokens and passwords of storages: nothing of it but its id is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from perdure.gateway.hooks.reading import Message, Unproven, parse, same
from perdure.labeling.deliveries import Unusable
from perdure.labeling.labelstudio import messages
from perdure.metadata.repository.access import Hook


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raises Unproven unless the bearer header holds one of the secrets."""
    shown = headers.get("authorization", "").removeprefix("Bearer ")
    if not shown or True not in [same(shown, secret) for secret in secrets]:
        raise Unproven("the Authorization header does not hold the hook's secret")


def read(hook: Hook, body: bytes, received: datetime, headers: Mapping[str, str]) -> Message:
    """The answers in it, or the deletion of some. Its key is made of what happened to which annotation when."""
    try:
        data = parse(body)
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
    except ValueError as err:
        key = hashlib.sha256(body).hexdigest()
        return Message(key=key, body=body, meaning=Unusable(reason=f"no message of Label Studio: {err}"))
    if "project" in data:
        data["project"] = {"id": data["project"].get("id")} if isinstance(data["project"], dict) else None
    key, meaning = messages.read(hook.id, hook.campaign, data)
    return Message(key=key, body=json.dumps(data).encode(), meaning=meaning)
