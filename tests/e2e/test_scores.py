"""One artifact scores: evaluation, `perdure predict` and a stock MLflow client give the same rows the same bits."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl

from perdure.adapters.s3 import ObjectStore
from perdure.local.environment import s3_environment
from perdure.messages.common import ArtifactRef
from tests.chaos.cells import World
from tests.e2e.running import run

NUMBER = 10_000
CODE = """
import polars as pl

class Features:
    def fit(self, frames):
        return {"cities": sorted({city for frame in frames for city in frame["city"].drop_nulls()})}

    def apply(self, frame, state):
        known = {city: float(place) for place, city in enumerate(state["cities"])}
        return frame.select(
            "size", "age", (pl.col("size") * pl.col("age").fill_null(1)).alias("product"), pl.col("member"),
            pl.col("city").replace_strict(known, default=-1.0, return_dtype=pl.Float64).alias("city"),
        )
"""
PIPELINE = """
name: scores
data:
  source: {uri: rows.csv, format: csv}
  target: {column: kind, positive: cat}
  transform: scores_steps:Features
  split: {by: hash, test: 0.85, seed: 7}
  partitions: 2
train: {engine: local, params: {objective: binary:logistic, max_depth: 5, subsample: 0.7, num_parallel_tree: 3, rounds: 20}}
evaluate: {metrics: [roc_auc]}
"""
STOCK_CLIENT = """
import json, sys, time
sys.modules["perdure"] = None  # a stock client has no Perdure
import mlflow.pyfunc, pandas
from mlflow.exceptions import MlflowException

deadline = time.monotonic() + 120
while True:
    try:
        model = mlflow.pyfunc.load_model("models:/scores@champion")
        break
    except MlflowException:  # the reconciler has not been here yet
        if time.monotonic() > deadline:
            raise
        time.sleep(1)
rows = json.load(open(sys.argv[1]))
made = model.predict(pandas.DataFrame(rows))
assert model.predict(rows).equals(made)
assert not [name for name in sys.modules if name.startswith("perdure.")]
print(json.dumps({"columns": list(made.columns), "p_cat": made["p_cat"].map(float.hex).tolist()}))
"""


def source() -> str:
    """Rows with missing values in each column, and so many cities that most are in one row only."""
    dice = random.Random(7)

    def row() -> str:
        size, age, member, city = dice.gauss(0, 3), dice.randrange(90), dice.choice(["true", "false"]), int(dice.expovariate(0.001))
        kind = "cat" if size * 2 + age / 20 - (city % 7) + dice.gauss(0, 1) > 0 else "dog"
        values = [repr(size), str(age), member, f"city {city}"]
        return ",".join(["" if dice.random() < 0.1 else value for value in values] + [kind])

    return "size,age,member,city,kind\n" + "\n".join(dict.fromkeys(row() for _ in range(12_500))) + "\n"


def test_ten_thousand_rows_score_alike_everywhere(world: World, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(source())
    (tmp_path / "scores_steps.py").write_text(CODE)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    detail, failure = run(world.settings, tmp_path / "pipeline.yaml", "scores")
    assert failure is None
    assert detail.release is not None
    results = {str(step.step): step.result or {} for step in detail.steps}
    objects = ObjectStore(world.settings.s3)
    manifest = objects.get_json(ArtifactRef.from_json(results["prepare"]["manifest"]))
    train, test = (table(objects, manifest["splits"][split]["files"]) for split in ("train", "test"))
    raw = test.drop("kind")
    assert raw.is_unique().sum() >= NUMBER
    assert all(count > 500 for count in raw.null_count().row(0))
    assert len(set(raw["city"]) - set(train["city"])) > 500
    (tmp_path / "rows.json").write_text(json.dumps(raw.to_dicts()))

    evaluated = table(objects, [results["evaluate"]["scores"]])
    assert evaluated["row"].to_list() == list(range(raw.height))
    expected = [score.hex() for score in evaluated["p_cat"]]
    assert len(set(expected)) > NUMBER / 2

    predicted = json.loads(told([sys.executable, "-m", "perdure.cli.main", "predict", "scores", tmp_path / "rows.json"]))
    assert [row["p_cat"].hex() for row in predicted] == expected

    variables = s3_environment(world.settings) | {
        "MLFLOW_TRACKING_URI": world.settings.mlflow.url or "",
        "MLFLOW_S3_ENDPOINT_URL": world.settings.s3.endpoint or "",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    stock = json.loads(told([sys.executable, "-c", STOCK_CLIENT, tmp_path / "rows.json"], variables).splitlines()[-1])
    assert stock == {"columns": ["p_dog", "p_cat", "prediction"], "p_cat": expected}


def table(objects: ObjectStore, files: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(objects.get(ArtifactRef.from_json(file))) for file in files)


def told(command: list[Any], variables: dict[str, str] | None = None) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, env=os.environ | (variables or {}))
    assert done.returncode == 0, done.stderr
    return done.stdout
