"""Gates judge figures; every verdict says why in words that need no figures beside them."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.gates import judge, preferred, unasked
from perdure.labeling.pairwise import Preference, count
from perdure.spec.human import Human
from perdure.spec.pipeline import Gate


def figures(ours: dict[str, float | None], theirs: dict[str, float | None] | None = None, **champion: Any) -> dict[str, Any]:
    slices = {"size": {"0": {"rows": 40, "metrics": {"f1": 0.9}}, "1": {"rows": 30, "metrics": {"f1": 0.7}}}}
    return {
        "rows": 100,
        "challenger": {"metrics": ours, "slices": slices, "notes": {name: "one class only" for name in ours if ours[name] is None}},
        "champion": {"metrics": theirs or {}, "slices": {"size": {"0": {"rows": 40, "metrics": {"f1": 0.8}}}}, **champion}
        if theirs is not None or champion
        else None,
    }


@pytest.mark.parametrize(
    ("gate", "value", "passed", "reason"),
    [
        ({"min": 0.95}, 0.981, True, "roc_auc 0.981 ≥ 0.95"),
        ({"min": 0.95}, 0.95, True, "roc_auc 0.95 ≥ 0.95"),
        ({"min": 0.95}, 0.949999, False, "roc_auc 0.949999 < 0.95"),
        ({"max": 0.1}, 0.05, True, "roc_auc 0.05 ≤ 0.1"),
        ({"max": 0.1}, 0.2, False, "roc_auc 0.2 > 0.1"),
        ({"min": 0.5}, None, False, "roc_auc cannot be judged: one class only"),
    ],
)
def test_bounds(gate: dict[str, Any], value: float | None, passed: bool, reason: str) -> None:
    (verdict,) = judge([Gate(metric="roc_auc", **gate)], figures({"roc_auc": value}), champion_number=None)
    assert (verdict.passed, verdict.reason, verdict.value) == (passed, reason, value)
    assert verdict.gate == {"metric": "roc_auc", **gate}


@pytest.mark.parametrize(
    ("gate", "ours", "theirs", "passed", "reason"),
    [
        ({"min_change": -0.002}, 0.95, 0.954, False, "f1 fell by 0.004 against version 3, it may fall by 0.002 at most"),
        ({"min_change": -0.002}, 0.953, 0.954, True, "f1 fell by 0.001 against version 3, it may fall by 0.002 at most"),
        ({"min_change": -0.002}, 0.954, 0.954, True, "f1 did not change against version 3, it may fall by 0.002 at most"),
        ({"min_change": -0.002}, 0.948, 0.95, True, "f1 fell by 0.002 against version 3, it may fall by 0.002 at most"),
        ({"min_change": 0.01}, 0.955, 0.954, False, "f1 rose by 0.001 against version 3, it must rise by 0.01 at least"),
        ({"max_change": 0.01}, 0.5, 0.48, False, "f1 rose by 0.02 against version 3, it may rise by 0.01 at most"),
        ({"max_change": -0.01}, 0.46, 0.48, True, "f1 fell by 0.02 against version 3, it must fall by 0.01 at least"),
        ({"min_change": 0}, 0.4, 0.5, False, "f1 fell by 0.1 against version 3, it may not fall"),
        ({"max_change": 0}, 0.6, 0.5, False, "f1 rose by 0.1 against version 3, it may not rise"),
    ],
)
def test_changes(gate: dict[str, Any], ours: float, theirs: float, passed: bool, reason: str) -> None:
    made = figures({"f1": ours}, {"f1": theirs})
    (verdict,) = judge([Gate(metric="f1", versus="champion", **gate)], made, champion_number=3)
    assert (verdict.passed, verdict.reason, verdict.champion_value) == (passed, reason, theirs)


CHANGE = Gate(metric="f1", min_change=-0.1, versus="champion")


def test_the_first_version_has_nobody_to_compare_with() -> None:
    (verdict,) = judge([CHANGE], figures({"f1": 0.9}), champion_number=None)
    assert verdict.passed
    assert verdict.reason == "f1 0.9: there is no champion to compare with"


def test_a_champion_that_cannot_score_is_no_reason_to_pass() -> None:
    (verdict,) = judge([CHANGE], figures({"f1": 0.9}, {}, error="missing columns: y"), champion_number=2)
    assert not verdict.passed
    assert verdict.reason == "f1 cannot be compared: version 2 cannot score these rows: missing columns: y"


def test_every_slice_is_judged() -> None:
    verdicts = judge([Gate(metric="f1", min=0.8, slice="size")], figures({"f1": 0.9}), champion_number=None)
    assert [(v.slice, v.passed, v.reason) for v in verdicts] == [
        ("size=0", True, "f1 where size=0 0.9 ≥ 0.8"),
        ("size=1", False, "f1 where size=1 0.7 < 0.8"),
    ]
    verdicts = judge([Gate(metric="f1", min_change=0, versus="champion", slice="size")], figures({}, {"f1": 1.0}), champion_number=4)
    assert [(v.slice, v.passed) for v in verdicts] == [("size=0", True), ("size=1", True)]
    assert verdicts[1].reason == "f1 where size=1 of version 4 cannot be judged"


def test_no_slice_with_enough_rows() -> None:
    made = figures({"f1": 0.9})
    made["challenger"]["slices"] = {"size": {}}
    (verdict,) = judge([Gate(metric="f1", min=0.8, slice="size")], made, champion_number=None)
    assert verdict.passed
    assert verdict.reason == "no slice of size has enough rows to be judged"


def test_no_gates_no_verdicts() -> None:
    assert judge([], figures({"f1": 0.1}), champion_number=None) == []


def people(**changed: Any) -> Human:
    return Human(min_win_rate=0.5).model_copy(update=changed)


def said(wins: int, losses: int, ties: int = 0, asked: int | None = None) -> Preference:
    labels = ["left"] * wins + ["right"] * losses + ["tie"] * ties
    total = len(labels) if asked is None else asked
    return count(
        [{"key": str(n), "label": label, "opinions": []} for n, label in enumerate(labels)], {str(n): "left" for n in range(total)}
    )


@pytest.mark.parametrize(
    ("changed", "votes", "passed", "reason"),
    [
        (
            {},
            said(30, 12, 8),
            True,
            "people preferred it to version 3 in 30 of 50 pairs, with 8 ties: win rate 0.68 ≥ 0.5; 95% interval 0.54 to 0.79",
        ),
        (
            {},
            said(2, 6, 0, asked=10),
            False,
            "people preferred it to version 3 in 2 of 8 pairs, with 0 ties (10 were asked about: the deadline is over): "
            "win rate 0.25 < 0.5; 95% interval 0.07 to 0.59",
        ),
        ({"min_win_rate": 0.55}, said(10, 10), False, "win rate 0.5 < 0.55"),
        ({}, said(0, 0, 4), True, "in 0 of 4 pairs, with 4 ties: win rate 0.5 ≥ 0.5"),
        ({"confidence": 0.9}, said(27, 23), False, "win rate 0.54, with 90% confidence at least 0.4498 < 0.5"),
        ({"confidence": 0.9}, said(33, 17), True, "win rate 0.66, with 90% confidence at least 0.5703 ≥ 0.5"),
    ],
)
def test_what_people_prefer(changed: Any, votes: Preference, passed: bool, reason: str) -> None:
    verdict = preferred(people(**changed), votes, champion_number=3, ended="the deadline is over")
    assert reason in verdict.reason
    assert (verdict.passed, verdict.value) == (passed, votes.win_rate)
    assert verdict.gate == {"rubric": "pairwise", "sample": 50, "min_win_rate": 0.5, **changed}


def test_people_who_disagree_are_told_of() -> None:
    opinions = [{"value": "left"}, {"value": "left"}, {"value": "tie"}]
    votes = count([{"key": "a", "label": "left", "opinions": opinions}], {"a": "left"})
    verdict = preferred(people(), votes, champion_number=3, ended="every task has its label")
    assert verdict.reason.endswith("; 95% interval 0.21 to 1.00, raw agreement 0.33")


def test_nothing_decided_is_no_reason_to_pass() -> None:
    verdict = preferred(people(min_win_rate=0.0), said(0, 0, asked=50), champion_number=3, ended="the deadline is over")
    assert not verdict.passed
    assert verdict.reason.startswith("people decided none of 50 pairs: the deadline is over; for another try set a later")


def test_when_people_need_not_be_asked() -> None:
    asked = {"pairs": {"asked": 50}}
    failed = judge([Gate(metric="f1", min=0.95)], figures({"f1": 0.9}), champion_number=None)
    first = unasked(people(), figures({"f1": 0.9}), [], champion_number=None)
    assert first is not None
    assert (first.passed, first.reason) == (True, "people are not asked: there is no champion to compare with")
    other = unasked(people(), figures({"f1": 0.9}, {"f1": 0.8}) | asked, failed, champion_number=2)
    assert other is not None
    assert (other.passed, other.reason) == (False, "people are not asked: another gate failed")
    broken = unasked(people(), figures({"f1": 0.9}, {}, error="missing columns: y") | {"pairs": None}, [], champion_number=2)
    assert broken is not None
    assert (broken.passed, broken.reason) == (False, "people cannot compare: version 2 cannot score these rows: missing columns: y")
    assert unasked(people(), figures({"f1": 0.9}, {"f1": 0.8}) | asked, [], champion_number=2) is None


@pytest.mark.parametrize(("least", "passed"), [(0.5, True), (0.6, False)])
def test_models_that_answer_alike_are_a_tie(least: float, passed: bool) -> None:
    made = figures({"f1": 0.9}, {"f1": 0.9}) | {"pairs": {"asked": 0}}
    verdict = unasked(people(min_win_rate=least), made, [], champion_number=2)
    assert verdict is not None
    assert (verdict.passed, verdict.value) == (passed, 0.5)
    assert "the answers of version 2 are the same on all 100 rows" in verdict.reason
