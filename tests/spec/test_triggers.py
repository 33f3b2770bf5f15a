"""Triggers and the policy about retraining, as they are written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.errors import InvalidInput
from perdure.messages.retraining import DriftKind, Outcome, TriggerKind
from perdure.spec.cron import wrong_cron
from perdure.spec.pipeline import load, with_cutoff
from tests.spec.test_pipeline import SMALL, changed, mistakes


def with_triggers(*triggers: dict[str, Any]) -> dict[str, Any]:
    return changed("triggers", list(triggers))


def test_each_kind_of_trigger_reads_back() -> None:
    spec = load(
        with_triggers(
            {"schedule": "0 3 * * 1", "timezone": "Europe/Berlin", "jitter": "10m", "overlap": "wait"},
            {"data": "new", "every": "10m"},
            {"labels": 200},
            {"dataset": "messages"},
        )
    )
    assert [trigger.kind for trigger in spec.triggers] == [
        TriggerKind.SCHEDULE,
        TriggerKind.DATA,
        TriggerKind.LABELS,
        TriggerKind.DATASET,
    ]
    assert load(spec.as_json()) == spec


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        ({}, "there is none"),
        ({"data": "new", "labels": 3}, "not data and labels"),
        ({"labels": 200, "jitter": "1m"}, "jitter: belongs to schedule"),
        ({"schedule": "@daily", "every": "1m"}, "every: belongs to data"),
        ({"schedule": "@daily", "timezone": "Mars"}, "no time zone 'Mars'"),
        ({"schedule": "every monday"}, "has 2 fields, not 5"),
        ({"data": "new", "every": "1s"}, "at least 10s"),
        ({"dataset": SMALL["name"]}, "is this pipeline itself"),
        ({"lables": 3}, "did you mean triggers[0].labels?"),
    ],
)
def test_mistakes_in_a_trigger_are_told(trigger: dict[str, Any], told: str) -> None:
    assert any(told in each for each in mistakes(with_triggers(trigger))), mistakes(with_triggers(trigger))


@pytest.mark.parametrize("cron", ["0 3 * * 1", "*/15 8-18 * * mon-fri", "5,35 0 1 jan,jul *", "@weekly", "0 0 * * 7"])
def test_cron_that_is_right(cron: str) -> None:
    assert wrong_cron(cron) is None


@pytest.mark.parametrize(
    "cron", ["60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "1-2-3 * * * *", ""]
)
def test_cron_that_is_wrong(cron: str) -> None:
    assert wrong_cron(cron)


def test_monitors_observe_until_somebody_says_what_drift_leads_to() -> None:
    assert load(changed("monitor", {})).policy.observes
    acting = load(changed("monitor", {"act": {"quality": "train"}})).policy
    assert not acting.observes
    assert acting.outcome(DriftKind.QUALITY) is Outcome.TRAIN
    assert acting.outcome(DriftKind.DATA) is Outcome.LABEL
    assert load(changed("monitor", {"act": {"data": "nothing"}, "observe": True})).policy.observes


def test_what_opens_an_episode_does_not_end_it() -> None:
    assert any("at most enter (0.2)" in each for each in mistakes(changed("monitor", {"enter": 0.2, "exit": 0.5})))


def test_a_cutoff_needs_a_time() -> None:
    cutoff = datetime(2011, 1, 1, tzinfo=UTC)
    by_time = load(changed("data.split", {"by": "time", "column": "at"}))
    assert with_cutoff(by_time, cutoff).data.until == cutoff
    assert with_cutoff(by_time, None) is by_time
    with pytest.raises(InvalidInput, match="split by time"):
        with_cutoff(load(SMALL), cutoff)
