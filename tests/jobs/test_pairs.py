"""Pairs of answers on a real S3: drawn from rows on which two models differ, told without whose is whose and without what is personal."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost

from perdure.adapters.s3 import ObjectStore
from perdure.errors import InvalidInput
from perdure.jobs import preparation
from perdure.jobs.pairs import LONGEST_TEXT, _places
from perdure.keys import digest
from perdure.labeling.manifest import task
from perdure.labeling.spec import load as load_campaign
from perdure.messages.common import ArtifactRef, Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs, Prepared
from tests.jobs.test_evaluation import evaluated, trained, trained_file

SCHEMA = """
import pandera.polars as pa

class Row(pa.DataFrameModel):
    x: float
    y: float
    name: str = pa.Field(metadata={"pii": True})
    note: str = pa.Field(nullable=True)
    label: str
"""

STEPS = "def apply(frame): return frame.select('x', 'y')"


@pytest.fixture
def data(tmp_path: Path, owner: Owner) -> Json:
    random = np.random.default_rng(4)
    x, y = random.normal(size=1_500), random.normal(size=1_500)
    good = pl.Series(x + y / 2 + random.normal(size=1_500) * 0.3 > 0)
    frame = pl.DataFrame({"x": x, "y": y, "name": [f"person {n}" for n in range(1_500)]})
    notes = pl.Series([None if n % 3 else "long " * LONGEST_TEXT if n % 2 else "short" for n in range(1_500)], dtype=pl.String)
    labels = pl.select(pl.when(good).then(pl.lit("good")).otherwise(pl.lit("bad"))).to_series()
    frame.with_columns(note=notes, label=labels).write_parquet(tmp_path / "rows.parquet")
    return {
        "source": {"uri": str(tmp_path / "rows.parquet"), "format": "parquet"},
        "schema": f"{owner(SCHEMA)}:Row",
        "target": {"column": "label", "positive": "good"},
        "transform": f"{owner(STEPS)}:apply",
    }


@pytest.fixture
def prepared(objects: ObjectStore, data: Json) -> Prepared:
    return Jobs(objects, data).prepare()


def asked(prepared: Prepared, challenger: Json, champion: Json, **human: Any) -> Json:
    """The evaluation's figures where people are asked."""
    other = Jobs(prepared.jobs.objects, prepared.jobs.spec.as_json()["data"], evaluate={"human": human})
    figures = evaluated(Prepared(other, prepared.inputs, prepared.result), challenger, champion)
    return figures


def tasks(prepared: Prepared, pairs: Json) -> list[Json]:
    return [json.loads(line) for line in prepared.jobs.objects.get(ArtifactRef.from_json(pairs["tasks"])).splitlines()]


def sides(prepared: Prepared, pairs: Json) -> dict[str, Json]:
    found: dict[str, Json] = prepared.jobs.objects.get_json(ArtifactRef.from_json(pairs["sides"]))
    return found


def test_rows_of_other_classes_come_first_and_by_lot(prepared: Prepared) -> None:
    strong, weak = trained(prepared, 30), trained(prepared, 1)
    figures = asked(prepared, strong, weak, sample=12)
    pairs = figures["pairs"]
    scores = pl.read_parquet(prepared.jobs.objects.get(ArtifactRef.from_json(figures["scores"])))
    split = set(scores.filter(pl.col("prediction") != pl.col("champion_prediction"))["row"])
    assert 12 < len(split) < pairs["differ"] < figures["rows"]
    few = {each["row"] for each in sides(prepared, pairs).values()}
    assert len(few) == pairs["asked"] == 12
    assert few < split
    assert few != set(sorted(split)[:12])

    more = asked(prepared, strong, weak, sample=len(split) + 10)["pairs"]
    rows = {each["row"] for each in sides(prepared, more).values()}
    assert split < rows
    gaps = (scores["p_good"] - scores["champion_p_good"]).abs()
    alike = [row for row in scores["row"] if row not in split]
    assert gaps.gather(sorted(rows - split)).sort().to_list() == pytest.approx(gaps.gather(alike).sort().tail(10).to_list())


def test_the_same_evaluation_asks_the_same(prepared: Prepared) -> None:
    strong, weak = trained(prepared, 20), trained(prepared, 1)
    first = asked(prepared, strong, weak, sample=10)["pairs"]
    assert asked(prepared, strong, weak, sample=10)["pairs"] == first
    other = asked(prepared, trained(prepared, 21), weak, sample=10)["pairs"]
    assert {each["row"] for each in sides(prepared, other).values()} != {each["row"] for each in sides(prepared, first).values()}


def test_nobody_sees_whose_answer_is_whose(prepared: Prepared) -> None:
    strong, weak = trained(prepared, 20), trained(prepared, 1)
    figures = asked(prepared, strong, weak, sample=40)
    body = prepared.jobs.objects.get(ArtifactRef.from_json(figures["pairs"]["tasks"]))
    for secret in (b"challenger", b"champion", strong["sha256"].encode(), weak["sha256"].encode()):
        assert secret not in body
    hidden = sides(prepared, figures["pairs"])
    assert Counter(side["challenger"] for side in hidden.values()) == {"left": 20, "right": 20}
    scores = pl.read_parquet(prepared.jobs.objects.get(ArtifactRef.from_json(figures["scores"])))
    test = prepared.table("splits", "test")
    for each in tasks(prepared, figures["pairs"]):
        assert set(each) == {"key", "payload"}  # no prediction, no priority
        payload, side = each["payload"], hidden[each["key"]]
        scored, row = scores.row(side["row"], named=True), test.row(side["row"], named=True)
        ours = f"{scored['prediction']} ({round(max(scored['p_bad'], scored['p_good']) * 100)} %)"
        theirs = f"{scored['champion_prediction']} ({round(max(scored['champion_p_bad'], scored['champion_p_good']) * 100)} %)"
        assert (payload["left"], payload["right"]) == ((ours, theirs) if side["challenger"] == "left" else (theirs, ours))
        assert ours != theirs
        assert set(payload) == {"x", "y", "note", "left", "right"}  # neither the name, which is personal, nor the label
        assert payload["x"] == row["x"]
        assert payload["note"] is None or len(payload["note"]) <= LONGEST_TEXT


