"""Standard Webhooks (standardwebhooks.com): signed with a shared secret, named by ``webhook-id``. Anybody's own tools send these.

The body is ``{"type": "answers", "timestamp": ..., "data": {"answers": [...]}}``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from perdure.gateway.fields import Milliseconds, Moment, Name, Revision, Text, Value
from perdure.gateway.hooks.reading import Malformed, Message, Unproven, parse, told
from perdure.labeling.deliveries import Meaning, Unusable
from perdure.labeling.ports import Incoming
from perdure.metadata.repository.access import PRINCIPAL, Hook
from perdure.signing import PREFIX, sign

TOLERANCE = 5 * 60  # seconds
_SIGNATURES = 20  # at most looked at: a sender signs with the old secret and the new one
_ID = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,255}", re.ASCII)  # no dot: it separates what is signed


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> str:
    """The message's id. Raises Malformed, Unproven."""
    id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(id):
        raise Malformed("webhook-id is missing, too long, or holds a dot or a space")
    if not re.fullmatch(r"[0-9]{1,12}", at):
        raise Malformed("webhook-timestamp is no number of seconds")
    if abs(now - int(at)) > TOLERANCE:
        raise Unproven("webhook-timestamp is more than five minutes away from now")
    shown = headers.get("webhook-signature", "").split(" ")[:_SIGNATURES]
    wanted = [sign(secret, id, at, body).encode() for secret in secrets]
    proofs = [hmac.compare_digest(each.encode("utf-8", "surrogateescape"), good) for each in shown for good in wanted]
    if True not in proofs:
        raise Unproven("no signature fits")
    return id


def fits(secret: str) -> bool:
    """Whether one can sign with *secret*."""
    try:
        sign(secret, "", "", b"")
    except ValueError:
        return False
    return secret != PREFIX


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Answer(_Part):
    task: Name
    labeler: Annotated[str, Field(pattern=PRINCIPAL)] | None = None
    key: Name | None = None
    revision: Revision = ""
    value: Value | None = None
    skip: bool = False
    deleted: bool = False
    reason: Text | None = None
    duration_ms: Milliseconds | None = None


class _Data(_Part):
    answers: Annotated[list[_Answer], Field(min_length=1, max_length=1_000)]


class _Body(BaseModel):
    type: Literal["answers"]
    timestamp: Moment | None = None
    data: _Data


def read(hook: Hook, body: bytes, received: datetime, headers: Mapping[str, str]) -> Message:
    """The answers in it. An answer without a key is named by the bytes of its message and its place there."""
    try:
        meaning: Meaning | Unusable = _meaning(hook, _Body.model_validate(parse(body)), received, hashlib.sha256(body).hexdigest())
    except ValueError as err:
        meaning = Unusable(reason=told(err))
    return Message(key=None, body=body, meaning=meaning)


def _meaning(hook: Hook, body: _Body, received: datetime, digest: str) -> Meaning:
    at = min(body.timestamp or received, received).astimezone(UTC)
    return Meaning(answers=[_incoming(hook, each, at, f"{digest}:{number}") for number, each in enumerate(body.data.answers)])


def _incoming(hook: Hook, answer: _Answer, at: datetime, key: str) -> Incoming:
    source = f"hook:{hook.id}"
    values: dict[str, Any] = answer.model_dump(include={"task", "skip", "deleted", "reason", "revision", "value", "duration_ms"})
    return Incoming(
        **values,
        labeler=f"{source}/{answer.labeler}" if answer.labeler else source,
        source=source,
        source_key=answer.key or key,
        event_time=at,
    )
