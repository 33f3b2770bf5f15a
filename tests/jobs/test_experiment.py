"""Figures of an experiment, made of an inference log and outcomes on a real S3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from perdure.adapters.delta_log import DeltaLog
from perdure.adapters.outcome_files import ParquetOutcomes
from perdure.adapters.s3 import ObjectStore
from perdure.jobs import experiment
from perdure.messages.common import Json
from perdure.outcomes import Told
from tests.jobs.running import Jobs

SINCE = datetime(2026, 11, 20, 12, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=2)
DATA: Json = {"source": {"uri": "rows.csv", "format": "csv"}, "target": "label"}


def row(id: str, version: int, unit: str | None, prediction: str, role: str = "release", hours: float = 1) -> Json:
    time = SINCE + timedelta(hours=hours)
    return {"id": id, "time": time, "date": time.date(), "version": version, "role": role, "unit": unit, "prediction": prediction}


def told(id: str, value: Any, source: str = "shop", hours: float = 2) -> Told:
    at = SINCE + timedelta(hours=hours)
    return Told(prediction_id=id, source=source, value=value, observed_at=at, received_at=at)


ROWS = [
    row("a1", 1, "ann", "ham"),
    row("a2", 1, "ann", "spam", hours=30),
    row("b1", 1, "bob", "ham"),
    row("c1", 1, "cat", "ham"),
    row("n1", 1, None, "ham"),  # no part of the experiment
    row("x1", 2, "xan", "spam", "arm"),
    row("x2", 2, "xan", "ham", "arm"),
    row("y1", 2, "yve", "1", "arm", hours=47.9),
    row("m1", 1, "mia", "ham"),  # by both
    row("m2", 2, "mia", "ham", "arm"),
    row("z1", 2, "zoe", "ham", "shadow"),  # another role
    row("z2", 3, "zoe", "ham", "arm"),  # another version
    row("z3", 1, "zoe", "ham", hours=-1),  # before
    row("z4", 1, "zoe", "ham", hours=48),  # after
]
OUTCOMES = [
    told("a1", "ham"),
    told("a2", "ham", hours=31),
    told("b1", "spam"),
    told("b1", "ham", hours=3),  # a correction
    told("c1", "spam"),
    told("c1", "ham", hours=49),  # too late
    told("x1", "spam"),
    told("x1", "ham", "other", hours=1),
    told("x2", None),
    told("y1", 1),
    told("m1", "ham"),
    told("n1", "ham"),
    told("z1", "ham"),
    told("nobody", "ham"),
]


def look(objects: ObjectStore, model: str, outcomes: list[Told], **spec: Any) -> Json:
    files = ParquetOutcomes(objects)
    pages = [outcomes[:3], outcomes[3:]] if outcomes else []
    made = files.write(pages)
    return Jobs(objects, DATA).run(
        experiment.figures,
        {
            "experiment": {"metric": "accuracy", **spec},
            "model": model,
            "champion": 1,
            "challenger": 2,
            "since": SINCE.isoformat(),
            "until": UNTIL.isoformat(),
            "outcomes": made.as_json() if made else None,
        },
    )


@pytest.fixture(scope="module")
def model(objects: ObjectStore) -> str:
    """A model with an inference log."""
    name = f"m{uuid4().hex[:8]}"
    log = DeltaLog(objects, objects.uri(f"inference/{name}"))
    frame = pl.DataFrame(ROWS, schema_overrides={"version": pl.Int32, "unit": pl.String})
    assert log.append(frame[:7], "one", 1)
    assert log.append(frame[7:], "other", 1)
    return name


def test_a_unit_counts_once_with_the_mean_of_its_rows(objects: ObjectStore, model: str) -> None:
    found = look(objects, model, OUTCOMES)
    # ann has one of two right; bob's correction counts, and cat's does not, as it came too late
    assert found["champion"] == {"version": 1, "seen": 3, "rows": 4, "judged": 4, "units": 3, "mean": pytest.approx(0.5), "variance": 0.25}
    # xan's second outcome says nothing; a class that is a number is the same as text
    assert found["challenger"] == {"version": 2, "seen": 2, "rows": 3, "judged": 2, "units": 2, "mean": 1.0, "variance": 0.0}
    assert (found["mixed"], found["unreadable"]) == (1, 0)


def test_outcomes_of_one_source_may_count_alone(objects: ObjectStore, model: str) -> None:
    found = look(objects, model, OUTCOMES, source="other")
    assert [found[arm]["units"] for arm in ("champion", "challenger")] == [0, 1]
    assert found["challenger"]["mean"] == 0.0
    assert found["champion"]["seen"] == 3


def test_a_reward_is_a_number_or_true_and_false(objects: ObjectStore, model: str) -> None:
    given = [told("a1", True), told("a2", False), told("b1", 2.5), told("c1", "n/a"), told("x1", "4"), told("y1", -1)]
    found = look(objects, model, given, metric="reward")
    assert (found["champion"]["mean"], found["champion"]["units"], found["unreadable"]) == (1.5, 2, 1)
    assert (found["challenger"]["mean"], found["challenger"]["variance"]) == (1.5, 12.5)


def test_an_error_is_a_distance(objects: ObjectStore) -> None:
    name = f"m{uuid4().hex[:8]}"
    rows = [row("a", 1, "ann", "0"), row("b", 1, "bob", "0"), row("x", 2, "xan", "0", "arm")]
    predicted = pl.Series("prediction", [3.0, 5.0, 10.0])
    DeltaLog(objects, objects.uri(f"inference/{name}")).append(pl.DataFrame(rows).with_columns(predicted), "one", 1)
    found = look(objects, name, [told("a", 1), told("b", 5.5), told("x", 14.0)], metric="error")
    assert [found[arm]["mean"] for arm in ("champion", "challenger")] == [1.25, 4.0]
    assert found["challenger"]["variance"] is None


def test_nothing_logged_and_nothing_told(objects: ObjectStore, model: str) -> None:
    nobody = {"seen": 0, "rows": 0, "judged": 0, "units": 0, "mean": None, "variance": None}
    assert look(objects, f"m{uuid4().hex[:8]}", [])["champion"] == {"version": 1, **nobody}
    found = look(objects, model, [])
    assert found["champion"] == {"version": 1, **nobody, "seen": 3, "rows": 4}