def test_a_pair_that_is_alone_stands_on_either_side() -> None:
    """Of an odd number, the one that is left over."""
    seeds = [digest(number) for number in range(20)]
    assert {_places(seed, [7])[7] for seed in seeds} == {"left", "right"}
    for seed in seeds:
        assert sorted(Counter(_places(seed, range(5)).values()).values()) == [2, 3]
    assert len({tuple(sorted(_places(seed, range(20)).items())) for seed in seeds}) == len(seeds)


def test_the_tasks_are_a_manifest_of_their_campaign(prepared: Prepared) -> None:
    pairs = asked(prepared, trained(prepared, 20), trained(prepared, 1), sample=5)["pairs"]
    human = Jobs(prepared.jobs.objects, prepared.jobs.spec.as_json()["data"], evaluate={"human": {}}).spec.evaluate.human
    assert human is not None
    campaign = load_campaign(human.campaign("ann"))
    lines = prepared.jobs.objects.get(ArtifactRef.from_json(pairs["tasks"])).splitlines(keepends=True)
    assert [task(line, n, campaign).key for n, line in enumerate(lines, 1)] == [f"pair-{n}" for n in range(1, 6)]


def test_columns_may_be_chosen(prepared: Prepared) -> None:
    pairs = asked(prepared, trained(prepared, 20), trained(prepared, 1), sample=3, columns=["note"])["pairs"]
    assert all(set(each["payload"]) == {"note", "left", "right"} for each in tasks(prepared, pairs))


def test_models_that_say_the_same_are_not_compared(prepared: Prepared) -> None:
    model = trained(prepared, 20)
    assert asked(prepared, model, model)["pairs"] == {"asked": 0, "differ": 0, "tasks": None, "sides": None}


def test_without_a_champion_there_are_no_pairs(prepared: Prepared) -> None:
    other = Jobs(prepared.jobs.objects, prepared.jobs.spec.as_json()["data"], evaluate={"human": {}})
    assert evaluated(Prepared(other, prepared.inputs, prepared.result), trained(prepared, 2), None)["pairs"] is None
    gone = trained(prepared, 3, manifest={"transform": {"reference": "gone.steps:apply"}})
    assert asked(prepared, trained(prepared, 2), gone)["pairs"] is None


@pytest.mark.parametrize(
    ("columns", "told", "remedy"),
    [
        (["x", "name"], r"'name' is personal \(data.schema marks it with `pii`\): it is never shown", "name some of: x, y, note"),
        (["colour"], "'colour' is no column of the data", "name some of: x, y, note"),
    ],
)
def test_what_may_not_be_shown_is_told_before_the_training(
    objects: ObjectStore, data: Json, columns: list[str], told: str, remedy: str
) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        Jobs(objects, data, evaluate={"human": {"columns": columns}}).run(preparation.plan, {})
    assert (caught.value.field, caught.value.remedy) == ("evaluate.human.columns", remedy)


def test_nothing_may_be_shown(objects: ObjectStore, data: Json, owner: Owner) -> None:
    personal = 'pa.Field(nullable=True, metadata={"pii": True})'
    schema = SCHEMA.replace("float", f"float = {personal}").replace("pa.Field(nullable=True)", personal)
    with pytest.raises(InvalidInput, match="no column of the data may be shown to people") as caught:
        Jobs(objects, {**data, "schema": f"{owner(schema)}:Row"}, evaluate={"human": {}}).run(preparation.plan, {})
    assert "leave evaluate.human out" in str(caught.value.remedy)


def test_numbers(objects: ObjectStore, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=400)
    pl.DataFrame({"left": x, "y": x * 3 + random.normal(size=400) * 0.1}).write_csv(tmp_path / "r.csv")
    data = {"source": {"uri": str(tmp_path / "r.csv"), "format": "csv"}, "target": {"column": "y", "task": "regression"}}
    prepared = Jobs(objects, data).prepare()
    features = prepared.table("features")
    matrix = xgboost.DMatrix(features[["left"]].to_numpy(), features["__label"].to_numpy())
    strong, weak = (
        trained_file(tmp_path, prepared, bytes(xgboost.train({"nthread": 1}, matrix, rounds).save_raw("ubj"))) for rounds in (30, 2)
    )
    figures = asked(prepared, strong, weak, sample=7)
    hidden = sides(prepared, figures["pairs"])
    scores = pl.read_parquet(prepared.jobs.objects.get(ArtifactRef.from_json(figures["scores"])))
    gaps = (scores["prediction"] - scores["champion_prediction"]).abs()
    chosen = gaps.gather([each["row"] for each in hidden.values()])
    assert chosen.sort().to_list() == gaps.sort().tail(7).to_list()  # the greatest; of equal ones by lot
    for each in tasks(prepared, figures["pairs"]):
        side = hidden[each["key"]]
        assert each["payload"][side["challenger"]] == f"{scores['prediction'][side['row']]:.6g}"
        assert set(each["payload"]) == {"left (column)", "left", "right"}  # a column that is called like a side
