"""Predictions joined with what became known later: corrections, late arrivals, shadows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from perdure.jobs.joining import NUMBER, RAW, TRUTH, Coverage, coverage, days, errors, frame, joined, with_truth
from perdure.outcomes import Told
from perdure.predictions import new_request, prediction_id

START = datetime(2026, 11, 1, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOW = timedelta(hours=24)


def predicted(hours: float, version: int = 1, role: str = "release", request: str | None = None) -> dict[str, Any]:
    at = START + hours * HOUR
    id = prediction_id("m", version, request or new_request(at.timestamp()))
    return {"id": id, "time": at, "date": at.date(), "version": version, "role": role, "prediction": "a"}


def told(row: dict[str, Any], value: Any, *, received: float, observed: float | None = None, source: str = "app") -> dict[str, Any]:
    """*received* and *observed* are hours after the prediction."""
    at = {"received_at": row["time"] + received * HOUR, "observed_at": row["time"] + (received if observed is None else observed) * HOUR}
    return {"prediction_id": row["id"], "value": json.dumps(value), "source": source, **at}


def log_of(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema_overrides={"time": pl.Datetime("us", "UTC")})


def outcomes_of(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    moment = pl.Datetime("us", "UTC")
    return pl.LazyFrame(rows, schema_overrides={"observed_at": moment, "received_at": moment})


def truths(rows: list[dict[str, Any]], outcomes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    made = joined(log_of(rows), outcomes_of(outcomes), since=START, until=START + 48 * HOUR, window=WINDOW, **more)
    return {row["id"]: row for row in made.collect(engine="streaming").to_dicts()}


def test_the_last_correction_counts_whatever_the_order_of_arrival() -> None:
    one, two, three = predicted(0), predicted(1), predicted(3)  # the third is of the next day
    outcomes = [
        told(one, "b", received=2, observed=2),
        told(one, "a", received=3, observed=1),  # arrives later, but was observed before
        told(two, "a", received=1, observed=1),
        told(two, 'it said "b"', received=2, observed=1),  # of the same time: the one that came last
        told(three, 1.0, received=2),
    ]
    found = truths([one, two, three], outcomes)
    assert [found[each["id"]]["truth"] for each in (one, two, three)] == ["b", 'it said "b"', "1"]
    assert found[three["id"]]["truth.number"] == 1.0
    assert found[one["id"]]["truth.observed_at"] == one["time"] + 2 * HOUR
    assert truths([one], outcomes, sources=["other"])[one["id"]]["truth"] is None


def test_what_comes_after_the_window_changes_nothing() -> None:
    one, two, three = predicted(0), predicted(0.1), predicted(0.2)
    outcomes = [
        told(one, "a", received=23),
        told(one, "b", received=25, observed=24),  # a correction that is too late
        told(two, "b", received=25, observed=1),  # observed in time, but nobody knew
    ]
    found = truths([one, two, three], outcomes)
    assert [(found[each["id"]]["truth"], found[each["id"]]["late"]) for each in (one, two, three)] == [
        ("a", False),
        (None, True),
        (None, False),
    ]


def test_shares_of_what_matured() -> None:
    rows = [predicted(number / 10) for number in range(10)] + [predicted(30)]
    outcomes = [told(row, "a", received=2) for row in rows[:6]]
    outcomes.append(told(rows[6], "a", received=30))
    made = joined(log_of(rows), outcomes_of(outcomes), since=START, until=START + 48 * HOUR, window=WINDOW)
    figures = coverage(made, window=WINDOW, now=START + 32 * HOUR)
    assert figures == Coverage(predictions=11, matured=10, joined=6, late=1, missing=3)
    assert figures.waiting == 1
    assert figures.shares == {"joined": 0.6, "late": 0.1, "missing": 0.3}
    none = coverage(joined(log_of(rows), None, since=START, until=START + HOUR, window=WINDOW), window=WINDOW, now=START + 32 * HOUR)
    assert none == Coverage(predictions=10, matured=10, joined=0, late=0, missing=10)
    empty = coverage(joined(log_of(rows), None, since=START - HOUR, until=START, window=WINDOW), window=WINDOW, now=START)
    assert empty.shares == {"joined": 0.0, "late": 0.0, "missing": 0.0}


def test_a_shadow_gets_the_outcome_of_its_request() -> None:
    answered = predicted(0)
    shadow = predicted(0, version=2, role="shadow", request=answered["id"][-32:])
    outcomes = [told(answered, "b", received=1)]
    assert set(truths([answered, shadow], outcomes)) == {answered["id"]}
    assert truths([answered, shadow], outcomes, roles=["shadow"])[shadow["id"]]["truth"] == "b"


def test_an_interval_is_taken_day_by_day_without_gaps() -> None:
    parts = [*days(START, START + 27 * HOUR)]
    assert [part[0] for part in parts] == [START, START + 2 * HOUR, START + 26 * HOUR]
    assert [part[1] for part in parts] == [START + 2 * HOUR, START + 26 * HOUR, START + 27 * HOUR]


def test_what_a_value_means_as_a_class_and_as_a_number() -> None:
    values = ["spam", 'a "b" ü\\n', 1, 1.0, 2.5, "7", True, False, None, {"a": 1}, [1], "NaN", ""]
    found = (
        with_truth(pl.LazyFrame({"id": [f"m.1.{number:032x}" for number in range(len(values) + 1)]}), told_of(values)).sort("id").collect()
    )
    assert found[TRUTH].to_list() == ["spam", 'a "b" ü\\n', "1", "1", "2.5", "7", "true", "false", None, None, None, "NaN", "", None]
    assert found[NUMBER].to_list() == [None, None, 1, 1, 2.5, 7, 1, 0, *[None] * 6]
    assert found[RAW].null_count() == 1
    known = with_truth(pl.LazyFrame({"id": [f"m.2.{number:032x}" for number in (1, 99)]}), told_of(values), known=True).collect()
    assert known["id"].to_list() == [f"m.2.{1:032x}"]
    assert with_truth(pl.LazyFrame({"id": ["m.1.a"]}), None).collect().select(TRUTH, "late").rows() == [(None, False)]


def told_of(values: list[Any]) -> pl.LazyFrame:
    at = {"source": "shop", "observed_at": START, "received_at": START}
    return frame(Told(prediction_id=f"m.1.{number:032x}", value=value, **at) for number, value in enumerate(values)).lazy()


def test_how_far_off_a_prediction_was() -> None:
    classes = pl.DataFrame({"prediction": ["1.0", "a", "b"], "label": ["1", "a", "c"]})
    assert errors(classes, "label", "classification")["error"].to_list() == [0, 0, 1]
    numbers = pl.DataFrame({"prediction": [1.0, 2.0, 3.0], "label": [1.5, 0.0, None]})
    assert errors(numbers, "label", "regression")["error"].to_list() == [0.5, 2.0, None]
