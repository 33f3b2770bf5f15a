"""References and looks, on a real S3: training rows, an inference log and outcomes in, findings and a report out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
import xgboost

from perdure import predictor
from perdure.adapters.delta_log import DAY, DeltaLog
from perdure.adapters.outcome_files import ParquetOutcomes
from perdure.adapters.s3 import ObjectStore
from perdure.errors import InvalidInput
from perdure.jobs import monitoring
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef, Json
from perdure.monitoring.statistics import rise_p
from perdure.outcomes import Told
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs, Prepared

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
WEEKS, HOURLY = 4, 10
END = START + timedelta(weeks=WEEKS + 2)  # of the windows
STEPS = """
import pandera.polars as pa
import polars as pl

class Row(pa.DataFrameModel):
    name: str = pa.Field(metadata={"pii": True})

def apply(frame):
    return frame.select("x", "y")
"""


def rows(start: datetime, hours: int, each: int = HOURLY, shift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """Requests with a week's season in ``x``: what is normal on a Sunday is not on a Wednesday."""
    random = np.random.default_rng(seed)
    at = np.repeat(np.arange(hours), each)
    season = 1.5 * np.sin(2 * np.pi * (at + (start - START).total_seconds() / 3600) / 168)
    x = random.normal(size=len(at)) + season + shift
    y = random.normal(size=len(at))
    label = np.where(x + y + 0.4 * random.normal(size=len(at)) > 0, "good", "bad")
    return pl.DataFrame(
        {
            "when": [(start + timedelta(hours=int(hour))).isoformat() for hour in at],
            "x": x,
            "y": pl.Series(y).set(pl.Series(random.random(len(at)) < 0.1), None),
            "place": random.choice(["here", "there"], len(at), p=[0.7, 0.3]),
            "name": [f"n{value}" for value in random.integers(0, 5_000, len(at))],
            "label": label,
        }
    )


