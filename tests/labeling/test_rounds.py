"""When a run asks people again, and why it does not."""

from __future__ import annotations

from typing import Any

from perdure.labeling.rounds import confident, enough
from perdure.messages.selection import RoundDone
from perdure.spec.label import Label


def label(**given: Any) -> Label:
    return Label(**{"question": "?", "rounds": 2, **given})


def rounds(*made: tuple[int, float], metric: str = "roc_auc") -> list[RoundDone]:
    return [
        RoundDone(round=n, rows=500 + labeled, labeled=labeled, version=n + 1, metrics={metric: score})
        for n, (labeled, score) in enumerate(made)
    ]


def test_rounds_are_bounded_and_a_pool_is_finite() -> None:
    assert enough(label(), "roc_auc", rounds((0, 0.9)), 100) == ""
    assert enough(label(), "roc_auc", rounds((0, 0.9), (100, 0.8)), 100) == "", "without a bound, a worse round is no reason"
    assert enough(label(), "roc_auc", rounds((0, 0.9), (100, 0.8), (200, 0.7)), 100) == "2 rounds of questions are the most"
    assert enough(label(rounds=1), "roc_auc", rounds((0, 0.9), (100, 0.8)), 100) == "1 round of questions is the most"
    assert enough(label(), "roc_auc", rounds((0, 0.9)), 0) == "every row has a label"


def test_what_gains_too_little_is_not_asked_again() -> None:
    bound = label(rounds=9, min_gain=0.01)
    assert enough(bound, "roc_auc", rounds((0, 0.9)), 100) == ""
    assert enough(bound, "roc_auc", rounds((0, 0.9), (200, 0.93)), 100) == ""
    told = "roc_auc went from 0.9000 to 0.9100 with 200 more labels, which gains too little"
    assert enough(bound, "roc_auc", rounds((0, 0.9), (200, 0.91)), 100) == told
    assert enough(bound, "log_loss", rounds((0, 0.3), (100, 0.2), metric="log_loss"), 100) == "", "less is better"
    assert enough(bound, "log_loss", rounds((0, 0.2), (100, 0.3), metric="log_loss"), 100).startswith("log_loss went from 0.2000 to 0.3000")


def test_a_model_that_is_sure_asks_nobody() -> None:
    assert confident(label(), {"confident": 1.0}) == ""
    sure = label(when={"confident_below": 0.95})
    assert confident(sure, {"confident": 0.949}) == ""
    assert confident(sure, {"confident": 0.95}) == "the model is confident about 95.0% of the pool; people are asked below 95.0%"
