"""Whole preparations on a real S3: the same objects each time, one Delta version each, the same set from the manifest alone."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from perdure.adapters import delta
from perdure.adapters.s3 import ObjectStore
from perdure.jobs import preparation
from perdure.jobs.preparation.rows import membership
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef, Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs

STEPS = """
import pandera.polars as pa
import polars as pl

class Row(pa.DataFrameModel):
    name: str = pa.Field(metadata={"pii": True})
    age: int = pa.Field(ge=0, nullable=True)
    label: str = pa.Field(isin=["yes", "no"])

class Features:
    def fit(self, frames):
        rows = [row for frame in frames for row in frame.select("age", "label").iter_rows()]
        again = sum(frame.height for frame in frames)
        assert again == len(rows)
        return {"oldest": max(age or 0 for age, _ in rows), "rows": len(rows)}

    def apply(self, frame, state):
        return frame.select((pl.col("age") / state["oldest"]).alias("age"), pl.col("name").str.len_chars().alias("length"))
"""


def people(number: int = 400) -> list[str]:
    random = np.random.default_rng(5)
    return [f"person {i},{random.integers(1, 90)},{'yes' if random.random() < 0.4 else 'no'}" for i in range(number)]


def described(folder: Path, rows: list[str], steps: str) -> Json:
    """The part ``data`` of a specification of *rows*, written to *folder*; *steps* is the module with schema and transform."""
    (folder / "people.csv").write_text("\n".join(["name,age,label", *rows]))
    return {
        "source": {"uri": str(folder / "people.csv"), "format": "csv"},
        "schema": f"{steps}:Row",
        "target": {"column": "label", "positive": "yes"},
        "transform": f"{steps}:Features",
        "partitions": 3,
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("\n".join(["name,age,label", *people()]))
    return path


@pytest.fixture
def data(source: Path, owner: Owner) -> Json:
    steps = owner(STEPS)
    return {
        "source": {"uri": str(source), "format": "csv"},
        "schema": f"{steps}:Row",
        "target": {"column": "label", "positive": "yes"},
        "transform": f"{steps}:Features",
        "partitions": 3,
    }


def test_from_file_to_data_set(objects: ObjectStore, data: Json) -> None:
    made = Jobs(objects, data).prepare()
    rows = made.result["rows"]
    assert rows["train"] + rows["test"] == 400
    assert 50 < rows["test"] < 110
    assert rows["quarantined"] == 0
    assert made.result["classes"] == ["no", "yes"]
    assert made.result["schema"] == [
        {"name": "name", "dtype": "String"},
        {"name": "age", "dtype": "Int64"},
        {"name": "label", "dtype": "String"},
    ]
    train, features = made.table("splits", "train"), made.table("features")
    assert features.columns == ["age", "length", "__label"]
    assert set(features.dtypes) == {pl.Float32}
    assert features["__label"].to_list() == [float(label == "yes") for label in train["label"]]
    assert features["age"].to_list() == pytest.approx((train["age"] / train["age"].max()).to_list())
    assert made.table("quarantine") is None


def test_the_state_knows_the_training_split_only(objects: ObjectStore, data: Json) -> None:
    made = Jobs(objects, data).prepare()
    from perdure.predictor import load_state

    state = load_state(objects.get(ArtifactRef.from_json(made.manifest["transform"]["state"])))
    assert state == {"oldest": made.table("splits", "train")["age"].max(), "rows": made.result["rows"]["train"]}


def test_twice_the_same_objects_and_one_delta_version(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, data)
    first, second = jobs.prepare(), jobs.prepare()
    assert first.result == second.result
    assert first.inputs == second.inputs
    table = DeltaTable(first.result["delta"]["uri"], storage_options=objects.storage_options())
    assert table.version() == first.result["delta"]["version"] == 0
    valid = pl.from_arrow(table.to_pyarrow_table())
    assert isinstance(valid, pl.DataFrame)
    for split in ("train", "test"):
        ours = made_rows(valid.filter(pl.col("__split") == split).drop("__split"))
        assert ours == made_rows(first.table("splits", split))


def made_rows(frame: pl.DataFrame) -> list[Any]:
    return sorted(frame.rows(), key=str)


def test_another_source_is_another_version_and_the_old_one_stays_known(objects: ObjectStore, data: Json, source: Path) -> None:
    jobs = Jobs(objects, data)
    first = jobs.prepare()
    before = source.read_text()
    source.write_text(before + "\nperson new,5,yes\n")
    second = jobs.prepare()
    assert second.result["delta"]["version"] == 1
    assert second.result["manifest"] != first.result["manifest"]
    assert jobs.run(preparation.commit, first.inputs)["delta"]["version"] == 0  # late, and found again
    assert DeltaTable(first.result["delta"]["uri"], storage_options=objects.storage_options()).version() == 1
    one, other = first.table("splits", "test"), second.table("splits", "test")
    assert set(one.rows()) <= set(other.rows())  # membership survives new rows


@pytest.mark.parametrize("there", [True, False], ids=["table", "no table yet"])
@pytest.mark.parametrize("identity", ["ours", "theirs"])
def test_two_commits_at_once(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, there: bool, identity: str) -> None:
    """Another one commits between our look and our write: the same data set, or another."""
    uri, frame = f"s3://{objects.bucket}/delta/race-{np.random.default_rng().integers(1 << 60)}", pl.DataFrame({"a": [1, 2]})

    def overwrite(identity: str) -> int:
        return delta.overwrite(objects, uri, lambda: frame.to_arrow().to_reader(), identity=identity, memory=1 << 20)

    if there:
        assert overwrite("before") == 0
    write, calls = delta.write_deltalake, []

    def raced(*args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            assert overwrite(identity) == int(there)
        write(*args, **options)

    monkeypatch.setattr(delta, "write_deltalake", raced)
    own = int(there) + (identity != "ours")
    assert overwrite("ours") == own
    table = DeltaTable(uri, storage_options=objects.storage_options())
    assert table.version() == own
    assert table.to_pyarrow_table().num_rows == 2


def test_rows_do_not_depend_on_the_partitions(objects: ObjectStore, data: Json) -> None:
    made = [Jobs(objects, {**data, "partitions": partitions}).prepare() for partitions in (1, 5)]
    assert [len(each.inputs["partitions"]) for each in made] == [1, 5]
    for part in (("splits", "train"), ("splits", "test"), ("features",)):
        assert made[0].table(*part).equals(made[1].table(*part))
    profiles = [objects.get_json(ArtifactRef.from_json(each.result["profile"]))["splits"] for each in made]
    assert profiles[0]["train"]["age"]["numbers"]["quantiles"] == profiles[1]["train"]["age"]["numbers"]["quantiles"]


def test_the_same_set_from_the_manifest_alone(objects: ObjectStore, data: Json, source: Path, owner: Owner) -> None:
    name = data["schema"].partition(":")[0]
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(f"{name}.py", STEPS)
    jobs = Jobs(objects, data, code=objects.put("code", "code.zip", body.getvalue()))
    made = jobs.prepare()
    again = Jobs(objects, data).run(preparation.rebuild, {"manifest": made.result["manifest"]})
    assert again == {"same": True, "manifest": made.result["manifest"], "differences": []}
    source.write_text(source.read_text().replace("person 7,", "person seven,"))
    changed = Jobs(objects, data).run(preparation.rebuild, {"manifest": made.result["manifest"]})
    assert not changed["same"]
    assert "source" in changed["differences"]
    assert "code" not in changed["differences"]


def test_from_s3(objects: ObjectStore, data: Json, source: Path) -> None:
    local = Jobs(objects, data).prepare()
    lines = source.read_text().split("\n")
    folder = f"sources/{np.random.default_rng().integers(1 << 60)}"
    objects.write(f"{folder}/a.csv", "\n".join(lines[:150]).encode())
    objects.write(f"{folder}/b.csv", "\n".join([lines[0], *lines[150:]]).encode())
    for uri in (f"s3://{objects.bucket}/{folder}/", f"s3://{objects.bucket}/{folder}/*.csv"):
        remote = Jobs(objects, {**data, "source": {**data["source"], "uri": uri}}).prepare()
        for split in ("train", "test"):
            assert made_rows(remote.table("splits", split)) == made_rows(local.table("splits", split))


def test_repeated_rows_count_once(objects: ObjectStore, data: Json, source: Path) -> None:
    rows = people(60)
    source.write_text("\n".join(["name,age,label", *rows, *rows[:25], rows[0], "person 1,1,maybe"]))
    made = Jobs(objects, {**data, "deduplicate": True, "partitions": 4}).prepare()
    assert sum(part["duplicates"] for part in made.inputs["partitions"]) == 26
    assert made.result["rows"]["train"] + made.result["rows"]["test"] == 60
    assert made.result["rows"]["quarantined"] == 1
    one = Jobs(objects, {**data, "deduplicate": True, "partitions": 1}).prepare()
    assert one.table("splits", "train").equals(made.table("splits", "train"))
    assert Jobs(objects, {**data, "deduplicate": True}).prepare().inputs["plan"]["duplicates"] is not None


def test_without_repeated_rows(objects: ObjectStore, data: Json) -> None:
    made = Jobs(objects, {**data, "deduplicate": True}).prepare()
    assert made.inputs["plan"]["duplicates"] is None
    assert made.result["rows"]["train"] + made.result["rows"]["test"] == 400


def test_by_time_the_latest_rows_are_the_test(objects: ObjectStore, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    days = random.permutation(200)
    start = np.datetime64("2026-01-01T00:00:00")
    rows = [f"{start + np.timedelta64(int(day), 'D')},{day % 7},{random.integers(2)}" for day in days]
    (tmp_path / "t.csv").write_text("\n".join(["at,weekday,label", *rows, ",3,1"]))
    data = {
        "source": {"uri": str(tmp_path / "t.csv"), "format": "csv"},
        "target": "label",
        "split": {"by": "time", "column": "at", "test": 0.25},
    }
    made = Jobs(objects, data).prepare()
    assert made.result["rows"] == {"train": 150, "test": 50, "quarantined": 1}
    assert made.inputs["plan"]["cut"] == "2026-05-31T00:00:00"
    assert made.table("splits", "train")["at"].max() < made.table("splits", "test")["at"].min()
    assert made.reasons() == ["at: is missing, but the split is by time"]
    assert made.manifest["features"]["names"] == ["weekday"]  # neither the target nor the time


def test_rows_after_the_cutoff_are_left_out(objects: ObjectStore, tmp_path: Path) -> None:
    start = np.datetime64("2026-01-01T00:00:00")
    rows = [f"{start + np.timedelta64(day, 'D')},{day % 7},{day % 2}" for day in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["at,weekday,label", *rows, ",3,1"]))
    data = {
        "source": {"uri": str(tmp_path / "t.csv"), "format": "csv"},
        "target": "label",
        "split": {"by": "time", "column": "at", "test": 0.25},
        "until": "2026-04-10T02:00:00+02:00",  # the hundredth day, in UTC
    }
    made = Jobs(objects, data).prepare()
    assert made.result["rows"] == {"train": 75, "test": 25, "quarantined": 1}
    assert str(made.table("splits", "test")["at"].max()) == "2026-04-10 00:00:00"


def test_by_group(objects: ObjectStore, data: Json, source: Path) -> None:
    made = Jobs(objects, {**data, "split": {"by": "group", "column": "age"}}).prepare()
    ages = [set(made.table("splits", split)["age"]) for split in ("train", "test")]
    assert not ages[0] & ages[1]


def test_a_regression_from_parquet_without_transform(objects: ObjectStore, tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": range(300), "ok": [True, False, None] * 100, "y": [float(i) for i in range(300)]})
    frame = frame.with_columns(y=pl.when(pl.col("x") < 5).then(float("nan")).when(pl.col("x") == 5).then(float("inf")).otherwise("y"))
    frame.write_parquet(tmp_path / "r.parquet", row_group_size=100)
    data = {
        "source": {"uri": str(tmp_path / "r.parquet"), "format": "parquet"},
        "target": {"column": "y", "task": "regression"},
        "partitions": 2,
    }
    made = Jobs(objects, data).prepare()
    assert made.result["classes"] == []
    assert made.reasons() == ["y: is missing"] * 6
    features = made.table("features")
    assert features.columns == ["x", "ok", "__label"]
    assert features["__label"].to_list() == made.table("splits", "train")["y"].to_list()
    assert features["ok"].head(6).to_list() == [None if v is None else float(v) for v in made.table("splits", "train")["ok"].head(6)]


def test_split_columns_of_the_manifest_say_what_the_rows_are(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, {**data, "split": {"test": 0.3, "seed": 11}})
    made = jobs.prepare()
    for split in ("train", "test"):
        rows = made.table("splits", split)
        assert membership(rows, jobs.spec.data.split, "label", None).to_list() == [split] * rows.height
    assert canonical(made.manifest) == objects.get(ArtifactRef.from_json(made.result["manifest"]))
    assert made.manifest["source"]["files"][0]["bytes"] == made.manifest["source"]["bytes"]


def test_progress_is_told(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, data)
    plan = jobs.run(preparation.plan, {})
    rows = jobs.run(preparation.partition, {"plan": plan}, 1)["rows"]
    assert jobs.progress == {"phase": "partition", "index": 1, "rows": rows}
