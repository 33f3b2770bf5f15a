"""What a campaign's specification refuses."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.errors import InvalidInput
from perdure.labeling.spec import Method, load

SPEC: dict[str, Any] = {"question": "Is it spam?", "choices": ["ham", "spam"]}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"choices": [], "consensus": "dawid_skene"}, "needs choices"),
        ({"choices": [], "model": {"accept_above": 0.9}}, "needs choices"),
        ({"model": {"accept_above": 1.2}}, "model.accept_above"),
        ({"consensus": "loudest"}, "consensus"),
        ({"budget": {}}, "`labels` or `hours`"),
        ({"budget": {"hours": 0}}, "budget.hours"),
        ({"standing": True, "budget": {"labels": 5}}, "a standing campaign"),
        ({"stop": {"alpha": 0.8}}, "overlap.labels"),
        ({"stop": {"alpha": 1.8}, "overlap": {"labels": 2}}, "stop.alpha"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        load(SPEC | changed)


def test_votes_are_weighed_unless_said_otherwise() -> None:
    assert load(SPEC).consensus is Method.WEIGHTED
