"""What happened to annotations in Label Studio, whether its web hook told it or somebody who looked afterwards.

Label Studio signs nothing, names nothing, sends once and in any order. So an answer's name is that of its annotation, its revision the time
of the annotation's last change, and a message is named by what happened to which annotation when: whoever tells the same again tells it
under the same names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError

from perdure.labeling.deliveries import Meaning, Unusable
from perdure.labeling.fields import Moment, Name
from perdure.labeling.ports import Incoming
from perdure.messages.common import Json

SOURCE = "labelstudio"
CREATED, UPDATED, DELETED = "ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"
ACTIONS = (CREATED, UPDATED, "ANNOTATIONS_CREATED", DELETED)
"""What a hook has to be told; of everything else nothing follows."""
_BRIEF = timedelta(milliseconds=50)  # an annotation that changed no later than this after it was made has not been changed
KEPT = ("id", "task", "result", "was_cancelled", "created_at", "updated_at", "completed_by", "lead_time")
"""What an answer is read from."""

_Id = Annotated[int, Field(ge=0, lt=2**63)]


class _Meta(BaseModel):
    task_key: Name
    perdure_campaign: UUID | None = None  # two campaigns may share a project, and hear of each other's tasks


class _Task(BaseModel):
    id: _Id
    meta: _Meta


class _Person(BaseModel):
    id: _Id


class _Version(BaseModel):
    id: _Id
    updated_at: Moment


class _Annotation(_Version):
    task: _Id
    result: list[dict[str, Any]]
    was_cancelled: bool = False
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


def read(hook: str, campaign: UUID | None, message: Json) -> tuple[str, Meaning | Unusable]:
    """The message's name, and what it wants done. Answers to tasks of another campaign are none of this hook's."""
    action = message.get("action")
    try:
        if action == DELETED:
            return _deletion(hook, message)
        if action in ACTIONS:
            return _answers(hook, campaign, str(action), message)
    except ValueError as err:
        return _name(str(action), message), Unusable(reason=f"{action}: {_told(err)}")
    known = isinstance(action, str) and action.startswith(("PROJECT_", "TASKS_", "LABEL_LINK_"))  # it sends these where asked for all
    return _digest(message), Meaning() if known else Unusable(reason=f"unknown action {action!r}")


def seen(annotation: Json, task: Json) -> Json:
    """The message that Label Studio should have sent about an annotation that was found there."""
    try:
        changed = datetime.fromisoformat(annotation["updated_at"]) - datetime.fromisoformat(annotation["created_at"]) > _BRIEF
    except (KeyError, TypeError, ValueError):
        changed = False
    kept = {name: annotation[name] for name in KEPT if name in annotation}
    return {"action": UPDATED if changed else CREATED, "annotation": kept, "task": {"id": task.get("id"), "meta": task.get("meta")}}


def gone(annotation: int) -> Json:
    """The message that Label Studio should have sent about an annotation that is not there any more."""
    return {"action": DELETED, "annotations": [{"id": annotation}]}


def own_key(campaign: UUID, task: Json) -> str | None:
    """The key of one of this campaign's tasks; None for a task of another campaign, or of none."""
    try:
        meta = _Meta.model_validate(task.get("meta"))
    except ValidationError:
        return None
    return meta.task_key if meta.perdure_campaign in (None, campaign) else None


def changed_at(task: Json) -> datetime:
    """When the task, or an annotation of it, last changed."""
    return datetime.fromisoformat(task["updated_at"])


def source_key(hook: str, annotation: int) -> str:
    """The name of an annotation for ever. A deletion tells no more than its id."""
    return f"ls:{hook}:{annotation}"


def annotation_id(source_key: str) -> int:
    """The annotation that has this name."""
    return int(source_key.rpartition(":")[2])


def delivery_key(action: str, annotations: Sequence[tuple[int, str]]) -> str:
    """The name of a message about these annotations (id, time)."""
    return hashlib.sha256("|".join((action, *(f"{id}|{at}" for id, at in annotations))).encode()).hexdigest()


def moment(at: datetime) -> str:
    """A time as revisions hold it: later ones sort later."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _answers(hook: str, campaign: UUID | None, action: str, message: Json) -> tuple[str, Meaning]:
    if isinstance(message.get("annotation"), list):
        many = _Many.model_validate(message)
    else:
        one = _One.model_validate(message)
        many = _Many(annotation=[one.annotation], task=[one.task])
    tasks = {task.id: task.meta for task in many.task}
    if strays := [each.id for each in many.annotation if each.task not in tasks]:
        raise ValueError(f"annotation {strays[0]} is about a task that did not come with it")
    ours = [each for each in many.annotation if tasks[each.task].perdure_campaign in (None, campaign)]
    answers = [_incoming(hook, each, tasks[each.task].task_key) for each in ours]
    return _name(action, message), Meaning(answers=answers, one_by_one=True)


def _deletion(hook: str, message: Json) -> tuple[str, Meaning]:
    ids = sorted({each.id for each in _Deletion.model_validate(message).annotations})
    withdrawn = [(SOURCE, source_key(hook, id)) for id in ids]
    return delivery_key(DELETED, [(id, "") for id in ids]), Meaning(withdrawn=withdrawn, one_by_one=True)


def _incoming(hook: str, annotation: _Annotation, task: str) -> Incoming:
    who = annotation.completed_by if isinstance(annotation.completed_by, int) else annotation.completed_by.id
    spent = annotation.lead_time * 1000 if annotation.lead_time is not None else None
    return Incoming(
        task=task,
        labeler=f"hook:{hook}/{who}",
        source=SOURCE,
        source_key=source_key(hook, annotation.id),
        revision=moment(annotation.updated_at),
        event_time=annotation.updated_at.astimezone(UTC),
        value=None if annotation.was_cancelled else _text_that_can_be_kept(_value(annotation)),
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


def _text_that_can_be_kept(value: Any) -> Any:
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("the answer holds a NUL character")
    json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return value


def _name(action: str, message: Json) -> str:
    """By annotations and times where it tells these, whatever else is wrong with it."""
    told = message.get("annotation")
    try:
        versions = [_Version.model_validate(each) for each in (told if isinstance(told, list) and told else [told])]
    except ValidationError:
        return _digest(message)
    return delivery_key(action, [(each.id, moment(each.updated_at)) for each in versions])


def _digest(message: Json) -> str:
    return hashlib.sha256(json.dumps(message).encode("utf-8", "surrogateescape")).hexdigest()


def _told(error: ValueError) -> str:
    """Why a message cannot be used, in one line."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)[:5])
    return str(error)
