"""Experiments in the specification: what is accepted, and how mistakes are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure.messages.rollout import TrafficKind
from perdure.spec.experiment import Experiment
from perdure.spec.pipeline import check, load


def pipeline(experiment: Any, task: str = "classification") -> dict[str, Any]:
    source = {"uri": "x.csv", "format": "csv", "columns": ["sender", "text", "label"]}
    target = {"column": "label", "task": task}
    return {"name": "m", "data": {"source": source, "target": target}, "promote": {"rollout": [{"experiment": experiment}]}}


def test_an_experiment_is_a_stage_that_lasts_as_long_as_it_may() -> None:
    spec = load(pipeline({"metric": "accuracy", "share": 20, "max_duration": "7d", "unit": "sender"}))
    [_, stage] = spec.promote.stages
    assert (stage.kind, stage.share, stage.lasts) == (TrafficKind.ARM, 20, timedelta(days=7))
    assert Experiment.model_validate(stage.settings) == spec.promote.rollout[0].experiment
    assert load(spec.as_json()) == spec


@pytest.mark.parametrize(
    ("experiment", "task", "told"),
    [
        ({}, "classification", ["metric: missing"]),
        ({"metric": "reward", "share": 100}, "classification", ["share: must be at most 99, not 100"]),
        ({"metric": "reward", "min_units": 10}, "classification", ["min_units: must be at least 100, not 10"]),
        ({"metric": "reward", "peek": "2d", "max_duration": "1d"}, "classification", ["must not be shorter than `peek`"]),
        ({"metric": "reward", "peek": "1m"}, "classification", ["would be more than 1,000 looks until `max_duration`"]),
        ({"metric": "reward", "peek": 0}, "classification", ["peek: must be at least 1s"]),
        ({"metric": "accuracy", "min_effect": 2}, "classification", ["min_effect: must be less than 1: accuracy is a share"]),
        ({"metric": "accuracy"}, "regression", ["metric: accuracy is for a classification", "use `error` or `reward`"]),
        ({"metric": "error"}, "classification", ["metric: error is for a regression", "use `accuracy` or `reward`"]),
        ({"metric": "reward", "unit": "label"}, "classification", ['unit: "label" is the target, which requests do not have']),
        ({"metric": "reward", "unit": "sendr"}, "classification", ['unit: "sendr" is not in data.source.columns; did you mean sender?']),
        ({"metric": "reward", "alpha": 0.5}, "classification", ["alpha: must be at most 0.2, not 0.5"]),
        ({"metric": "reward", "patience": 1}, "classification", ["patience: unknown field"]),
    ],
)
def test_mistakes_say_what_is_wrong(experiment: Any, task: str, told: list[str]) -> None:
    found = check(pipeline(experiment, task))
    assert isinstance(found, list), "it was accepted"
    [mistake] = [str(each) for each in found]
    assert mistake.startswith("promote.rollout[0].experiment")
    for words in told:
        assert words in mistake
