"""CloudEvents 1.0 (cloudevents.io) by HTTP: structured, binary and batched, and as the argument of a signal.

Written out, as the SDK knows no batch and raises errors of its own on bodies that are none. Attributes beyond the standard are ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perdure.errors import InvalidInput
from perdure.events.drift import TYPES, drift_event
from perdure.labeling.fields import Moment
from perdure.messages.retraining import DriftEvent

STRUCTURED, BATCH, BINARY = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
MEDIA = (STRUCTURED, BATCH, BINARY)
ATTRIBUTES = ("id", "source", "type", "specversion", "subject", "time")
MOST = 1_000  # events in one body
SUBJECT = re.compile(r"model/([a-z0-9][a-z0-9_-]{0,62})(?:/([1-9][0-9]{0,8}))?")

Text = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Envelope(BaseModel):
    """The attributes of one event, and its data."""

    model_config = ConfigDict(extra="ignore")

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: Text
    subject: Text | None = None
    time: Moment | None = None
    datacontenttype: Annotated[str, Field(max_length=200)] = "application/json"
    data: Any = None
    data_base64: str | None = None


def from_http(headers: Mapping[str, str], body: bytes) -> list[DriftEvent]:
    """The events of a request, whichever way they were bound to it. Raises InvalidInput; `Unparsed` where the body is no JSON."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == STRUCTURED:
        return [from_json(parsed(body))]
    if media == BATCH:
        return _batch(parsed(body))
    named = {name: headers[f"ce-{name}"] for name in ATTRIBUTES if f"ce-{name}" in headers}
    if not named:
        raise InvalidInput(
            "the request has no ce-* headers", field="Content-Type", remedy=f"send {STRUCTURED}, {BATCH}, or ce-id, ce-source and so on"
        )
    return [from_json({name: unquote(value) for name, value in named.items()} | {"data": parsed(body)})]


def from_json(event: Any, where: str = "") -> DriftEvent:
    """One structured event. Raises InvalidInput, which names the field; *where* goes before it."""
    try:
        envelope = Envelope.model_validate(event)
    except ValidationError as err:
        raise _mistake(err, where) from None
    if envelope.type not in TYPES:
        raise InvalidInput(f"{envelope.type!r} is no type of event that is known here", field=f"{where}type", remedy=_KNOWN)
    subject = SUBJECT.fullmatch(envelope.subject or "")
    if subject is None:
        raise InvalidInput("the subject names no model", field=f"{where}subject", remedy="set it to model/NAME, or model/NAME/VERSION")
    data = _data(envelope, where)
    try:
        found = drift_event(envelope.type, data)
    except ValidationError as err:
        raise _mistake(err, f"{where}data.") from None
    except InvalidInput as err:
        raise InvalidInput(err.problem, field=f"{where}data.{err.field}", remedy=err.remedy) from None
    version = int(subject[2]) if subject[2] else None
    return replace(found, source=envelope.source, event_id=envelope.id, model=subject[1], version=version)


class Unparsed(ValueError):
    """What should be JSON is none, or holds what no row can."""


def parsed(body: bytes) -> Any:
    """The JSON in *body*. Raises `Unparsed`."""
    try:
        data = json.loads(body)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise Unparsed("the body is nested too deeply") from None
    except ValueError as err:
        raise Unparsed(f"the body is no JSON: {err}") from None
    return data


def _batch(data: Any) -> list[DriftEvent]:
    if not isinstance(data, list):
        raise InvalidInput("a batch is a list of events", field="body")
    if len(data) > MOST:
        raise InvalidInput(f"a batch may hold {MOST:,} events, this one has {len(data):,}", field="body", remedy="send several batches")
    return [from_json(each, f"{number}.") for number, each in enumerate(data)]


def _data(envelope: Envelope, where: str) -> Any:
    if envelope.data_base64 is None:
        return envelope.data
    try:
        return parsed(base64.b64decode(envelope.data_base64, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidInput("it holds no JSON in base64", field=f"{where}data_base64") from None


def _mistake(err: ValidationError, where: str) -> InvalidInput:
    """The first mistakes of a body, in one error."""
    found = err.errors(include_url=False, include_input=False)
    told = [(where + ".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")) for each in found[:5]]
    rest = "; ".join(f"{field}: {message}" for field, message in told[1:])
    return InvalidInput(
        told[0][1] + (f"; {rest}" if rest else ""), field=told[0][0].rstrip("."), remedy="docs/events.md says what goes where"
    )


_KNOWN = f"choose from {', '.join(sorted(TYPES))}"
