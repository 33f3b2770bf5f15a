"""Slack: buttons under a message that asks for an approval. Who presses one votes.

A button's ``action_id`` is ``approve`` or ``reject``, its ``value`` ``{approval}:{evidence_sha256}``: the vote is bound to what was seen.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs
from uuid import UUID

from pydantic import BaseModel, Field

from perdure.gateway.hooks.reading import Malformed, Message, Unproven, parse, same, told
from perdure.labeling.deliveries import CastVote, Meaning, Unusable
from perdure.messages.promotion import VoteDecision
from perdure.metadata.repository.access import Hook

TOLERANCE = 5 * 60  # seconds
_SECRET = ("token", "response_url", "trigger_id")  # with these one may speak in Slack: not kept


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raises Malformed, Unproven unless Slack has signed the message a moment ago."""
    at, shown = headers.get("x-slack-request-timestamp", ""), headers.get("x-slack-signature", "")
    if not re.fullmatch(r"[0-9]{1,12}", at):
        raise Malformed("X-Slack-Request-Timestamp is no number of seconds")
    if abs(now - int(at)) > TOLERANCE:
        raise Unproven("X-Slack-Request-Timestamp is more than five minutes away from now")
    if True not in [same(shown, sign(secret, at, body)) for secret in secrets]:
        raise Unproven("no signature fits")


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a message, as in ``X-Slack-Signature``."""
    return "v0=" + hmac.new(secret.encode(), f"v0:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()


class _Action(BaseModel):
    action_id: Literal["approve", "reject"]
    action_ts: Annotated[str, Field(max_length=40)]
    value: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}:[0-9a-f]{64}$")]


class _User(BaseModel):
    id: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,40}$")]


class _Interaction(BaseModel):
    type: Literal["block_actions"]
    user: _User
    actions: Annotated[list[_Action], Field(min_length=1, max_length=1)]


def read(hook: Hook, body: bytes, received: datetime, headers: Mapping[str, str]) -> Message:
    """The vote in it: of ``slack:{user id}``, who must be among the approvers by that name where these are named."""
    try:
        data = _payload(body)
    except ValueError as err:
        return Message(key=hashlib.sha256(body).hexdigest(), body=b"", meaning=Unusable(reason=f"no interaction of Slack: {err}"))
    kept = json.dumps({name: value for name, value in data.items() if name not in _SECRET}).encode()
    try:
        interaction = _Interaction.model_validate(data)
        action = interaction.actions[0]
        approval, _, evidence = action.value.partition(":")
        vote = CastVote(
            approval=UUID(approval),
            decision=VoteDecision(action.action_id),
            actor=f"slack:{interaction.user.id}",
            evidence_sha256=evidence,
            reason="by a button in Slack",
        )
    except ValueError as err:
        return Message(key=hashlib.sha256(kept).hexdigest(), body=kept, meaning=Unusable(reason=told(err)))
    return Message(key=f"{action.action_ts}:{approval}:{interaction.user.id}", body=kept, meaning=Meaning(vote=vote))


def _payload(body: bytes) -> dict[str, Any]:
    """The interaction in a form, or, of a message that was kept, as JSON."""
    text = body if body.startswith(b"{") else parse_qs(body.decode()).get("payload", [""])[0].encode()
    data = parse(text)
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    return data
