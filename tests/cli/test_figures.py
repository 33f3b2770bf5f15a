"""A snapshot's figures as people read them."""

from __future__ import annotations

from perdure.cli.figures import measured, told
from perdure.labeling.statistics import Tally


def line(n: int, shown: bool) -> dict[str, object]:
    value = "ham" if n % 2 else "spam"
    said = [{"labeler": who, "value": value if n % 5 or who == "ada" else "ham", "shown": shown} for who in ("ada", "bob")]
    return {"label": value, "method": "majority/1", "opinions": said, "prediction": {"label": value}}


def test_every_figure_has_its_line() -> None:
    tally = Tally()
    for n in range(40):
        tally.add(line(n, shown=n < 20))
    tally.add({"label": "ham", "method": "model/1", "opinions": [{"labeler": "model:3", "value": "ham", "shown": None}]})
    lines = told(tally.figures())
    assert lines["agreement"] is not None
    assert lines["agreement"].startswith("90.0% of 40 pairs; alpha 0.8")
    assert lines["classes"] == "ham: 21 tasks, 90.9% agreement, spam: 20 tasks, 88.9% agreement"
    assert lines["anchoring"] is not None
    assert lines["anchoring"].startswith("people agree with the prediction: shown 95.0% of 40")
    assert "difference 0.000 (-" in lines["anchoring"]
    assert lines["model"] == "1 tasks by a model; no audits"


def test_nothing_is_told_of_what_is_not_known() -> None:
    assert set(told(Tally().figures()).values()) == {None}
    assert measured(None) is None


def test_what_rules_have_measured() -> None:
    assert measured({"labels": 12, "hours": 1.25, "again": "2026-01-01"}) == "12 labels, 1.2 hours"
    assert measured({"alpha": {"tasks": 30}}) == "30 tasks to compare"
    assert measured({"alpha": {"tasks": 30, "value": 0.8, "low": 0.7, "high": 0.9}}) == "alpha 0.800 (0.700 to 0.900)"
