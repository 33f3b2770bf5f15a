"""Which pipeline, which parameters, which key."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from perdure.cli.starting import cutoff, is_file, new_key, parameters, step, workflow_id
from perdure.errors import InvalidInput
from perdure.messages.pipeline import StepKind


def test_parameters_are_read_as_in_a_specification() -> None:
    given = ["rounds=200", "eta=1e-1", "booster=dart", "monotone=[1, 0]", "name=no", "text='7'", "off=", "x=a=b", "deep={a: {b: true}}"]
    assert parameters(given) == {
        "rounds": 200,
        "eta": 0.1,
        "booster": "dart",
        "monotone": [1, 0],
        "name": "no",
        "text": "7",
        "off": None,
        "x": "a=b",
        "deep": {"a": {"b": True}},
    }


@pytest.mark.parametrize("pairs", [["rounds"], ["=1"], ["a=1", "a=1"], ["a=[1"], ["a=!!python/none x"]])
def test_parameters_that_are_none(pairs: list[str]) -> None:
    with pytest.raises(InvalidInput):
        parameters(pairs)


def test_keys_sort_by_time_and_differ() -> None:
    now = datetime(2026, 11, 22, 16, 5, 12, tzinfo=UTC)
    keys = {new_key(now) for _ in range(50)}
    assert len(keys) > 45
    assert all(key.startswith("20261122-160512-") for key in keys)
    assert workflow_id("m", new_key()).startswith("run/m/2")


@pytest.mark.parametrize("key", ["", "a b", "a/b", "x" * 201, "a\n"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(InvalidInput):
        workflow_id("m", key)


@pytest.mark.parametrize(
    ("name", "file"),
    [("moderation", False), ("m.yaml", True), ("m.json", True), (".", True), ("a/b", True), ("./m", True), ("m.txt", False)],
)
def test_names_and_files(name: str, file: bool) -> None:
    assert is_file(name) is file


def test_steps() -> None:
    assert step("train") is StepKind.TRAIN
    assert step(None) is None
    with pytest.raises(InvalidInput, match="one of prepare, train, evaluate, label, promote"):
        step("fit")


def test_a_cut_off_is_in_utc_unless_it_says_another_zone() -> None:
    assert cutoff("2026-10-01") == datetime(2026, 10, 1, tzinfo=UTC)
    assert cutoff("2026-10-01T02:00:00+02:00") == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["October", "0001-01-01T00:00:00+10:00", "9999-12-31T23:00:00-10:00"])
def test_what_is_no_cut_off(text: str) -> None:
    with pytest.raises(InvalidInput, match="no time") as refused:
        cutoff(text)
    assert refused.value.field == "--cutoff"
