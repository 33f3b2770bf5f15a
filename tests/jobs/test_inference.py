"""The jobs of a batch inference, on a real S3: what is scored, what is set aside, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from perdure import predictor
from perdure.adapters.s3 import ObjectStore
from perdure.errors import DataRejected, InvalidInput, PerdureError, SchemaBroken, SourceChanged
from perdure.jobs import inference
from perdure.messages.common import ArtifactRef, Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs, Prepared
from tests.jobs.test_selection import STEPS, trained

ROWS = pl.DataFrame(
    {"id": [f"0{i}" for i in range(60)], "x": [i / 10 - 3 for i in range(60)], "y": [float(i % 7) for i in range(60)], "note": ["n"] * 60}
)


@pytest.fixture
def prepared(objects: ObjectStore, owner: Owner, tmp_path: Path) -> Prepared:
    good = pl.when(pl.col("x") > 0).then(pl.lit("good")).otherwise(pl.lit("bad"))
    pl.concat([ROWS.drop("id").with_columns(good.alias("label"))] * 5).write_csv(tmp_path / "learned.csv")
    source = {"uri": str(tmp_path / "learned.csv"), "format": "csv"}
    target = {"column": "label", "positive": "good"}
    return Jobs(objects, {"source": source, "target": target, "transform": f"{owner(STEPS)}:apply"}).prepare()


def plan(prepared: Prepared, model: Json, source: Json, **asked: Any) -> Json:
    return prepared.jobs.run(inference.plan, {"predictor": model, "source": source, "keep": [], "shards": 3, **asked})


def scored(prepared: Prepared, model: Json, planned: Json) -> list[Json]:
    known = {name: planned[name] for name in ("reader", "fields", "keep", "personal")}
    shards = enumerate(planned["partitions"])
    return [prepared.jobs.run(inference.score, {**known, "predictor": model, "shard": shard}, index) for index, shard in shards]


def committed(prepared: Prepared, model: Json, planned: Json, shards: list[Json], quarantined: float = 0.1) -> Json:
    about = {"plan": planned, "shards": shards, "predictor": model, "model": {"name": "m", "version": 1}}
    to = f"{prepared.jobs.spec.name}-scores"
    result = prepared.jobs.run(inference.commit, {**about, "to": to, "quarantined": quarantined})
    manifest: Json = prepared.jobs.objects.get_json(ArtifactRef.from_json(result["manifest"]))
    return manifest


def table(objects: ObjectStore, part: Json) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(objects.get(ArtifactRef.from_json(file))) for file in part["files"])


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_what_fits_is_scored_with_what_is_kept(prepared: Prepared, objects: ObjectStore, tmp_path: Path, form: str) -> None:
    model, path = trained(prepared), tmp_path / f"rows.{form}"
    if form == "parquet":
        ROWS.write_parquet(path, row_group_size=20)
    else:
        ROWS.write_csv(path, separator="\t" if form == "tsv" else ",")
    planned = plan(prepared, model, {"uri": str(path), "format": form}, keep=["id", "x"])
    shards = scored(prepared, model, planned)
    manifest = committed(prepared, model, planned, shards)
    expected = predictor.load(objects.download(ArtifactRef.from_json(model), tmp_path / "model.zip")).predict(ROWS)
    made = table(objects, manifest["scores"])
    assert len(shards) == 3
    assert made.equals(pl.concat([ROWS.select("id", "x"), expected], how="horizontal")), "codes keep their zeros"
    assert manifest["quarantine"] == {"rows": 0, "files": []}
    assert manifest["schema"][0] == {"name": "id", "dtype": "String"}
    assert scored(prepared, model, planned) == shards, "the same bytes again"


def test_a_data_set_of_ours_is_scored_by_split(prepared: Prepared, objects: ObjectStore) -> None:
    model, manifest = trained(prepared), prepared.result["manifest"]
    test = plan(prepared, model, {"manifest": manifest, "split": "test"})
    both = plan(prepared, model, {"manifest": manifest, "split": None})
    rows = [sum(shard["rows"] for shard in scored(prepared, model, planned)) for planned in (test, both)]
    assert rows == [prepared.result["rows"]["test"], prepared.result["rows"]["test"] + prepared.result["rows"]["train"]]
    with pytest.raises(InvalidInput, match=r"no 'pool'(?s:.*)test, train"):
        plan(prepared, model, {"manifest": manifest, "split": "pool"})


def test_rows_that_do_not_fit_are_set_aside_and_too_many_are_refused(prepared: Prepared, objects: ObjectStore, tmp_path: Path) -> None:
    lines = ["id,x,y,note", "1,0.5,1,n", "2,much,1,n", "3,0.25,n", "4,,2,n", "5,1e999,2,n"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    model = trained(prepared)
    planned = plan(prepared, model, {"uri": str(tmp_path / "rows.csv"), "format": "csv"}, keep=["id"], shards=1)
    [shard] = shards = scored(prepared, model, planned)
    assert (shard["rows"], shard["quarantined"]) == (2, 3)
    assert [(each["column"], each["check"]) for each in shard["failures"]] == [
        ("x", "is no Float64"),
        ("x", "is infinite"),
        ("", "3 fields instead of 4"),
    ]
    manifest = committed(prepared, model, planned, shards, quarantined=0.6)
    assert table(objects, manifest["scores"])["id"].to_list() == ["1", "4"]
    assert table(objects, manifest["quarantine"])["id"].to_list() == ["2", "5", None]
    with pytest.raises(DataRejected, match="3 of 5 rows"):
        committed(prepared, model, planned, shards, quarantined=0.5)
    (tmp_path / "none.csv").write_text("id,x,y,note\n1,much,1,n\n")
    planned = plan(prepared, model, {"uri": str(tmp_path / "none.csv"), "format": "csv"})
    with pytest.raises(DataRejected, match="no row of 1 could be scored"):
        committed(prepared, model, planned, scored(prepared, model, planned), quarantined=1)


@pytest.mark.parametrize(
    ("rows", "keep", "error", "said"),
    [
        ("id,x\n1,2\n", [], SchemaBroken, "lacks the columns y, note"),
        ("id,x,y,note\n1,2,3,n\n", ["ID"], InvalidInput, "'ID' is no column"),
        ("id,x,y,note,prediction\n1,2,3,n,4\n", ["prediction"], InvalidInput, "a column that is made"),
    ],
)
def test_what_cannot_be_is_told_by_the_plan(
    prepared: Prepared, tmp_path: Path, rows: str, keep: list[str], error: type[PerdureError], said: str
) -> None:
    (tmp_path / "rows.csv").write_text(rows)
    with pytest.raises(error, match=said):
        plan(prepared, trained(prepared), {"uri": str(tmp_path / "rows.csv"), "format": "csv"}, keep=keep)


def test_a_source_that_changes_under_way_is_not_scored(prepared: Prepared, tmp_path: Path) -> None:
    ROWS.write_csv(tmp_path / "rows.csv")
    model = trained(prepared)
    planned = plan(prepared, model, {"uri": str(tmp_path / "rows.csv"), "format": "csv"})
    (tmp_path / "rows.csv").write_text((tmp_path / "rows.csv").read_text().replace("0.5", "0.7"))
    with pytest.raises(SourceChanged):
        scored(prepared, model, planned)
