"""Everywhere that a model scores: the same raw rows, and the scores of each place, bit for bit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.local.environment import s3_environment
from perdure.messages.common import ArtifactRef, Json
from perdure.metadata.database import Database
from perdure.metadata.queries import RunDetail, show_run

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


class Places:
    """A finished run of the project, and what each place makes of its test rows: for each the probability of a cat, as hex."""

    def __init__(self, settings: Settings, detail: RunDetail, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.results: dict[str, Json] = {str(step.step): step.result or {} for step in detail.steps}
        self.objects = ObjectStore(settings.s3)
        self.dataset = f"dataset:scores/{self.results['prepare']['version']}/test"
        manifest = self.objects.get_json(ArtifactRef.from_json(self.results["prepare"]["manifest"]))
        self.train, self.test = (table(self.objects, manifest["splits"][split]["files"]) for split in ("train", "test"))
        self.raw = self.test.drop("kind")
        (folder / "rows.json").write_text(json.dumps(self.raw.to_dicts()))
        self.raw.with_row_index("number").write_csv(folder / "raw.csv")

    def all(self, run: str = "") -> dict[str, Callable[[], list[str]]]:
        """The places by name; batches are scored anew under other names with another *run*."""
        return {
            "evaluation": self.evaluation,
            "predict": self.predict,
            "batch, from the data set": lambda: self.batch(self.dataset, f"tested{run}"),
            "batch, from a file": lambda: self.batch(str(self.folder / "raw.csv"), f"from-file{run}", "--shards", "3", "--keep", "number"),
            "online": self.online,
            "stock MLflow client": self.stock,
        }

    def evaluation(self) -> list[str]:
        evaluated = table(self.objects, [self.results["evaluate"]["scores"]])
        assert evaluated["row"].to_list() == list(range(self.raw.height))
        return [score.hex() for score in evaluated["p_cat"]]

    def predict(self) -> list[str]:
        predicted = json.loads(told([sys.executable, "-m", "perdure.cli.main", "predict", "scores", self.folder / "rows.json"]))
        return [row["p_cat"].hex() for row in predicted]

    def batch(self, source: str, to: str, *options: str) -> list[str]:
        scoring = [sys.executable, "-m", "perdure.cli.main", "score", "scores", source, "--to", to, "--key", to, "--json", *options]
        run = json.loads(told(scoring))
        assert (run["state"], run["scores"]) == ("succeeded", f"data set {to}/1")
        with Database.open(self.settings) as database:
            [step] = show_run(database, f"score/scores/{to}").steps
        manifest = self.objects.get_json(ArtifactRef.from_json((step.result or {})["manifest"]))
        made = table(self.objects, manifest["scores"]["files"])
        if "number" in made.columns:
            assert made["number"].cast(pl.Int64).to_list() == list(range(self.raw.height))
        return [score.hex() for score in made["p_cat"]]

    def online(self) -> list[str]:
        rows, made = self.raw.to_dicts(), list[str]()
        url = f"http://127.0.0.1:{self.settings.serving.port}/v1/models/scores/predict"
        with httpx.Client(timeout=60) as client:
            deadline = time.monotonic() + 30
            while client.post(url, json={"rows": rows[:1]}).status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.2)  # it loads what was released a moment ago
            for start in range(0, len(rows), 997):
                answer = client.post(url, json={"rows": rows[start : start + 997]})
                assert answer.status_code == 200, answer.text
                made += [float(score["cat"]).hex() for score in answer.json()["scores"]]
        return made

    def stock(self) -> list[str]:
        variables = s3_environment(self.settings) | {
            "MLFLOW_TRACKING_URI": self.settings.mlflow.url or "",
            "MLFLOW_S3_ENDPOINT_URL": self.settings.s3.endpoint or "",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        said = json.loads(told([sys.executable, "-c", STOCK_CLIENT, self.folder / "rows.json"], variables).splitlines()[-1])
        assert said["columns"] == ["p_dog", "p_cat", "prediction"]
        return [str(score) for score in said["p_cat"]]


def project(folder: Path) -> Path:
    """Write the project below *folder*; returns its specification."""
    (folder / "rows.csv").write_text(source())
    (folder / "scores_steps.py").write_text(CODE)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    return folder / "pipeline.yaml"


def table(objects: ObjectStore, files: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(objects.get(ArtifactRef.from_json(file))) for file in files)


def told(command: list[Any], variables: dict[str, str] | None = None) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, env=os.environ | (variables or {}))
    assert done.returncode == 0, done.stderr
    return done.stdout