@pytest.fixture(scope="module")
def prepared(objects: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("monitoring")
    (folder / "monitor_steps.py").write_text(STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        rows(START, WEEKS * 168).write_csv(folder / "rows.csv")
        data = {
            "source": {"uri": str(folder / "rows.csv"), "format": "csv"},
            "target": {"column": "label", "positive": "good"},
            "schema": "monitor_steps:Row",
            "transform": "monitor_steps:apply",
        }
        yield Jobs(objects, data, monitor={"window": "24h", "min_rows": 200, "time": "when"}).prepare()


@pytest.fixture(scope="module")
def model(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Json:
    features = prepared.table("features")
    data = xgboost.DMatrix(features.drop("__label").to_numpy(), features["__label"].to_numpy())
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1, "max_depth": 3}, data, 20)
    path = tmp_path_factory.mktemp("predictor") / "predictor.zip"
    parts: Json = {"manifest": prepared.manifest, "format": "xgboost-ubj", "files": {"model.ubj": bytes(booster.save_raw("ubj"))}}
    return prepared.jobs.objects.put("models", "predictor.zip", predictor.build(path, **parts)).as_json()


@pytest.fixture(scope="module")
def reference(prepared: Prepared, model: Json) -> Json:
    return prepared.jobs.run(monitoring.reference, {"manifest": prepared.result["manifest"], "predictor": model})["reference"]


def look(
    prepared: Prepared,
    model: Json,
    reference: Json,
    asked: pl.DataFrame,
    told: pl.Series | None = None,
    since: datetime | None = None,
    before: pl.DataFrame | None = None,
    **inputs: Any,
) -> Json:
    """What is found where *asked* was answered, by another version before *since*, and *told* is the truth; *before* was logged first."""
    objects, name = prepared.jobs.objects, f"m{uuid4().hex[:8]}"
    scores = predictor.load(objects.get(ArtifactRef.from_json(model))).predict(asked)
    log = asked.drop("label", "name").rename(lambda column: f"input.{column}")
    times = asked["when"].str.to_datetime(time_unit="us", time_zone="UTC")
    log = log.with_columns(
        times.alias("time"),
        times.dt.date().alias(DAY),
        pl.Series("id", [f"{name}-{i}" for i in range(asked.height)]),
        pl.when(times < since if since else pl.lit(False)).then(2).otherwise(1).cast(pl.Int32).alias("version"),
        pl.lit("release").alias("role"),
        *(scores[column].alias(column.replace("p_", "p.")) for column in scores.columns),
    )
    table = DeltaLog(objects, objects.uri(f"inference/{name}"))
    if before is not None:
        table.append(before, "v", 1)
    table.append(log, "w", 1)
    outcomes = None
    if told is not None:
        page = [
            Told(prediction_id=f"{name}-{i}", source="shop", value=value, observed_at=END, received_at=END) for i, value in enumerate(told)
        ]
        written = ParquetOutcomes(objects).write([page])
        assert written is not None
        outcomes = written.as_json()
    given = {"reference": reference, "model": name, "version": 1, "at": END.isoformat(), "outcomes": outcomes}
    return prepared.jobs.run(monitoring.look, {**given, "trained": prepared.result["manifest"], "newest": None, **inputs})


def test_a_column_of_another_type_than_an_earlier_version_logged_is_no_drift(prepared: Prepared, model: Json, reference: Json) -> None:
    asked = rows(END - timedelta(days=1), 24, each=50, seed=5)
    early = END - timedelta(days=2)
    other = {
        "input.x": [1],
        "input.place": [7],
        "input.gone": ["z"],
        "time": [early],
        DAY: [early.date()],
        "id": ["o"],
        "role": ["release"],
    }
    before = pl.DataFrame({**other, "version": pl.Series([2], dtype=pl.Int32)})
    found = by_monitor(look(prepared, model, reference, asked, before=before))
    assert [finding["monitor"] for finding in found.values() if finding["drifted"]] == []
    assert "x" in {metric["feature"] for metric in found["requests"]["metrics"]}


def by_monitor(result: Json) -> dict[str, Json]:
    return {finding["monitor"]: finding for finding in result["findings"]}


def drifted(finding: Json) -> list[tuple[str, str]]:
    return [(metric["feature"], metric["method"]) for metric in finding["metrics"] if metric["drifted"]]


def test_a_reference_knows_days_and_leaves_out_what_is_personal_or_a_time(prepared: Prepared, model: Json, reference: Json) -> None:
    told = prepared.jobs.objects.get_json(ArtifactRef.from_json(reference))
    assert sorted(told["requests"]) == ["place", "x", "y"]
    assert [sum(row) > 0 for row in told["requests"]["x"]["counts"]] == [True] * 7
    assert sum(told["requests"]["x"]["days"]) == WEEKS * 7
    assert sum(map(sum, told["requests"]["x"]["counts"])) == prepared.result["rows"]["train"]
    assert 0.05 < sum(told["requests"]["y"]["missing"]) / prepared.result["rows"]["train"] < 0.15
    assert sorted(told["predictions"]) == ["p.bad", "p.good", "prediction"]
    assert told["labels"]["label"]["bins"]["categories"] == ["bad", "good"]
    assert 0.02 < told["error"]["mean"] < 0.3
    again = prepared.jobs.run(monitoring.reference, {"manifest": prepared.result["manifest"], "predictor": model})
    assert again["reference"] == reference


def test_a_column_that_says_when_must_be_there_and_text_that_is_no_time_has_no_day(prepared: Prepared, model: Json) -> None:
    spec = prepared.jobs.spec
    wrong = Jobs(prepared.jobs.objects, spec.as_json()["data"], monitor={"time": "whem"})
    with pytest.raises(InvalidInput, match="no column 'whem'") as caught:
        wrong.run(monitoring.reference, {"manifest": prepared.result["manifest"], "predictor": model})
    assert caught.value.field == "monitor.time"
    days = monitoring._days(pl.DataFrame({"when": ["1970-01-03T12:00:00", "soon", None]}), "when")
    assert days is not None
    assert days.to_list() == [2, None, None]


def test_a_window_like_the_reference_is_quiet_although_the_day_is_unlike_the_week(prepared: Prepared, model: Json, reference: Json) -> None:
    asked = rows(END - timedelta(hours=48), 48, 20, seed=2)
    result = look(prepared, model, reference, asked, asked["label"])
    found = by_monitor(result)
    assert sorted(found) == ["labels", "predictions", "quality", "requests"]
    assert [drifted(each) for each in found.values()] == [[]] * 4
    assert [each["drifted"] for each in found.values()] == [False] * 4
    assert {name: each["kind"] for name, each in found.items()} == {
        "labels": "label",
        "predictions": "concept",
        "quality": "quality",
        "requests": "data",
    }
    assert found["requests"]["n"] == 480
    page = prepared.jobs.objects.get(ArtifactRef.from_json(result["report"])).decode()
    assert "Nothing has drifted" in page
    assert page.count("<svg") == len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]+"', page)) == 8
    assert not re.search(r"(src|href)=|http", page)


