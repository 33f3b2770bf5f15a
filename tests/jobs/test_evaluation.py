"""Evaluation on a real S3: challenger and champion on the same rows, slices, and champions that cannot score them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost

from perdure import predictor
from perdure.adapters.s3 import ObjectStore
from perdure.errors import InvalidInput, UserCodeError
from perdure.jobs.evaluation import evaluate
from perdure.messages.common import ArtifactRef, Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs, Prepared

STEPS = """
import polars as pl

def apply(frame):
    return frame.select("x", "y", pl.col("y").ge(0).alias("upper"))
"""


@pytest.fixture
def prepared(objects: ObjectStore, tmp_path: Path, owner: Owner) -> Prepared:
    random = np.random.default_rng(4)
    frame = pl.DataFrame({"x": random.normal(size=2_000), "y": random.normal(size=2_000), "place": random.choice(["here", "there"], 2_000)})
    good = pl.Series(frame["x"].to_numpy() + random.normal(size=2_000) * 0.4 > 0)
    frame = frame.with_columns(label=pl.select(pl.when(good).then(pl.lit("good")).otherwise(pl.lit("bad"))).to_series())
    frame.write_csv(tmp_path / "rows.csv")
    data = {
        "source": {"uri": str(tmp_path / "rows.csv"), "format": "csv"},
        "target": {"column": "label", "positive": "good"},
        "transform": f"{owner(STEPS)}:apply",
    }
    slices = [{"column": "place"}, {"column": "upper"}]
    gates = [{"metric": "brier", "max": 0.2}]
    return Jobs(objects, data, evaluate={"metrics": ["roc_auc", "log_loss"], "slices": slices, "gates": gates}).prepare()


def trained(prepared: Prepared, rounds: int, **changes: Any) -> Json:
    """A predictor of *rounds* rounds, as the input of an evaluation."""
    features = prepared.table("features")
    data = xgboost.DMatrix(features.drop("__label").to_numpy(), features["__label"].to_numpy())
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1, "max_depth": 3}, data, rounds)
    parts: Json = {"manifest": {**prepared.manifest, **changes.pop("manifest", {})}, "format": "xgboost-ubj"}
    parts |= {"files": {"model.ubj": bytes(booster.save_raw("ubj"))}, **changes}
    path = Path(prepared.jobs.spec.data.source.uri).with_name(f"{rounds}.zip")
    return prepared.jobs.objects.put("models", "predictor.zip", predictor.build(path, **parts)).as_json()


def evaluated(prepared: Prepared, challenger: Json, champion: Json | None) -> Json:
    return prepared.jobs.run(evaluate, {"manifest": prepared.result["manifest"], "challenger": challenger, "champion": champion})


def test_the_first_version(prepared: Prepared) -> None:
    challenger = trained(prepared, 20)
    figures = evaluated(prepared, challenger, None)
    assert figures["champion"] is None
    assert figures["rows"] == prepared.result["rows"]["test"]
    ours = figures["challenger"]
    assert list(ours["metrics"]) == ["roc_auc", "log_loss", "brier"]  # what was asked for, and what the gate asks for
    assert ours["metrics"]["roc_auc"] > 0.9
    assert list(ours["slices"]) == ["place", "upper"]
    assert list(ours["slices"]["place"]) == ["here", "there"]
    assert sorted(ours["slices"]["upper"]) == ["false", "true"]
    assert sum(group["rows"] for group in ours["slices"]["place"].values()) == figures["rows"]
    assert evaluated(prepared, challenger, None) == figures

    scores = pl.read_parquet(prepared.jobs.objects.get(ArtifactRef.from_json(figures["scores"])))
    assert scores.columns == ["row", "label", "p_bad", "p_good", "prediction"]
    test = prepared.table("splits", "test")
    body = prepared.jobs.objects.get(ArtifactRef.from_json(challenger))
    assert scores.select("p_bad", "p_good", "prediction").equals(predictor.load(body).predict(test))
    assert scores["label"].to_list() == test["label"].to_list()
    assert scores["row"].to_list() == list(range(test.height))


def test_against_the_champion(prepared: Prepared) -> None:
    strong, weak = trained(prepared, 20), trained(prepared, 1)
    figures = evaluated(prepared, strong, weak)
    assert figures["challenger"] == evaluated(prepared, strong, None)["challenger"]
    assert figures["champion"] == evaluated(prepared, weak, None)["challenger"]
    assert figures["challenger"]["metrics"]["log_loss"] < figures["champion"]["metrics"]["log_loss"]
    assert evaluated(prepared, strong, strong)["champion"] == figures["challenger"]
    scores = pl.read_parquet(prepared.jobs.objects.get(ArtifactRef.from_json(figures["scores"])))
    assert [name for name in scores.columns if name.startswith("champion_")] == ["champion_p_bad", "champion_p_good", "champion_prediction"]


def test_a_champion_that_cannot_score_these_rows(prepared: Prepared) -> None:
    challenger = trained(prepared, 5)
    column = {"schema": [{"name": "size", "dtype": "Int64"}, *prepared.manifest["schema"]]}
    for rounds, changes, reason in [
        (2, {"manifest": column}, "missing columns: size"),
        (3, {"manifest": {"classes": ["awful", "bad"]}}, "it does not know the classes good"),
        (4, {"manifest": {"transform": {"reference": "gone.steps:apply"}}}, r"gone.steps:apply cannot be imported: ModuleNotFoundError"),
        (6, {"files": {"model.ubj": b"no model"}}, "XGBoostError"),
    ]:
        figures = evaluated(prepared, challenger, trained(prepared, rounds, **changes))
        assert reason in figures["champion"]["error"]
        assert figures["champion"]["metrics"] == {}
        assert figures["challenger"]["metrics"]["roc_auc"] > 0.8


def test_a_challenger_that_cannot_score_fails_with_a_reason(prepared: Prepared, owner: Owner) -> None:
    column = {"schema": [{"name": "size", "dtype": "Int64"}, *prepared.manifest["schema"]]}
    with pytest.raises(InvalidInput, match="cannot score these rows: missing columns: size"):
        evaluated(prepared, trained(prepared, 2, manifest=column), None)
    broken = {"transform": {"reference": f"{owner('def apply(frame): return 1 / 0')}:apply"}}
    with pytest.raises(UserCodeError, match=r"(?s)ZeroDivisionError.*return 1 / 0"):
        evaluated(prepared, trained(prepared, 3, manifest=broken), None)
    with pytest.raises(InvalidInput, match="does not know the classes good"):
        evaluated(prepared, trained(prepared, 4, manifest={"classes": ["awful", "bad"]}), None)


def test_a_slice_that_is_nowhere(prepared: Prepared) -> None:
    other = Jobs(prepared.jobs.objects, prepared.jobs.spec.as_json()["data"], evaluate={"slices": [{"column": "colour"}]})
    with pytest.raises(InvalidInput, match="'colour' is neither a raw column nor one of the transform's") as caught:
        evaluated(Prepared(other, prepared.inputs, prepared.result), trained(prepared, 2), None)
    assert "x, y, place, label" in str(caught.value.remedy)


def test_small_slices_are_left_out_and_odd_ones_noted(prepared: Prepared) -> None:
    slices = [{"column": "place", "min_rows": 10_000}, {"column": "label"}]
    other = Jobs(prepared.jobs.objects, prepared.jobs.spec.as_json()["data"], evaluate={"metrics": ["roc_auc"], "slices": slices})
    ours = evaluated(Prepared(other, prepared.inputs, prepared.result), trained(prepared, 2), None)["challenger"]
    assert ours["slices"]["place"] == {}
    assert ours["slices"]["label"]["good"]["metrics"] == {"roc_auc": None}
    assert ours["slices"]["label"]["good"]["notes"] == {"roc_auc": "the rows hold 1 of 2 classes"}


def test_numbers(objects: ObjectStore, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=500)
    pl.DataFrame({"x": x, "y": x * 3 + random.normal(size=500) * 0.1}).write_csv(tmp_path / "r.csv")
    data = {"source": {"uri": str(tmp_path / "r.csv"), "format": "csv"}, "target": {"column": "y", "task": "regression"}}
    prepared = Jobs(objects, data).prepare()
    features = prepared.table("features")
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(features[["x"]].to_numpy(), features["__label"].to_numpy()), 30)
    model = trained_file(tmp_path, prepared, bytes(booster.save_raw("ubj")))
    figures = evaluated(prepared, model, None)
    assert list(figures["challenger"]["metrics"]) == ["mae", "rmse", "r2"]
    assert figures["challenger"]["metrics"]["r2"] > 0.95


def trained_file(tmp_path: Path, prepared: Prepared, model: bytes) -> Json:
    path = predictor.build(tmp_path / "p.zip", manifest=prepared.manifest, format="xgboost-ubj", files={"model.ubj": model})
    return prepared.jobs.objects.put("models", "predictor.zip", path).as_json()
