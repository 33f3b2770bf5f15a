"""Votes on pairs become wins, losses and ties of the challenger, whichever side it stood on, and a rate with its interval."""

from __future__ import annotations

import pytest

from perdure.labeling.pairwise import Preference, bound, count
from perdure.messages.common import Json


def line(key: str, label: str, *opinions: str) -> Json:
    return {"key": key, "label": label, "opinions": [{"value": value} for value in opinions or (label,)]}


def test_who_won() -> None:
    sides = {"a": "left", "b": "right", "c": "left", "d": "right", "e": "left"}
    lines = [line("a", "left"), line("b", "left"), line("c", "tie"), line("d", "right")]
    said = count(lines, sides)
    assert (said.wins, said.losses, said.ties, said.decided, said.asked) == (2, 1, 1, 4, 5)
    assert said.win_rate == 0.625  # a tie counts half
    assert said.agreement is None  # nobody was asked twice
    assert Preference(**said.as_json()) == said


def test_a_task_of_somebody_else_does_not_count() -> None:
    said = count([line("a", "left"), line("stranger", "left")], {"a": "left"})
    assert (said.wins, said.decided, said.asked) == (1, 1, 1)


def test_nothing_decided() -> None:
    said = count([], {"a": "left", "b": "right"})
    assert (said.decided, said.win_rate, said.low, said.high) == (0, None, None, None)


def test_raw_agreement_is_that_of_opinions() -> None:
    lines = [line("a", "left", "left", "left", "right"), line("b", "tie", "tie", "tie")]
    said = count(lines, {"a": "left", "b": "left"})
    assert said.agreement == 0.5  # 1 of 3 pairs, and 1 of 1


@pytest.mark.parametrize(
    ("wins", "decided", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (15, 50, 0.1910, 0.4375)],  # R: prop.test(correct = FALSE)
)
def test_the_interval_is_wilsons(wins: int, decided: int, low: float, high: float) -> None:
    sides = {str(n): "left" for n in range(decided)}
    said = count([line(key, "left" if int(key) < wins else "right") for key in sides], sides)
    assert (said.low, said.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_bound_rises_with_pairs_and_falls_with_confidence() -> None:
    assert bound(0.6, 50, 0.9) < bound(0.6, 500, 0.9) < 0.6
    assert bound(0.6, 50, 0.99) < bound(0.6, 50, 0.9)
    assert bound(0.0, 5, 0.9) == 0.0
