"""A line of a manifest is a task, or an error that names the line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.errors import InvalidInput
from perdure.labeling import manifest
from perdure.labeling.manifest import LONGEST
from perdure.labeling.spec import Campaign, load

SPEC: Campaign = load({"question": "Is it spam?", "choices": ["ham", "spam"]})


def line(**task: Any) -> bytes:
    return json.dumps({"key": "k", "payload": {"text": "x"}} | task).encode() + b"\n"


def test_every_field() -> None:
    task = manifest.task(line(priority=2, gold="ham", prediction={"label": "spam"}), 1, SPEC)
    assert (task.key, task.payload, task.priority, task.gold, task.prediction) == ("k", {"text": "x"}, 2.0, "ham", {"label": "spam"})
    assert manifest.task(line(payload={"text": "\U0001f600"}), 1, SPEC).payload == {"text": "\U0001f600"}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"eggs\n", "is no JSON"),
        (b"[1]\n", "is no JSON object"),
        (b'{"key": "k", "payload": {"x": NaN}}\n', "NaN is no number"),
        (b'{"key": "k", "payload": {"x": "\\ud800"}}\n', "is no UTF-8 text"),
        (b'{"key": "\xff", "payload": {}}\n', "is no UTF-8 text"),
        (b'{"key": "k", "payload": {"x": ' + b"[" * 100_000 + b"\n", "is nested too deeply"),
        (b" " * (LONGEST + 2), "is longer than"),
        (line(key=""), "needs a `key`"),
        (line(key=7), "needs a `key`"),
        (line(key="a\x00b"), "needs a `key`"),
        (line(key="k" * 501), "needs a `key`"),
        (line(payload="text"), "needs a `payload`"),
        (line(priority="high"), "has a `priority`"),
        (line(priority=True), "has a `priority`"),
        (b'{"key": "k", "payload": {}, "priority": 1e999}\n', "has a `priority`"),
        (b'{"key": "k", "payload": {}, "priority": 1' + b"0" * 400 + b"}\n", "has a `priority`"),
        (b'{"key": "k\xed\xa0\x80", "payload": {}}\n', "is no UTF-8 text"),
        (line(key="a\tb"), "needs a `key`"),
        (line(gold="eggs"), "has a `gold` that is no answer: the answer must be one of: ham, spam"),
        (line(prediction="spam"), "has a `prediction`"),
        (line(prioritty=1), "has unknown fields: prioritty"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(raw: bytes, told: str) -> None:
    with pytest.raises(InvalidInput) as failed:
        manifest.task(raw, 12_345, SPEC)
    assert failed.value.problem.startswith(f"line 12,345 {told}" if not told.startswith("NaN") else "line 12,345 is no JSON: NaN")
    assert (failed.value.field, bool(failed.value.remedy)) == ("tasks", True)
