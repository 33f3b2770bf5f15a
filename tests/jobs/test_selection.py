"""Selection on a real S3: whom chance chooses, whom the model is unsure about, and what people are shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost

from perdure import predictor
from perdure.adapters.s3 import ObjectStore
from perdure.jobs import selection
from perdure.labeling import manifest
from perdure.labeling.spec import load
from perdure.messages.common import ArtifactRef, Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs, Prepared

STEPS = """
import polars as pl

def apply(frame):
    return frame.select("x", "y")
"""
LABEL: Json = {"question": "Is it good?", "shows": "row", "batch": 80, "random": 0.75}
MODEL = {"model": "m", "version": 3}


@pytest.fixture
def data(tmp_path: Path, owner: Owner) -> Json:
    """1,000 rows, every tenth labeled; x tells the class, more or less, y tells nothing. Five rows of the pool are equal."""
    random = np.random.default_rng(4)
    frame = pl.DataFrame({"x": random.normal(size=1_000), "y": random.normal(size=1_000), "note": [f"n{i % 995}" for i in range(1_000)]})
    frame = frame.with_columns(
        label=pl.when(pl.col("x") + pl.Series(random.normal(size=1_000)) * 0.4 > 0).then(pl.lit("good")).otherwise(pl.lit("bad"))
    )
    frame = frame.with_columns(pl.when(pl.int_range(1_000) % 10 == 0).then("label").alias("label"))
    doubled = frame[1:2].select(pl.all().repeat_by(5).explode())
    pl.concat([frame, doubled]).write_csv(tmp_path / "rows.csv")
    source = {"uri": str(tmp_path / "rows.csv"), "format": "csv"}
    return {"source": source, "target": {"column": "label", "positive": "good"}, "transform": f"{owner(STEPS)}:apply"}


def trained(prepared: Prepared, objective: str = "binary:logistic") -> Json:
    """A predictor of the labeled rows."""
    features = prepared.table("features")
    rows = xgboost.DMatrix(features.drop("__label").to_numpy(), features["__label"].to_numpy())
    booster = xgboost.train({"objective": objective, "nthread": 1, "max_depth": 3}, rows, 20)
    path = Path(prepared.jobs.spec.data.source.uri).with_name("model.zip")
    parts: Json = {"manifest": prepared.manifest, "format": "xgboost-ubj", "files": {"model.ubj": bytes(booster.save_raw("ubj"))}}
    return prepared.jobs.objects.put("models", "predictor.zip", predictor.build(path, **parts)).as_json()


def select(prepared: Prepared, model: Json) -> tuple[Json, list[Any]]:
    """What the job says, and the tasks as a campaign imports them."""
    made = prepared.jobs.run(selection.select, {"manifest": prepared.result["manifest"], "predictor": model, "model": MODEL})
    if made["tasks"] is None:
        return made, []
    label = prepared.jobs.spec.label
    assert label is not None
    spec = load(label.campaign(owner=None, classes=prepared.manifest["classes"]))
    lines = prepared.jobs.objects.get(ArtifactRef.from_json(made["tasks"])).splitlines()
    return made, [manifest.task(line, number, spec) for number, line in enumerate(lines, 1)]


@pytest.mark.parametrize("diverse", [True, False])
@pytest.mark.parametrize("strategy", ["margin", "entropy", "least_confidence"])
def test_the_unsure_ones_are_of_the_training_side(objects: ObjectStore, data: Json, strategy: str, diverse: bool) -> None:
    prepared = Jobs(objects, data, label={**LABEL, "strategy": strategy, "diverse": diverse}).prepare([])
    model = trained(prepared)
    made, tasks = select(prepared, model)
    pool = prepared.table("pool")
    rows = {row["__key"]: row for row in pool.iter_rows(named=True)}
    chosen = {how: [task for task in tasks if task.prediction["chosen"] == how] for how in ("random", "unsure")}
    assert (len(chosen["random"]), len(chosen["unsure"]), made["asked"]) == (60, 20, 80)
    assert len({task.key for task in tasks}) == 80, "equal rows are one question"
    assert {rows[task.key]["__split"] for task in chosen["unsure"]} == {"train"}
    assert {rows[task.key]["__split"] for task in chosen["random"]} == {"train", "test"}, "chance looks at the whole pool"
    sides = [rows[task.key]["__split"] for task in chosen["random"]]
    assert made["figures"]["random"] == {"train": sides.count("train"), "test": sides.count("test")}
    distances = [abs(rows[task.key]["x"]) for task in chosen["unsure"]]
    assert np.mean(distances) < pool["x"].abs().mean() / 2 or diverse, "they lie where the classes meet"
    scores = [task.prediction["score"] for task in chosen["unsure"]]
    assert np.mean(scores) < np.mean([task.prediction["score"] for task in chosen["random"]])
    assert all(task.payload == {name: rows[task.key][name] for name in ("x", "y", "note")} for task in tasks)
    assert {task.prediction["version"] for task in tasks} == {3}
    again, _ = select(prepared, model)
    assert again == made, "the same batch in every attempt"


def test_it_does_not_matter_how_the_pool_is_cut(objects: ObjectStore, data: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Jobs(objects, data, label=LABEL).prepare([])
    model = trained(prepared)
    whole, _ = select(prepared, model)
    monkeypatch.setattr(selection, "_BATCH", 1_000)
    cut, _ = select(prepared, model)
    assert cut["tasks"] == whole["tasks"]
    assert cut["figures"].pop("mean_margin") == pytest.approx(whole["figures"].pop("mean_margin"))
    assert cut["figures"] == whole["figures"]


def test_how_sure_the_model_is(objects: ObjectStore, data: Json) -> None:
    prepared = Jobs(objects, data, label={**LABEL, "when": {"confident_below": 1, "confidence": 0.6}}).prepare([])
    model = trained(prepared)
    made, _ = select(prepared, model)
    scores = predictor.load(objects.get(ArtifactRef.from_json(model))).predict(prepared.table("pool"))
    likeliest = scores.select(pl.max_horizontal("p_bad", "p_good")).to_series()
    figures = made["figures"]
    assert figures["pool"] == prepared.result["rows"]["pool"] == 905
    assert figures["confident"] == pytest.approx((likeliest >= 0.6).mean())
    assert figures["mean_margin"] == pytest.approx((2 * likeliest - 1).mean())
    assert figures["learnable"] == (prepared.table("pool")["__split"] == "train").sum()


def test_a_small_pool_is_asked_about_as_a_whole(objects: ObjectStore, data: Json) -> None:
    rows = Path(data["source"]["uri"]).read_text().splitlines()
    labeled = [row for row in rows if not row.endswith(",")]
    Path(data["source"]["uri"]).write_text("\n".join([*labeled, "0.1,0.2,one,", "0.3,-0.2,two,", "-1,1,three,"]))
    prepared = Jobs(objects, data, label={**LABEL, "payload": ["note"], "shows": "text", "random": 0.3}).prepare([])
    sides = dict(prepared.table("pool").select("note", "__split").iter_rows())
    _, tasks = select(prepared, trained(prepared))
    asked = {task.payload["text"] for task in tasks}
    assert {name for name, side in sides.items() if side == "train"} <= asked <= {"one", "two", "three"}


def test_what_is_too_long_for_a_task_is_left_out(objects: ObjectStore, data: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Jobs(objects, data, label=LABEL).prepare([])
    model = trained(prepared)
    made, tasks = select(prepared, model)
    lines = objects.get(ArtifactRef.from_json(made["tasks"])).splitlines()
    assert (made["asked"], made["figures"]["too_long"]) == (80, 0)
    monkeypatch.setattr(selection, "LONGEST", sorted(len(line) for line in lines)[40])
    shorter, left = select(prepared, model)
    kept = [task for task, line in zip(tasks, lines, strict=True) if len(line) <= selection.LONGEST]
    assert left == kept
    assert 0 < shorter["asked"] == len(kept) == 80 - shorter["figures"]["too_long"] < 80
    monkeypatch.setattr(selection, "LONGEST", 10)
    assert select(prepared, model)[0] | {"figures": {}} == {"tasks": None, "asked": 0, "classes": ["bad", "good"], "figures": {}}


def test_numbers_are_asked_about_by_chance(objects: ObjectStore, tmp_path: Path) -> None:
    rows = [f"{i},{'' if i % 4 else 2 * i}" for i in range(400)]
    (tmp_path / "rows.csv").write_text("\n".join(["size,price", *rows]))
    data = {"source": {"uri": str(tmp_path / "rows.csv"), "format": "csv"}, "target": {"column": "price", "task": "regression"}}
    prepared = Jobs(objects, data, label={"question": "How much?", "shows": "row", "strategy": "random", "batch": 30}).prepare([])
    made, tasks = select(prepared, trained(prepared, "reg:squarederror"))
    assert made["figures"] == {"pool": 300, "random": made["figures"]["random"], "unsure": 0, "too_long": 0}
    assert sum(made["figures"]["random"].values()) == len(tasks) == 30
    assert all(math.isfinite(task.prediction["label"]) and "score" not in task.prediction for task in tasks)


def test_what_json_cannot_say(objects: ObjectStore) -> None:
    assert json.loads(json.dumps([selection._plain(value) for value in (math.nan, b"\xff", [math.inf], {"a": 1})])) == [
        None,
        "/w==",
        [None],
        {"a": 1},
    ]
