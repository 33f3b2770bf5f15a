"""The label of a task from its opinions."""

from __future__ import annotations

import pytest

from perdure.labeling.consensus import Opinion, Verdict, decide
from perdure.labeling.spec import Method, Overlap

OVERLAP = Overlap(labels=2, most=4, agreement=0.7)


def said(*values: object, right: int = 0, wrong: int = 0) -> list[Opinion]:
    return [Opinion(value=value, labeler=f"l{n}", right=right, wrong=wrong) for n, value in enumerate(values)]


def test_posterior_of_the_one_coin_model() -> None:
    found = decide(said("spam"), ["ham", "spam"], Overlap())
    assert (found.verdict, found.label) == (Verdict.DECIDED, "spam")
    assert found.posterior == pytest.approx(0.8)  # one labeler of unknown accuracy
    assert decide(said("spam", "spam"), ["ham", "spam"], OVERLAP).posterior == pytest.approx(0.8**2 / (0.8**2 + 0.2**2))
    # over three choices an error falls on one of the two others
    assert decide(said("a"), ["a", "b", "c"], Overlap()).posterior == pytest.approx(0.8)


def test_disagreement_asks_for_another_opinion_and_then_for_a_judge() -> None:
    assert decide(said("ham", "spam"), ["ham", "spam"], OVERLAP).verdict is Verdict.MORE
    assert decide(said("ham", "spam", "spam"), ["ham", "spam"], OVERLAP).verdict is Verdict.DECIDED
    assert decide(said("ham", "spam", "spam", "ham"), ["ham", "spam"], OVERLAP).verdict is Verdict.DISPUTED


def test_who_was_right_before_weighs_more() -> None:
    good, bad = Opinion(value="ham", labeler="g", right=95, wrong=5), Opinion(value="spam", labeler="b", right=1, wrong=20)
    found = decide([good, bad], ["ham", "spam"], OVERLAP)
    assert (found.verdict, found.label) == (Verdict.DECIDED, "ham")
    assert decide([bad, good], ["ham", "spam"], OVERLAP) == found


def test_numbers_are_decided_by_their_median() -> None:
    assert decide(said(1, 100, 3), [], Overlap(labels=3)).label == 3
    assert decide(said(1, 3), [], Overlap(labels=2)).label == 2


def test_the_middle_of_very_large_numbers() -> None:
    assert decide(said(1.7e308, 1.6e308), [], Overlap(labels=2)).label == pytest.approx(1.65e308)
    assert decide(said(-1.7e308, 1.7e308), [], Overlap(labels=2)).label == 0
    assert decide(said(5e-324, 5e-324), [], Overlap(labels=2)).label == 5e-324


def test_a_majority_counts_heads() -> None:
    good, bad = Opinion(value="ham", labeler="g", right=95, wrong=5), Opinion(value="spam", labeler="b", right=1, wrong=20)
    third = Opinion(value="spam", labeler="c", right=1, wrong=20)
    found = decide([good, bad, third], ["ham", "spam"], Overlap(), Method.MAJORITY)
    assert (found.verdict, found.label, found.posterior) == (Verdict.DECIDED, "spam", pytest.approx(2 / 3))
    assert decide([good, bad, third], ["ham", "spam"], Overlap()).label == "ham"
    assert decide(said("ham"), ["ham", "spam"], Overlap(), Method.MAJORITY).posterior == 1
    assert decide(said("ham", "spam", "spam"), ["ham", "spam"], OVERLAP, Method.MAJORITY).verdict is Verdict.MORE  # two thirds of 0.7


@pytest.mark.parametrize(("most", "verdict"), [(3, Verdict.MORE), (2, Verdict.DISPUTED)])
def test_a_tie_is_no_majority(most: int, verdict: Verdict) -> None:
    overlap = Overlap(labels=2, most=most, agreement=0.5)
    assert decide(said("ham", "spam"), ["ham", "spam"], overlap, Method.MAJORITY).verdict is verdict


def test_the_weights_of_a_decision_give_its_posterior_again() -> None:
    good, bad = Opinion(value="ham", labeler="g", right=95, wrong=5), Opinion(value="spam", labeler="b", right=1, wrong=20)
    found = decide([good, bad], ["ham", "spam"], OVERLAP)
    odds = found.weights["g"] / (1 - found.weights["g"]) / (found.weights["b"] / (1 - found.weights["b"]))
    assert found.posterior == pytest.approx(odds / (1 + odds))
