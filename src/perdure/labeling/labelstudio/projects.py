"""How a campaign looks in Label Studio: its labeling config, and its tasks as lines of an import."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID
from xml.sax.saxutils import quoteattr

from perdure.errors import InvalidInput
from perdure.labeling.assistance import guess, shown
from perdure.labeling.labelstudio.ports import Unsent
from perdure.labeling.spec import Campaign, Shows
from perdure.messages.common import Json

CONTROL, SHOWN = "label", "shown"
"""Names of what is answered and of what is looked at, in every config."""
_OBJECTS = {
    Shows.TEXT: f'<Text name="{SHOWN}" value="$text" valueType="text"/>',
    Shows.IMAGE: f'<Image name="{SHOWN}" value="$image"/>',
    Shows.ROW: f'<Table name="{SHOWN}" value="$row"/>',
    Shows.CONFIRM: f'<Table name="{SHOWN}" value="$row"/>',
    Shows.PAIR: f'<View style="display: flex; gap: 2em"><View><Header value="left"/><Text name="{SHOWN}" value="$left" valueType="text"/>'
    '</View><View><Header value="right"/><Text name="right" value="$right" valueType="text"/></View></View>',
}


def config(spec: Campaign) -> str:
    """The labeling config that asks what the campaign asks."""
    head = f"<Header value={quoteattr(spec.question)}/>"
    return f"<View>{head}{_OBJECTS[spec.shows]}{_control(spec)}</View>"


def _control(spec: Campaign) -> str:
    if not spec.choices:
        return f'<Number name="{CONTROL}" toName="{SHOWN}" required="true"/>'
    choices = "".join(f"<Choice value={quoteattr(choice)}/>" for choice in spec.choices)
    return f'<Choices name="{CONTROL}" toName="{SHOWN}" choice="single" required="true">{choices}</Choices>'


def misfit(controls: Json, spec: Campaign) -> str | None:
    """What is wrong with a project that somebody else made, by what Label Studio read out of its config; None where it fits."""
    control = controls.get(CONTROL)
    if not isinstance(control, dict) or control.get("to_name") != [SHOWN]:
        return f"it has no control `{CONTROL}` for an object `{SHOWN}`"
    if control.get("type") != ("Choices" if spec.choices else "Number"):
        return f"its control `{CONTROL}` is a {control.get('type')}"
    if missing := [choice for choice in spec.choices if choice not in (control.get("labels") or ())]:
        return f"its control `{CONTROL}` lacks {', '.join(missing)}"
    return None


def title(name: str) -> str:
    """The campaign's name as a title: Label Studio takes from 3 to 50 characters."""
    return (name if len(name) >= 3 else f"campaign {name}")[:50]


def marker(campaign: UUID, name: str) -> str:
    """The description of a project that belongs to a campaign: by it the project is found again."""
    return f"Perdure campaign {name} ({campaign})"


def line(campaign: UUID, task: Unsent, spec: Campaign) -> Json:
    """The task as Label Studio imports it. Raises InvalidInput for a payload that cannot be shown."""
    made: Json = {"data": _data(task.payload, spec.shows), "meta": {"task_key": task.key, "perdure_campaign": str(campaign)}}
    if prediction := _prediction(task, spec):
        made["predictions"] = [prediction]
    return made


def _data(payload: Json, shows: Shows) -> Json:
    match shows:
        case Shows.TEXT:
            return {"text": _needed(payload, "text")}
        case Shows.IMAGE:
            return {"image": _needed(payload, "image")}
        case Shows.PAIR:
            return {side: _text(payload[side]) if side in payload else _needed(payload, side) for side in ("left", "right")}
        case _:
            return {"row": {name: value if isinstance(value, str | int | float) else _text(value) for name, value in payload.items()}}


def _needed(payload: Json, name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"the payload has no text `{name}`, which is what is shown", field=name, remedy="import the task with it")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _prediction(task: Unsent, spec: Campaign) -> Json | None:
    """What the model says, where people may see it and it is an answer: Label Studio takes any, and shows nothing of a wrong one.

    A prediction belongs to the task there, not to who looks at it; whether it is seen is the same wherever people label.
    """
    said = task.prediction or {}
    label, version = said.get("label"), said.get("version")
    if not shown(task.id, task.prediction, task.assisted, spec) or spec.check(label) is not None:
        return None
    kind, value = ("choices", [label]) if spec.choices else ("number", label)
    made: Json = {"result": [{"from_name": CONTROL, "to_name": SHOWN, "type": kind, "value": {kind: value}}]}
    if known := guess(said):
        made["score"] = known.confidence
    if version is not None:
        made["model_version"] = str(version)[:256]
    return made
