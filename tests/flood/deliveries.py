"""What is sent: answers by three channels, some changed later, some taken back, a fifth of all twice, in any order."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.gateway.world import answers, payload

if TYPE_CHECKING:
    from tests.flood.campaign import Flooded

OPINIONS = 2  # on each task
LABELERS = 40
REPEATED, CHANGED, DELETED = 0.2, 0.03, 0.02
BATCH = 50


@dataclass(frozen=True)
class Saying:
    """One thing said: by whom about which task. ``source`` and ``key`` are how the gateway names it."""

    task: str
    labeler: str
    source: str
    key: str
    revision: str
    value: str
    deleted: bool = False


@dataclass(frozen=True)
class Send:
    """One request. ``channel`` is batch, standard or labelstudio."""

    channel: str
    sayings: list[Saying]
    id: str


def make(campaign: Flooded, labels: int, chosen: random.Random) -> list[Send]:
    """The requests that say *labels* answers, and their repeats."""
    said: dict[str, list[Saying]] = {"batch": [], "standard": [], "labelstudio": []}
    people = [f"l{n}" for n in range(LABELERS)]
    for number in range(labels // OPINIONS):
        task = f"t{number}"
        for who in chosen.sample(people, OPINIONS):
            channel = chosen.choices(["batch", "standard", "labelstudio"], [18, 1, 1])[0]
            said[channel] += _story(channel, campaign, task, who, chosen)
    sends = [
        Send(channel, part, f"{campaign.name}-{channel}-{start}")
        for channel, sayings in said.items()
        for part, start in _parts(channel, sayings, chosen)
    ]
    sends += chosen.choices(sends, k=round(len(sends) * REPEATED))
    chosen.shuffle(sends)
    return sends


def _story(channel: str, campaign: Flooded, task: str, who: str, chosen: random.Random) -> list[Saying]:
    """What one person says about one task, in the end: an answer, perhaps another one, perhaps nothing any more."""
    number = int(task[1:]) * 1_000 + int(who[1:])
    source, labeler, key = {
        "batch": (f"api:{who}", who, task),
        "standard": (hook := f"hook:{campaign.hooks['standard'].id}", f"{hook}/{who}", f"{who}/{task}"),
        "labelstudio": ("", f"hook:{campaign.hooks['labelstudio'].id}/{int(who[1:])}", str(number)),
    }[channel]
    first = Saying(task, labeler, source, key, revision(0), chosen.choice(["pos", "neg"]))
    story = [first]
    if chosen.random() < CHANGED:
        story.append(Saying(task, labeler, source, key, revision(1), chosen.choice(["pos", "neg"])))
    if chosen.random() < DELETED:
        story.append(Saying(task, labeler, source, key, "deleted", "", deleted=True))
    return story


def revision(number: int) -> str:
    return f"2026-11-22T12:00:0{number}.000000Z"


def _parts(channel: str, sayings: list[Saying], chosen: random.Random) -> list[tuple[list[Saying], int]]:
    """Requests: batches of one person's answers, or single messages."""
    if channel != "batch":
        return [([saying], number) for number, saying in enumerate(sayings)]
    parts = []
    for who in sorted({saying.labeler for saying in sayings}):
        own = [saying for saying in sayings if saying.labeler == who]
        chosen.shuffle(own)
        parts += [own[start : start + BATCH] for start in range(0, len(own), BATCH)]
    return [(part, number) for number, part in enumerate(parts)]


def batch_body(sayings: list[Saying]) -> dict[str, Any]:
    """The body of ``POST .../answers``."""
    return {
        "answers": [
            {"task": each.task, "key": each.key, "deleted": True}
            if each.deleted
            else {"task": each.task, "key": each.key, "revision": each.revision, "value": each.value}
            for each in sayings
        ]
    }


def standard_body(saying: Saying) -> dict[str, Any]:
    """A message by our own convention."""
    item: dict[str, Any] = {"task": saying.task, "labeler": saying.labeler.rpartition("/")[2], "key": saying.key}
    item |= {"deleted": True} if saying.deleted else {"revision": saying.revision, "value": saying.value}
    return answers(item)


def label_studio_body(saying: Saying) -> dict[str, Any]:
    """A message as Label Studio sends it."""
    if saying.deleted:
        body = payload("ANNOTATIONS_DELETED")
        return {**body, "annotations": [{"id": int(saying.key)}]}
    body = payload("ANNOTATION_CREATED")
    body["annotation"] |= {"id": int(saying.key), "updated_at": saying.revision, "completed_by": int(saying.labeler.rpartition("/")[2])}
    body["annotation"]["result"][0]["value"]["choices"] = [saying.value]
    body["task"]["meta"] = {**(body["task"].get("meta") or {}), "task_key": saying.task}
    return body
