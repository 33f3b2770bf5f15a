"""The figures of a snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.labeling.agreement import Level
from perdure.labeling.statistics import CLASSES, Tally, difference, share


def line(label: Any, method: str = "majority/1", shown: bool | None = None, **opinions: Any) -> dict[str, Any]:
    said = [{"labeler": who, "value": value, "shown": shown} for who, value in opinions.items()]
    return {"label": label, "method": method, "opinions": said}


def tallied(*lines: dict[str, Any], level: Level = Level.NOMINAL) -> dict[str, Any]:
    tally = Tally(level)
    for each in lines:
        tally.add(each)
    return tally.figures()


def test_agreement_is_the_share_of_agreeing_pairs() -> None:
    figures = tallied(line("ham", ada="ham"), line("ham", ada="ham", bob="ham", eve="spam"), line("spam", ada="spam", bob="spam"))
    assert (figures["tasks"], figures["opinions"], figures["pairs"], figures["agreement"]) == (3, 6, 4, 0.5)
    assert figures["labels"] == {"ham": 2, "spam": 1}
    assert figures["labelers"] == {"ada": 3, "bob": 2, "eve": 1}
    assert figures["alpha"]["tasks"] == 2
    assert figures["classes"] == {
        "ham": {"tasks": 2, "opinions": 3, "agreement": 0.5},  # of four ordered pairs with a ham in front, two agree
        "spam": {"tasks": 1, "opinions": 3, "agreement": 0.5},
    }


def test_a_number_is_the_same_however_it_is_written() -> None:
    figures = tallied(line(12.0, ada=12, bob=12.0, eve=13), level=Level.INTERVAL)
    assert (figures["pairs"], figures["agreement"]) == (3, pytest.approx(1 / 3))
    assert figures["accuracy"] == {who: {"checked": 1, "agreed": agreed} for who, agreed in (("ada", 1), ("bob", 1), ("eve", 0))}


def test_a_prediction_without_a_label_anchors_nobody() -> None:
    assert tallied({**line("ham", shown=True, ada="ham"), "prediction": {"score": 0.5}})["anchoring"] is None


def test_who_was_alone_is_not_checked_by_the_decision() -> None:
    figures = tallied(
        line("ham", ada="ham"),
        line("ham", ada="ham", eve="spam", bob="ham"),
        line("spam", method="adjudicated", ada="ham"),
    )
    assert figures["accuracy"] == {
        "ada": {"checked": 2, "agreed": 1},
        "bob": {"checked": 1, "agreed": 1},
        "eve": {"checked": 1, "agreed": 0},
    }


def test_nobody_was_asked_twice_or_for_numbers() -> None:
    figures = tallied(line(4.5, ada=4.5), level=Level.INTERVAL)
    assert (figures["agreement"], figures["pairs"], figures["labels"], figures["classes"]) == (None, 0, {}, {})
    assert figures["alpha"] == {"value": None, "low": None, "high": None, "tasks": 0, "level": "interval"}


def test_very_many_labels_are_counted_up_to_a_limit() -> None:
    figures = tallied(*(line(f"l{n}", ada=f"l{n}", bob=f"l{n}") for n in range(2 * CLASSES)))
    assert len(figures["labels"]) == len(figures["classes"]) == CLASSES


def test_what_was_shown_draws_people() -> None:
    guess = {"prediction": {"label": "spam", "score": 0.7}}
    seen = [line("spam", shown=True, ada="spam") | guess for _ in range(90)] + [line("ham", shown=True, ada="ham") | guess] * 10
    blind = [line("spam", shown=False, ada="spam") | guess for _ in range(60)] + [line("ham", shown=False, ada="ham") | guess] * 40
    unknown = [line("spam", ada="spam") | guess, line("spam", shown=False, ada="spam")]
    audited = [line("spam", shown=False, ada="spam") | guess | {"audit": True}] * 50
    figures = tallied(*seen, *blind, *unknown, *audited)
    assert (figures["anchoring"]["shown"]["of"], figures["anchoring"]["hidden"]["of"]) == (100, 100)
    assert figures["anchoring"]["difference"]["value"] == pytest.approx(0.3)
    assert 0 < figures["anchoring"]["difference"]["low"] < 0.3 < figures["anchoring"]["difference"]["high"] < 0.5
    assert figures["model"]["audit"]["share"] == 1
    assert tallied(*unknown)["anchoring"] is None


def test_published_intervals() -> None:
    """Newcombe (1998): 81 of 263 by the score method; 56/70 less 48/80 by method 10."""
    found = share(81, 263)
    assert (found["low"], found["high"]) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    gap = difference([56, 70], [48, 80])
    assert gap is not None
    assert (gap["low"], gap["high"]) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    assert difference([0, 0], [1, 2]) is None