def test_what_moved_is_told_by_its_class(prepared: Prepared, model: Json, reference: Json) -> None:
    asked = rows(END - timedelta(hours=48), 48, 20, shift=1.0, seed=3).with_columns(
        place=pl.lit("elsewhere"), y=pl.when(pl.int_range(pl.len()) % 2 == 0).then(None).otherwise("y")
    )
    flipped = asked["label"].replace_strict({"good": "bad", "bad": "good"})
    found = by_monitor(look(prepared, model, reference, asked, flipped))
    assert {("x", "ks"), ("place", "chi2"), ("y", "missing")} <= set(drifted(found["requests"]))
    assert ("y", "ks") not in drifted(found["requests"])
    assert drifted(found["predictions"])
    assert drifted(found["quality"]) == [("error", "block bootstrap")]
    assert found["quality"]["severity"] > 0.3
    assert drifted(found["labels"]) == [("label", "chi2")]


def test_rows_of_one_hour_are_no_more_certain_than_independent_ones(prepared: Prepared, model: Json, reference: Json) -> None:
    asked = rows(END - timedelta(hours=30), 1, 400, seed=4)
    wrong = pl.int_range(pl.len()) < 16
    told = asked.select(
        pl.when(wrong).then(pl.when(pl.col("label") == "good").then(pl.lit("bad")).otherwise(pl.lit("good"))).otherwise("label")
    )
    [metric] = by_monitor(look(prepared, model, reference, asked, told.to_series()))["quality"]["metrics"]
    share, rise = metric["share"], metric["share"] - metric["usual"]
    assert rise > 0
    assert metric["p_value"] >= rise_p(rise, np.sqrt(share * (1 - share) / 400))


def test_what_another_version_answered_in_the_beginning_of_is_not_judged(prepared: Prepared, model: Json, reference: Json) -> None:
    asked = rows(END - timedelta(hours=48), 48, 40, shift=1.0, seed=3)
    late = by_monitor(look(prepared, model, reference, asked, asked["label"], since=END - timedelta(hours=12)))
    assert late == {}
    half = by_monitor(look(prepared, model, reference, asked, asked["label"], since=END - timedelta(hours=23)))
    assert sorted(half) == ["predictions", "requests"]  # of the day before, it answered nothing
    assert half["requests"]["drifted"]


def test_outcomes_are_joined_in_parts(prepared: Prepared, model: Json, reference: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rows(END - timedelta(hours=48), 48, 20, seed=2)
    whole = look(prepared, model, reference, asked, asked["label"])
    monkeypatch.setattr(monitoring, "_TOGETHER", 100)
    parts = look(prepared, model, reference, asked, asked["label"])
    assert parts["findings"] == whole["findings"]
    assert by_monitor(parts)["quality"]["n"] == 480


def test_a_missing_column_is_drift_whatever_the_rows_say(prepared: Prepared, model: Json, reference: Json) -> None:
    asked = rows(END - timedelta(hours=24), 24, 20, seed=4)
    told = prepared.jobs.objects.get_json(ArtifactRef.from_json(reference))
    told["columns"]["size"] = "Float64"
    other = prepared.jobs.objects.put("reports", "reference.json", canonical(told)).as_json()
    found = by_monitor(look(prepared, model, other, asked))
    assert found["requests"]["notes"] == ["column size is missing"]
    assert (found["requests"]["drifted"], found["requests"]["severity"]) == (True, 1.0)


def test_too_few_rows_say_nothing(prepared: Prepared, model: Json, reference: Json) -> None:
    result = look(prepared, model, reference, rows(END - timedelta(hours=24), 24, 5, shift=3.0))
    assert result["findings"] == []
    page = prepared.jobs.objects.get(ArtifactRef.from_json(result["report"])).decode()
    assert "Too few rows" in page


def test_newer_data_are_compared_by_their_profiles(prepared: Prepared, model: Json, reference: Json, tmp_path: Path, owner: Owner) -> None:
    newer = rows(START, WEEKS * 168, shift=1.5, seed=5).with_columns(label=pl.lit("good")).vstack(rows(START, 48, seed=6)).drop("y")
    newer.write_csv(tmp_path / "newer.csv")
    only_x = owner("def apply(frame):\n    return frame.select('x')\n")
    data = {**prepared.jobs.spec.as_json()["data"], "source": {"uri": str(tmp_path / "newer.csv"), "format": "csv"}}
    other = Jobs(prepared.jobs.objects, {**data, "transform": f"{only_x}:apply"}).prepare()
    asked = rows(END - timedelta(hours=24), 24, 1)
    found = by_monitor(look(prepared, model, reference, asked, newest=other.result["manifest"]))
    assert sorted(found) == ["training", "training-labels"]
    assert drifted(found["training"]) == [("x", "ks")]
    assert found["training"]["notes"] == ["column y is missing"]
    assert drifted(found["training-labels"]) == [("label", "chi2")]
