"""Stages of a rollout in the specification."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure.messages.common import Json
from perdure.messages.rollout import Stage, TrafficKind
from perdure.spec.mistakes import Mistake
from perdure.spec.pipeline import Pipeline, check, load

DATA: Json = {"source": {"uri": "x.tsv", "format": "tsv"}, "target": {"column": "y"}}


def promoted(**promote: Any) -> Pipeline | list[Mistake]:
    return check({"name": "m", "data": DATA, "promote": promote})


def test_stages_begin_with_a_standby() -> None:
    found = promoted(rollout=[{"shadow": "10m", "share": 20}, {"canary": 10}, {"canary": 50, "bake": "1h"}], standby="1m")
    assert isinstance(found, Pipeline)
    assert found.promote.stages == [
        Stage(kind=TrafficKind.STANDBY, share=0, lasts=timedelta(minutes=1)),
        Stage(kind=TrafficKind.SHADOW, share=20, lasts=timedelta(minutes=10)),
        Stage(kind=TrafficKind.CANARY, share=10, lasts=timedelta(minutes=10)),
        Stage(kind=TrafficKind.CANARY, share=50, lasts=timedelta(hours=1)),
    ]
    assert load(found.as_json()) == found


def test_without_a_rollout_there_are_no_stages() -> None:
    found = promoted()
    assert isinstance(found, Pipeline)
    assert found.promote.stages == []


@pytest.mark.parametrize(
    ("promote", "path", "told"),
    [
        ({"rollout": [{}]}, "promote.rollout[0]", "must name exactly one of shadow, canary, experiment"),
        ({"rollout": [{"shadow": "1m", "canary": 3}]}, "promote.rollout[0]", "must name exactly one of shadow, canary, experiment"),
        ({"rollout": [{"shadow": "1m", "bake": "3m"}]}, "promote.rollout[0].bake", "is a canary's"),
        ({"rollout": [{"canary": 5, "share": 3}]}, "promote.rollout[0].share", "is a shadow's"),
        ({"rollout": [{"canary": 0}]}, "promote.rollout[0].canary", "must be more than 0"),
        ({"probes": {"max_error_rate": 2}}, "promote.probes.max_error_rate", "must be at most 1"),
        ({"probes": {"too_few": "pass"}}, "promote.probes.too_few", "go_on"),
        ({"approval": {"remind": "10s"}}, "promote.approval.remind", "must be 60s or more"),
    ],
)
def test_a_mistake_is_told_once(promote: Json, path: str, told: str) -> None:
    found = promoted(**promote)
    assert isinstance(found, list)
    assert [mistake.path for mistake in found] == [path]
    assert told in found[0].text
