"""Label Studio: proves itself by a static header, signs nothing, names nothing, sends once and in any order.

A message's project holds tokens and passwords of storages: nothing of it but its id is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from perdure.gateway.fields import Moment, Name
from perdure.gateway.hooks.reading import Message, Unproven, parse, same, told
from perdure.labeling.deliveries import Meaning, Unusable
from perdure.labeling.ports import Incoming
from perdure.metadata.repository.access import Hook

SOURCE = "labelstudio"
ANSWERS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED")
DELETED = "ANNOTATIONS_DELETED"


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raises Unproven unless the bearer header holds one of the secrets."""
    shown = headers.get("authorization", "").removeprefix("Bearer ")
    if not shown or True not in [same(shown, secret) for secret in secrets]:
        raise Unproven("the Authorization header does not hold the hook's secret")


_Id = Annotated[int, Field(ge=0, lt=2**63)]


class _Meta(BaseModel):
    task_key: Name


class _Task(BaseModel):
    id: _Id
    meta: _Meta


class _Person(BaseModel):
    id: _Id


class _Annotation(BaseModel):
    id: _Id
    task: _Id
    result: list[dict[str, Any]]
    was_cancelled: bool = False
    updated_at: Moment
    completed_by: _Id | _Person
    lead_time: float | None = None


class _Gone(BaseModel):
    id: _Id


class _Deletion(BaseModel):
    annotations: Annotated[list[_Gone], Field(min_length=1)]


class _One(BaseModel):
    annotation: _Annotation
    task: _Task


class _Many(BaseModel):
    annotation: Annotated[list[_Annotation], Field(min_length=1)]
    task: list[_Task]


def read(hook: Hook, body: bytes, received: datetime) -> Message:
    """The answers in it, or the deletion of some. Its key is made of what happened to which annotation when."""
    try:
        data = parse(body)
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
    except ValueError as err:
        return Message(key=_key(body.decode("latin-1")), body=body, meaning=Unusable(reason=f"no message of Label Studio: {err}"))
    if "project" in data:
        data["project"] = {"id": data["project"].get("id")} if isinstance(data["project"], dict) else None
    kept, action = json.dumps(data).encode(), data.get("action")
    try:
        if action in ANSWERS:
            return _answers(hook, str(action), data, kept)
        if action == DELETED:
            return _deletion(hook, data, kept)
    except ValueError as err:
        return Message(key=_key(kept.decode()), body=kept, meaning=Unusable(reason=f"{action}: {told(err)}"))
    known = isinstance(action, str) and action.startswith(("PROJECT_", "TASKS_", "LABEL_LINK_"))  # it sends these where asked for all
    return Message(key=_key(kept.decode()), body=kept, meaning=Meaning() if known else Unusable(reason=f"unknown action {action!r}"))


def source_key(instance: str, annotation: int) -> str:
    """The name of an annotation for ever. A deletion tells no more than its id."""
    return f"ls:{instance}:{annotation}"


def delivery_key(action: str, annotations: Sequence[tuple[int, str]]) -> str:
    """The name of a message about these annotations (id, time); who polls Label Studio for lost ones makes the same."""
    return _key("|".join((action, *(f"{id}|{at}" for id, at in annotations))))


def moment(at: datetime) -> str:
    """A time as revisions hold it: later ones sort later."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _answers(hook: Hook, action: str, data: dict[str, Any], kept: bytes) -> Message:
    if isinstance(data.get("annotation"), list):
        many = _Many.model_validate(data)
    else:
        one = _One.model_validate(data)
        many = _Many(annotation=[one.annotation], task=[one.task])
    tasks = {task.id: task.meta.task_key for task in many.task}
    key = delivery_key(action, [(each.id, moment(each.updated_at)) for each in many.annotation])
    return Message(key=key, body=kept, meaning=Meaning(answers=[_incoming(hook, each, tasks) for each in many.annotation], one_by_one=True))


def _deletion(hook: Hook, data: dict[str, Any], kept: bytes) -> Message:
    gone = sorted({each.id for each in _Deletion.model_validate(data).annotations})
    withdrawn = [(SOURCE, source_key(hook.id, id)) for id in gone]
    return Message(key=delivery_key(DELETED, [(id, "") for id in gone]), body=kept, meaning=Meaning(withdrawn=withdrawn, one_by_one=True))


def _incoming(hook: Hook, annotation: _Annotation, tasks: dict[int, str]) -> Incoming:
    if annotation.task not in tasks:
        raise ValueError(f"annotation {annotation.id} is about a task that did not come with it")
    who = annotation.completed_by if isinstance(annotation.completed_by, int) else annotation.completed_by.id
    spent = annotation.lead_time * 1000 if annotation.lead_time is not None else None
    return Incoming(
        task=tasks[annotation.task],
        labeler=f"hook:{hook.id}/{who}",
        source=SOURCE,
        source_key=source_key(hook.id, annotation.id),
        revision=moment(annotation.updated_at),
        event_time=annotation.updated_at.astimezone(UTC),
        value=None if annotation.was_cancelled else _value(annotation),
        skip=annotation.was_cancelled,
        duration_ms=int(spent) if spent is not None and 0 <= spent < 2**31 else None,
    )


def _value(annotation: _Annotation) -> Any:
    """The one thing that was answered: a choice, a side of a pair, or a number."""
    if len(annotation.result) != 1:
        raise ValueError(f"annotation {annotation.id} holds {len(annotation.result)} results, one is wanted")
    kind, value = annotation.result[0].get("type"), annotation.result[0].get("value")
    held = value if isinstance(value, dict) else {}
    match kind:
        case "choices" if isinstance(held.get("choices"), list) and len(held["choices"]) == 1:
            return held["choices"][0]
        case "pairwise":
            return held.get("selected")
        case "number" | "rating":
            return held.get(str(kind))
    raise ValueError(f"annotation {annotation.id} holds a result of type {kind!r} that is no single choice, side or number")


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
