"""How campaigns and tasks look in Label Studio."""

from __future__ import annotations

from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest

from perdure.errors import InvalidInput
from perdure.labeling.labelstudio import projects
from perdure.labeling.labelstudio.ports import Unsent
from perdure.labeling.spec import load
from perdure.messages.common import Json
from perdure.messages.labeling import Assist

CAMPAIGN = UUID(int=7)
ODD = 'Worth "$5" & <more>?'


def task(payload: Json, prediction: Json | None = None, number: int = 1, assisted: Assist | None = None) -> Unsent:
    return Unsent(id=UUID(int=number), key="k", payload=payload, overlap=1, prediction=prediction, assisted=assisted)


@pytest.mark.parametrize(
    ("shows", "choices", "payload", "data", "tag"),
    [
        ("text", ["a", ODD], {"text": "hello", "other": 1}, {"text": "hello"}, "Text"),
        ("image", ["a"], {"image": "https://example.com/1.jpg"}, {"image": "https://example.com/1.jpg"}, "Image"),
        ("row", ["a"], {"x": 1, "y": [1, "é"], "z": None}, {"row": {"x": 1, "y": '[1, "é"]', "z": "null"}}, "Table"),
        ("confirm", [], {"x": True}, {"row": {"x": True}}, "Table"),
        ("pair", ["left", "right", "tie"], {"left": "one", "right": {"n": 2}}, {"left": "one", "right": '{"n": 2}'}, "Text"),
    ],
)
def test_each_kind_of_task_is_shown(shows: str, choices: list[str], payload: Json, data: Json, tag: str) -> None:
    spec = load({"question": ODD, "shows": shows, "choices": choices})
    root = ElementTree.fromstring(projects.config(spec))
    header, control = root.find("Header"), root.find("Choices" if choices else "Number")
    shown = next(each for each in root.iter() if each.get("name") == "shown")
    assert header is not None
    assert control is not None
    assert (header.get("value"), shown.tag, control.get("name"), control.get("toName")) == (ODD, tag, "label", "shown")
    assert [each.get("value") for each in control] == choices
    line = projects.line(CAMPAIGN, task(payload), spec)
    assert line == {"data": data, "meta": {"task_key": "k", "perdure_campaign": str(CAMPAIGN)}}
    assert {str(each.get("value"))[1:] for each in root.iter() if each.get("value", "").startswith("$")} == set(data)


@pytest.mark.parametrize(
    ("shows", "payload", "field"),
    [("text", {"txt": "x"}, "text"), ("text", {"text": " "}, "text"), ("image", {"image": 3}, "image"), ("pair", {"left": "x"}, "right")],
)
def test_a_payload_that_cannot_be_shown(shows: str, payload: Json, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        projects.line(CAMPAIGN, task(payload), load({"question": "?", "shows": shows, "choices": ["left", "right"]}))
    assert refused.value.field == field


def test_predictions_are_sent_where_they_may_be_seen_and_are_answers() -> None:
    spec = load({"question": "?", "choices": ["a", "b"], "predictions": {"show": True, "blind": 0}})
    made = projects.line(CAMPAIGN, task({"text": "x"}, {"label": "b", "score": 0.75, "version": 3}), spec)["predictions"]
    result = [{"from_name": "label", "to_name": "shown", "type": "choices", "value": {"choices": ["b"]}}]
    assert made == [{"model_version": "3", "score": 0.75, "result": result}]
    for odd in ("high", 2, True):
        [kept] = projects.line(CAMPAIGN, task({"text": "x"}, {"label": "b", "score": odd}), spec)["predictions"]
        assert "score" not in kept
    for wrong in ({"label": "c"}, {"label": ["a"]}, {"label": 1}, {}, None):
        assert "predictions" not in projects.line(CAMPAIGN, task({"text": "x"}, wrong), spec)
    audited = task({"text": "x"}, {"label": "b", "score": 0.99}, assisted=Assist.AUDIT)
    assert "predictions" not in projects.line(CAMPAIGN, audited, spec)
    hidden = load({"question": "?", "choices": ["a", "b"]})
    assert "predictions" not in projects.line(CAMPAIGN, task({"text": "x"}, {"label": "b"}), hidden)
    number = load({"question": "?", "predictions": {"show": True, "blind": 0}})
    [rated] = projects.line(CAMPAIGN, task({"text": "x"}, {"label": 3.5}), number)["predictions"]
    assert (rated["result"][0]["type"], rated["result"][0]["value"]) == ("number", {"number": 3.5})


def test_the_blind_share_is_one_of_tasks_and_always_the_same() -> None:
    spec = load({"question": "?", "choices": ["a"], "predictions": {"show": True, "blind": 0.3}})

    def seen() -> list[bool]:
        lines = (projects.line(CAMPAIGN, task({"text": "x"}, {"label": "a"}, n), spec) for n in range(1_000))
        return ["predictions" in line for line in lines]

    assert seen() == seen()
    assert 640 < sum(seen()) < 760


@pytest.mark.parametrize(("name", "title"), [("a", "campaign a"), ("abc", "abc"), ("x" * 100, "x" * 50)])
def test_a_title_is_one_that_is_taken(name: str, title: str) -> None:
    assert projects.title(name) == title


@pytest.mark.parametrize(
    ("controls", "why"),
    [
        ({"label": {"type": "Choices", "to_name": ["shown"], "labels": ["a", "b", "c"]}}, None),
        ({"label": {"type": "Choices", "to_name": ["shown"], "labels": ["a"]}}, "lacks b"),
        ({"label": {"type": "Number", "to_name": ["shown"]}}, "is a Number"),
        ({"label": {"type": "Choices", "to_name": ["text"], "labels": ["a", "b"]}}, "no control"),
        ({}, "no control"),
    ],
)
def test_a_project_of_somebody_elses_must_fit(controls: Any, why: str | None) -> None:
    found = projects.misfit(controls, load({"question": "?", "choices": ["a", "b"]}))
    assert found is None if why is None else why in str(found)
